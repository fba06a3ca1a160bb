"""What the README and the documentation name exists: files, headings, commands, studies and choices."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose

from lit_ghibli.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("[eb]*/**/README.md"))]
CONF = ROOT / "conf"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
GROUP = re.compile(r"(?<![\w.@])(?:data/)?(\w+)=([a-z]\w*)(?![\w/.:])")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def headings(page: Path) -> set[str]:
    """Anchors as forges make them of headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def lit_ghibli_lines(page: Path) -> list[str]:
    """Lines of fenced code, and code in text, that call the program."""
    text = page.read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL))
    within = re.findall(r"`(lit-ghibli [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = re.findall(r"(?:^|srun |\()(lit-ghibli .+)$", fenced, re.MULTILINE)
    return [" ".join(re.split(r"\s{2,}#|\s#\s", line)[0].split()) for line in [*lines, *within]]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in headings(path), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page):
    for line in lit_ghibli_lines(page):
        words = line.split()[1:]
        if words[0].startswith("-") or words[0] in ("COMMAND", "help"):
            continue
        assert words[0] in COMMANDS or " ".join(words[:2]) in COMMANDS, line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_choices_and_studies_exist(page):
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"hydra", "logger"}
    for line in lit_ghibli_lines(page):
        for group, choice in GROUP.findall(line):
            if group in groups and not line.startswith("lit-ghibli sweep"):
                found = CONF / group / f"{choice}.yaml"
                assert found.is_file() or (CONF / group / choice).is_dir(), line
        for study in re.findall(r"experiments/\w+", line):
            assert (ROOT / study / "study.yaml").is_file(), line


@pytest.mark.slow
def test_words_of_trainings_compose(composing):
    lines = {line for page in PAGES for line in lit_ghibli_lines(page) if line.startswith("lit-ghibli train ")}
    assert len(lines) > 15
    for line in sorted(lines):
        words = shlex.split(line.removeprefix("lit-ghibli train").split(" && ")[0])
        if not any(
            word.startswith(("resume=", "--", "launcher=")) or word.isupper() or "NAME" in word for word in words
        ):
            swept = [word for word in words if word != "-m" and not re.search(r"=([^\[{(]*,|\w+\()", word)]
            compose("train", overrides=swept)


def test_every_page_of_the_documentation_is_in_its_index():
    linked = set(LINK.findall((ROOT / "docs/README.md").read_text(encoding="utf-8")))
    assert {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"} <= linked


def test_every_command_and_method_is_documented():
    documented = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md"))
    assert [command for command in COMMANDS if f"`{command}`" not in documented] == []
    assert [path.stem for path in CONF.glob("method/*.yaml") if f"`{path.stem}`" not in documented] == []


def test_every_study_is_in_the_index_of_studies():
    linked = LINK.findall((ROOT / "experiments/README.md").read_text(encoding="utf-8"))
    assert {named(path.parent) for path in ROOT.glob("experiments/*/README.md")} <= {
        f"experiments/{Path(target).parent}" for target in linked
    }


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1100
