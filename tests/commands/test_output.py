"""Where commands write is looked at before their work."""

import errno
import importlib
import os
import tempfile
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import OmegaConf
from PIL import Image

import lit_ghibli
from lit_ghibli.commands import COMMANDS, module_of
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import config_dir
from lit_ghibli.studies.ledger import Ledger

PHOTO = "photos/a.png"
PAINTED = ["data=painted", "++data.root=photos", "++data.held_out=1", "++data.load_size=32", "++data.crop_size=32"]
DATA = ["data.root=data", "data.load_size=32", "data.crop_size=32"]
# Of each command, as little as it takes to be asked for an output, and nothing that it could do its work with.
WORDS = {
    "estimate": [],
    "stylize": [f"inputs=[{PHOTO}]"],
    "style": ["paintings=photos", "name=own"],
    "import": ["file=none.pth", "family=none"],
    "export": ["model=meadow"],
    "card": ["model=meadow"],
    "nst": [f"inputs=[{PHOTO},{PHOTO}]"],
    "evaluate": ["checkpoint=meadow", *PAINTED],
    "compare": ["subjects=[none]"],
    "sweep": [f"study={Path(__file__).parents[2] / 'experiments' / 'demo'}"],
    "profile": ["checkpoints=[none]"],
    "mos build": ["inputs=none", "methods=[none:none]"],
    "mos score": ["key=none.json"],
    "pseudo-pair": ["teacher=none", "photos=none"],
    "scenes": [],
    "data fetch": ["name=maps"],
    "data check": DATA,
}


@pytest.fixture(autouse=True)
def _place(composing):
    for folder in ("photos", "data/trainA", "data/testA"):
        Path(folder).mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(PHOTO)
    Path("file").touch()


def call(name, *words):
    module = importlib.import_module(f"lit_ghibli.commands.{module_of(name)}")
    function = getattr(module, "import_" if name == "import" else module_of(name))
    getattr(function, "__wrapped__", function)(compose(module_of(name), list(words)))


def test_these_are_all_commands_that_take_an_output():
    files = {name: Path(config_dir(), f"{module_of(name)}.yaml") for name in COMMANDS}
    keys = {name: OmegaConf.load(path).keys() for name, path in files.items() if path.is_file()}
    assert {name for name, known in keys.items() if "out" in known} == set(WORDS)


@pytest.mark.parametrize("name", WORDS)
def test_an_output_that_takes_nothing_is_refused_before_the_work(name, capsys):
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError) as caught:
        call(name, *WORDS[name], "out=file/below")
    assert str(caught.value) == "file is a file: choose a folder with --out"
    assert not capsys.readouterr().out
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(("name", "out"), [("evaluate", "photos/new"), ("data check", "data/trainA")])
def test_pictures_are_not_written_among_those_that_are_read(name, out):
    with pytest.raises(UserError, match=f"{out} is in .*, whose pictures are data"):
        call(name, *WORDS[name], f"out={out}")
    assert not Path("photos/new").exists()


def test_what_is_written_beside_the_data_or_through_a_link(tmp_path):
    reads = [Path("data/trainA"), Path("data/testA")]
    assert output_folder("data/found", reads) == Path("data/found")
    assert output_folder("data", reads) == Path("data")
    assert output_folder("data/trainA_found", reads)
    Path("link").symlink_to("data")
    with pytest.raises(UserError, match="link/trainA/x is in data/trainA"):
        output_folder("link/trainA/x", reads)


def refusing(number):
    def refuse(**options):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EROFS, "data/new cannot be made in data: read-only file system; choose another folder with --out"),
        (errno.EACCES, "data/new cannot be made in data: permission denied; choose another folder with --out"),
    ],
)
def test_a_folder_that_takes_no_files_is_named(monkeypatch, number, message):
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(number))
    with pytest.raises(UserError) as caught:
        output_folder("data/new")
    assert str(caught.value) == message
    with pytest.raises(UserError, match="nothing can be written in data: "):
        output_folder("data")


def test_how_far_a_study_is_is_said_where_nothing_can_be_written(monkeypatch, capsys):
    with Ledger(Path("there")):
        pass
    Path("there/ledger.json").write_text('{"cells": {}, "forecasts": {}}')
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(errno.EROFS))
    call("sweep", *WORDS["sweep"], "out=there", "status=true")
    assert capsys.readouterr().out.endswith("nobody sweeps here now\n0 of 0 done\n")


def test_a_run_is_no_part_of_its_own_data():
    small = ["method.generator.base_channels=4", "method.generator.num_blocks=1", "trainer=cpu"]
    words = ["data=unpaired", *DATA, *small, "run_dir=data/trainA/run"]
    with pytest.raises(UserError, match=r"data/trainA/run is in data/trainA, whose .* another with --out"):
        lit_ghibli.train(*words)
    assert not list(Path("data/trainA").glob("**/checkpoints")), "nothing was trained"
