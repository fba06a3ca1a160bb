"""The dry run of `experiments/published`: its commands are understood, and do with small weights what they say."""

import json
import runpy
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from helpers import published as layouts
from hydra import compose
from PIL import Image

from lit_ghibli.commands import evaluate, module_of, split_options, to_overrides
from lit_ghibli.published.families import FAMILIES
from lit_ghibli.recipes import check, config_dir
from lit_ghibli.scenes.scene import render_pair

FOLDER = Path(__file__).parents[1] / "experiments/published"
SCRIPT = runpy.run_path(str(FOLDER / "reproduce.py"))
FIGURES = yaml.safe_load((FOLDER / "figures.yaml").read_text())
SMALL = {
    "cyclegan": lambda: layouts.cyclegan(4, 1),
    "cut": lambda: layouts.cut(4, 1),
    "fastcut": lambda: layouts.cut(4, 1),
    "pix2pix": lambda: layouts.pix2pix(4, 5),
}


def commands(name: str) -> list[tuple[str, list[str]]]:
    lines = SCRIPT["commands"](name, FIGURES[name])
    return [(" ".join(words[:2]), words[2:]) if words[0] == "data" else (words[0], words[1:]) for words in lines]


@pytest.mark.parametrize("name", FIGURES)
def test_every_command_is_understood(name):
    for command, words in commands(name):
        _, overrides = split_options(to_overrides(command, words))
        check(module_of(command), overrides)


def test_data_sets_and_families_are_there():
    known = yaml.safe_load(Path(config_dir(), "data_fetch.yaml").read_text())["datasets"]
    families = {family.name for family in FAMILIES}
    for figure in FIGURES.values():
        assert figure["data"] in known
        assert figure["import"][0].removeprefix("family=") in families
        assert (figure["fid"] is None) == ("none" in figure["source"])


def test_the_table_of_the_readme_is_the_files():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, figure in FIGURES.items():
        assert f"| `{name}` | {figure['fid'] or '-'} |" in page
        for address in figure["weights"].values():
            assert address.split(": ")[0].rpartition("/")[2] in page
    assert "Not yet run" in page


def test_a_dry_run_prints_what_would_be_typed(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    SCRIPT["main"](["--dry-run", "cut_horse2zebra"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("# cut_horse2zebra: weights/horse2zebra_cut.pth is missing: http://")
    assert [line.split()[1] for line in lines[1:4]] == ["data", "import", "evaluate"]
    assert "| cut_horse2zebra | 45.5 | - | - | - |" in lines[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.usefixtures("composing")
def test_small_weights_are_imported_and_measured(name, capsys):
    _, (_, import_words), (_, evaluate_words) = commands(name)
    family = import_words[1].removeprefix("family=")
    Path("weights").mkdir()
    torch.save(layouts.drawn(SMALL[family]()), import_words[0])
    root, paired = Path("datasets", FIGURES[name]["data"]), "data=side_by_side" in evaluate_words
    for folder in ("train", "val", "test") if paired else ("trainA", "trainB", "testA", "testB"):
        (root / folder).mkdir(parents=True)
        for number in range(2):
            sides = [Image.fromarray(side) for side in render_pair(0, number + 2 * len(folder), 40)]
            whole = Image.new("RGB", (80, 40))
            for place, side in enumerate(sides):
                whole.paste(side, (40 * place, 0))
            (whole if paired else sides[folder.endswith("B")]).save(root / folder / f"{folder}{number}.png")
    import_ = import_module("lit_ghibli.commands.import").import_
    import_.__wrapped__(compose("import", split_options(to_overrides("import", import_words))[1]))
    small = ["data.load_size=32", "data.crop_size=32", "metrics.features=random", "device=cpu"]
    evaluate.evaluate.__wrapped__(compose("evaluate", to_overrides("evaluate", [*evaluate_words, *small])))
    (row, _) = json.loads(SCRIPT["measured"](name).read_text())
    assert row["images"] == row["n_fake"] == 2
    assert any(key.startswith(("fid", "frechet")) for key in row)
