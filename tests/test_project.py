"""The files around the code say what is true of it: versions, extras, paths."""

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", text("Dockerfile"))
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, rest in lines]


def project(key: str) -> str:
    return re.search(rf'^{key} = "(.+)"$', text("pyproject.toml"), re.MULTILINE)[1]


def test_the_citation_is_of_this_version_and_licence():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # which its schema requires
    assert (citation["version"], citation["license"]) == (project("version"), project("license"))


def test_the_changelog_ends_with_what_is_not_released():
    headings = re.findall(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert project("version") in text("CHANGELOG.md")


def test_hooks_take_the_pinned_ruff():
    pinned = re.search(r"^ruff==\S+", text("constraints.txt"), re.MULTILINE)[0]
    (repository,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert [hook["additional_dependencies"] for hook in repository["hooks"]] == [[pinned]] * 2


def test_the_image_is_built_of_files_that_are_there_and_not_ignored():
    kept = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert {name for names in copied for name in names} == kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_installs_extras_that_exist_and_is_no_roots():
    words = instructions()
    (extras,) = (found[1] for _, rest in words if (found := re.search(r"\.whl\)?\[(.+?)\]", rest)))
    declared = re.search(r"optional-dependencies\]\n(.+?)\n\n", text("pyproject.toml"), re.DOTALL)[1]
    assert set(extras.split(",")) <= set(re.findall(r"^(\w+) =", declared, re.MULTILINE))
    images = [re.match(r"python:(\d+)\.(\d+)-slim", rest) for word, rest in words if word == "FROM"]
    assert all(tuple(map(int, image.groups())) >= (3, 10) for image in images)
    last = dict(words)
    assert last["USER"] not in ("root", "0")
    assert json.loads(last["ENTRYPOINT"]) == [
        re.search(r"^(\S+) = .+cli:main", text("pyproject.toml"), re.MULTILINE)[1]
    ]
    assert last["EXPOSE"] == str(yaml.safe_load(text("conf/app.yaml"))["port"])


@pytest.mark.parametrize("name", ["bug", "method"])
def test_issue_forms_have_fields_of_known_kinds_with_names_of_their_own(name):
    form = yaml.safe_load(text(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert form["name"]
    assert form["description"]
    assert {field["type"] for field in form["body"]} <= {"input", "textarea", "dropdown"}
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names)
    assert all(field["attributes"]["label"] for field in form["body"])


def test_paths_that_contributors_are_told_are_there():
    named = re.findall(r"`([\w./]+/[\w.]+)`", text("CONTRIBUTING.md"))
    assert [path for path in named if "foo" not in path and not (ROOT / path).exists()] == []
    assert all((ROOT / path.replace("foo", "cyclegan")).is_file() for path in named if "foo" in path)
