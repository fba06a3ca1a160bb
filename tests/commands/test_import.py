"""`lit-ghibli import`: what it writes is taken like a run, and says where it is from."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import published as layouts
from hydra import compose
from PIL import Image

import lit_ghibli
from lit_ghibli import checkpoints
from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands import compare, evaluate, mos_build, to_overrides
from lit_ghibli.errors import UserError
from lit_ghibli.inference.load import open_model
from lit_ghibli.methods.imported import Imported
from lit_ghibli.networks.whitebox import WhiteBoxGenerator
from lit_ghibli.published.families import FAMILIES
from lit_ghibli.recipes import build, config_dir
from lit_ghibli.scenes.scene import render_pair

import_ = importlib.import_module("lit_ghibli.commands.import").import_

pytestmark = pytest.mark.usefixtures("composing")


def call(module, name, *words):
    getattr(module, name).__wrapped__(compose(name, to_overrides(name.replace("_", " "), list(words))))


def run(*words):
    import_.__wrapped__(compose("import", to_overrides("import", list(words))))


@pytest.fixture
def weights(tmp_path) -> Path:
    """White-box weights in a file with a name that Hydra would read in another way."""
    path = tmp_path / "it's ${x}.npz"
    np.savez(path, **{name: value.numpy() for name, value in layouts.drawn(layouts.whitebox(4, 1)).items()})
    return path


@pytest.fixture
def photographs(tmp_path) -> Path:
    for folder, kind in (("photos", 0), ("anime", 1)):
        (tmp_path / folder).mkdir()
        for number in range(2):
            Image.fromarray(render_pair(0, number, 40)[kind]).save(tmp_path / folder / f"{number}.png")
    return tmp_path / "photos"


def test_an_imported_checkpoint_holds_its_provenance_and_is_loaded_like_a_run(weights, capsys):
    run(str(weights), "--out", "ours")
    said = capsys.readouterr().out
    for part in (
        "White-box Cartoonization",
        weights.name,
        "CC BY-NC-SA 4.0, non-commercial",
        "base_channels=4",
        "ours",
    ):
        assert part in said
    config = checkpoints.load("ours/checkpoints/last.ckpt")[checkpoints.CONFIG_KEY]
    assert config["provenance"] == {
        "file": weights.name,
        "sha256": sha256_of(weights),
        "family": "whitebox",
        "title": "White-box Cartoonization",
        "source": "Wang and Yu, White-box-Cartoonization",
        "licence": "CC BY-NC-SA 4.0, non-commercial",
    }
    method = build(config["method"])
    assert isinstance(method, Imported)
    assert isinstance(method.translator(), WhiteBoxGenerator)
    photo = Image.fromarray(render_pair(0, 0, 45)[0])
    assert lit_ghibli.load("ours", device="cpu")(photo).size == (45, 45)
    model = open_model("ours")
    assert model.data is None
    large = torch.rand(1, 3, 160, 136) * 2 - 1
    whole, tiled = model.translator(large), lit_ghibli.load("ours", device="cpu", tile=128)(large)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_every_family_is_documented_and_named_where_it_is_chosen():
    names = {family.name for family in FAMILIES}
    assert names <= set(re.findall(r"\b\w+\b", Path(config_dir(), "import.yaml").read_text()))
    page = (Path(__file__).parents[2] / "docs/importing.md").read_text()
    assert names == set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))


def test_a_checkpoint_is_replaced_only_if_that_is_asked_for(weights):
    run(str(weights), "out=ours")
    before = Path("ours/checkpoints/last.ckpt").read_bytes()
    with pytest.raises(UserError, match="exists already: choose another folder with out=, or add overwrite=true"):
        run(str(weights), "out=ours")
    run(str(weights), "out=ours", "overwrite=true", "family=whitebox", "generator.num_blocks=1")
    assert Path("ours/checkpoints/last.ckpt").read_bytes() == before


def test_what_cannot_be_imported_writes_nothing(weights, tmp_path):
    for words, message in (
        ([str(weights), "family=pix2pix"], "no weights of pix2pix, for it lacks .* of the family whitebox"),
        (["nowhere.pth"], "nowhere.pth: no such file"),
        ([str(weights), "generator.nope=1"], "unexpected keyword argument 'nope'"),
    ):
        with pytest.raises(UserError, match=message):
            run(*words, "out=ours")
    assert not Path("ours").exists()
    run(str(weights), "out=ours")
    with pytest.raises(UserError, match="ours: a checkpoint of this suite already: load, stylize and"):
        run("ours", "out=again")


def test_it_is_compared_with_its_licence_and_measured_and_rated(weights, photographs, capsys):
    run(str(weights), "out=ours")
    pictures = [f"photos={photographs}", f"targets={photographs.with_name('anime')}"]
    quick = ["metrics.metrics=[ssim,l1]", "costs=false", "device=cpu"]
    call(compare, "compare", "cartoon:ours", *pictures, *quick, "out=page")
    said = capsys.readouterr().out
    licence = (
        f"cartoon: White-box Cartoonization, from Wang and Yu, White-box-Cartoonization ({weights.name}); licence: "
    )
    licence += "CC BY-NC-SA 4.0, non-commercial."
    assert licence in said
    page = Path("page/compare.html").read_text()
    assert "non-commercial." in page
    assert "1 imported network, measured by the same metrics" in page
    rows = json.loads(Path("page/metrics.json").read_text())
    assert [row["name"] for row in rows] == ["untouched input", "cartoon"]

    with pytest.raises(UserError, match=r"last\.ckpt holds imported weights, with no held-out pictures"):
        call(evaluate, "evaluate", "checkpoint=ours", "metrics.metrics=[ssim,l1]")
    with pytest.raises(UserError, match="nor imported weights say which photographs are held out"):
        call(compare, "compare", "ours", *quick)

    ratings = {"inputs": photographs, "methods": "[cartoon:ours]", "out": "study", "sets": 2}
    call(mos_build, "mos_build", *(f"{key}={value}" for key, value in ratings.items()))
    assert Path("study/rate.html").is_file()
