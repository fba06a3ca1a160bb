"""What the README and the documentation name exists: files, headings, commands, keys, choices and studies."""

import re
import shlex
from pathlib import Path

import pytest

from lit_ghibli.commands import COMMANDS, module_of, split_options, to_overrides
from lit_ghibli.recipes import check

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("[eb]*/**/README.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NOT_HYDRA = ("completion", "wandb-trial")  # commands without a configuration


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def headings(page: Path) -> set[str]:
    """Anchors as forges make them of headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def commands_of(page: Path) -> list[str]:
    """What a page tells to type: lines of its fenced code that call the program, and code in its text, whole calls."""
    text = page.read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL))
    lines = re.findall(r"(?:^|srun |\()(lit-ghibli [^)\n]+)", fenced, re.MULTILINE)
    lines += re.findall(r"-m (lit_ghibli .+)", fenced)
    lines += re.findall(r"`(lit-ghibli [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [" ".join(re.split(r"\s#\s", line)[0].split()) for line in lines if "..." not in line]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in headings(path), target


def calls(page: Path) -> list[tuple[str, str, list[str]]]:
    """Line, command and further words of what a page tells to type, as far as it names a command."""
    found = []
    for line in commands_of(page):
        _, *words = shlex.split(line)
        if words[0] not in ("--help", "help", "COMMAND"):
            name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), "")
            found.append((line, name, words[len(name.split()) :]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page):
    assert [line for line, name, _ in calls(page) if not name] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_told_to_type_is_understood(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for _, name, words in calls(page):
        if name not in NOT_HYDRA:
            options, overrides = split_options(to_overrides(name, words))
            sweeps = "-m" in options or name == "nst"  # where several values of beta are no sweep
            check(module_of(name), [word for word in overrides if "NAME" not in word], sweeps=sweeps)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_studies_exist(page):
    for line in commands_of(page):
        for study in re.findall(r"experiments/\w+", line):
            assert (ROOT / study / "study.yaml").is_file(), line


def test_every_page_of_the_documentation_is_in_its_index():
    linked = set(LINK.findall((ROOT / "docs/README.md").read_text(encoding="utf-8")))
    assert {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"} <= linked


def test_every_command_and_method_is_documented():
    documented = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md"))
    assert [command for command in COMMANDS if f"`{command}`" not in documented] == []
    assert [path.stem for path in ROOT.glob("conf/method/*.yaml") if f"`{path.stem}`" not in documented] == []


def test_every_study_is_in_the_index_of_studies():
    linked = LINK.findall((ROOT / "experiments/README.md").read_text(encoding="utf-8"))
    studies = {path.parent.name for path in ROOT.glob("experiments/*/README.md")}
    assert studies <= {str(Path(target).parent) for target in linked}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1100
