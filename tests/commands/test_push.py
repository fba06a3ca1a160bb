"""`lit-ghibli card` and `push`, and what loads from there: with a stand-in for the hub on this machine."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.hub import TOKEN, Repository, serving
from helpers.styles import made_style
from hydra import compose
from PIL import Image
from safetensors.torch import load, save

import lit_ghibli
from lit_ghibli import checkpoints
from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands import card, evaluate, push, to_overrides
from lit_ghibli.errors import UserError
from lit_ghibli.inference import hub as hub_module
from lit_ghibli.inference.subjects import find_subjects
from lit_ghibli.recipes import build
from lit_ghibli.scenes.scene import render_pair

NOWHERE, URLS = "http://127.0.0.1:9", "/{repo_id}/resolve/{revision}/{filename}"
pytestmark = pytest.mark.usefixtures("composing")

METHOD = {
    "_target_": "lit_ghibli.methods.cyclegan.CycleGAN",
    "generator": {
        "_target_": "lit_ghibli.networks.resnet.ResnetGenerator",
        "_partial_": True,
        "base_channels": 4,
        "num_blocks": 1,
        "weights": "/home/alice/secret/start.pth",
    },
    "discriminator": {
        "_target_": "lit_ghibli.networks.patchgan.PatchDiscriminator",
        "_partial_": True,
        "base_channels": 4,
        "num_layers": 2,
    },
}
RECORD = {
    "config": {"method": METHOD, "data": {"root": "/home/alice/pictures", "crop_size": 28}},
    "links": {},
    "seed": 7,
    "attempts": [
        {
            "state": "interrupted",
            "overrides": ["method=cyclegan", "data.root=/home/alice/pictures", "run_dir=/home/alice/run"],
            "versions": {"python": "3.11", "torch": "2.6", "numpy": "2.1"},
            "code": {"version": "0.1", "revision": "0123456789abcdef", "dirty": True},
            "machine": {"device": "H200", "processes": 2},
            "data": {"train_photo": {"images": 9, "sha256": "f" * 64}},
            "seconds": 7200.0,
            "epochs": 3,
            "batches": 27,
        }
    ],
}


def made_run(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    state = build(METHOD).state_dict()
    config = {"method": METHOD, "data": RECORD["config"]["data"]}
    checkpoints.save({"state_dict": state, checkpoints.CONFIG_KEY: config}, folder / "checkpoints/last.ckpt")
    (folder / "record.json").write_text(json.dumps(RECORD))
    return folder


def call(command, *words: str):
    name = command.__name__.rpartition(".")[2]
    getattr(command, name).__wrapped__(compose(name, to_overrides(name, list(words))))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    repositories = {
        "you/gated": Repository(False, gated=True, revisions={"a" * 40: {"model.safetensors": b"x"}}),
        "you/other": Repository(False, revisions={"b" * 40: {"pytorch_model.bin": b"x"}}),
        "you/hidden": Repository(True, revisions={"c" * 40: {"model.safetensors": b"x"}}),
    }
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(repositories) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + URLS)
        yield repositories


def photo() -> Image.Image:
    return Image.fromarray(render_pair(0, 0, 40)[0])


def painted(word, **options) -> np.ndarray:
    return np.array(lit_ghibli.load(word, device="cpu", **options)(photo()))


def test_weights_that_are_not_finite_are_not_pushed(hub, tmp_path):
    path = made_run(tmp_path / "run") / "checkpoints/last.ckpt"
    checkpoint = checkpoints.load(path)
    checkpoint["state_dict"]["generator_ba.decoder.head.weight"][0, 0, 0, 0] = float("nan")
    checkpoints.save(checkpoint, path)
    with pytest.raises(UserError, match=r"last\.ckpt: generator_ba\.decoder\.head\.weight is not finite"):
        call(push, str(tmp_path / "run"), "hf://me/run", "licence=mit")
    assert "me/run" not in hub


def test_a_run_is_pushed_and_loaded_as_it_is(hub, capsys, tmp_path):
    run = made_run(tmp_path / "run")
    call(push, str(run), "hf://me/run", "licence=cc-by-4.0", "datasets=[me/pictures]")
    said = capsys.readouterr().out
    assert "you alone, and whom you let in, can see it" in said
    (files,) = hub["me/run"].revisions.values()
    assert hub["me/run"].private
    assert set(files) == {"model.safetensors", "README.md"}
    assert {name.split(".")[0] for name in load(files["model.safetensors"])} == {"generator_ab", "generator_ba"}
    head = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert (head["license"], head["pipeline_tag"], head["datasets"]) == ("cc-by-4.0", "image-to-image", ["me/pictures"])
    assert 'load("hf://me/run")' in files["README.md"].decode()
    for content in files.values():
        assert b"alice" not in content
        assert str(tmp_path).encode() not in content
    first = next(iter(hub["me/run"].revisions))
    for direction in ("AtoB", "BtoA"):
        pushed, local = (painted(word, direction=direction) for word in ("hf://me/run", run))
        np.testing.assert_array_equal(pushed, local)
    before = painted(run)
    call(push, str(made_run(tmp_path / "run", 1)), "hf://me/run")
    np.testing.assert_array_equal(painted("hf://me/run"), painted(run))
    np.testing.assert_array_equal(painted(f"hf://me/run@{first}"), before)
    assert (painted(run) != before).any()


def test_a_style_is_pushed_for_everybody_and_loaded_without_a_network(hub, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "styles"))
    path = made_style(tmp_path / "styles")
    (tmp_path / "my card.md").write_text("---\n---\nMine")
    call(push, "mine", "hf://me/style", "public=true", "card=my card.md")
    assert "everybody can see it" in capsys.readouterr().out
    (files,) = hub["me/style"].revisions.values()
    assert files == {"model.safetensors": path.read_bytes(), "README.md": b"---\n---\nMine"}
    assert not hub["me/style"].private
    np.testing.assert_array_equal(painted("hf://me/style"), painted("mine"))
    for name, value in (("ENDPOINT", NOWHERE), ("HUGGINGFACE_CO_URL_TEMPLATE", NOWHERE + URLS)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between new attempts
    np.testing.assert_array_equal(painted("hf://me/style"), painted("mine"))
    with pytest.raises(UserError, match=r"hf://me/new: not in the cache, and the hub cannot be reached: .*refused"):
        lit_ghibli.load("hf://me/new")
    with pytest.raises(UserError, match=r"hf://me/style: .*refused"):
        call(push, "mine", "hf://me/style")
    with pytest.raises(UserError, match="direction=BtoA: that is of runs"):
        lit_ghibli.load("hf://me/style", direction="BtoA")


@pytest.mark.parametrize(
    ("address", "token", "said"),
    [
        ("hf://me/none", TOKEN, "there is no such model, or it is private: log in with `hf auth login`"),
        ("hf://you/hidden", "wrong", "there is no such model, or it is private: log in"),
        ("hf://you/gated", TOKEN, "its owner has to let you in: ask for it on its page"),
        ("hf://you/other", TOKEN, "no model of this suite, for it has no model.safetensors"),
        ("hf://you/other@v2", TOKEN, "hf://you/other@v2: the model has no such revision"),
        ("hf://you/hidden", TOKEN, "model.safetensors: damaged"),
        ("hf://you", TOKEN, "a model on the hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION"),
        ("hf://you/-x-", TOKEN, "no name that a model can have"),
    ],
)
def test_what_cannot_be_loaded_is_a_line(hub, monkeypatch, address, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as error:
        lit_ghibli.load(address)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "token", "said"),
    [
        (["meadow", "hf://me/x"], "wrong", "401, Invalid username or password; log in"),
        (["meadow", "hf://you/x"], TOKEN, "403, You don't have the rights to create a model under you; log in"),
        (["meadow", "hf://me/x@v1"], TOKEN, "leave @v1 out"),
        (["painter", "hf://me/x"], TOKEN, "painter: has no weights of its own"),
        (["nowhere", "hf://me/x"], TOKEN, "nowhere: no such run or checkpoint"),
        (["hf://me/x"], TOKEN, "give a run or a style, and where to"),
        (["meadow", "hf://me/x", "card=none.md"], TOKEN, "No such file or directory: 'none.md'"),
    ],
)
def test_what_cannot_be_pushed_is_a_line(hub, monkeypatch, words, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises((UserError, OSError)) as error:
        call(push, *words)
    assert said in str(error.value)
    assert not {"me/x", "you/x"} & hub.keys()


def test_what_a_strangers_file_asks_for_is_refused(hub):
    for target, said in (("os.system", "asks for 'os.system', which is no part of a method"), (None, "no '_target_'")):
        config = {"method": {**METHOD, "discriminator": {"_target_": target, "_partial_": True, "command": "id"}}}
        if target is None:
            config = {"method": {}}
        header = {checkpoints.CONFIG_KEY: json.dumps(config)}
        hub["you/evil"] = Repository(False, revisions={f"{len(said):040x}": {}})
        hub["you/evil"].revisions[f"{len(said):040x}"]["model.safetensors"] = save({"x": torch.zeros(1)}, header)
        with pytest.raises(UserError) as error:
            lit_ghibli.load("hf://you/evil")
        assert said.replace("no '_target_'", "lacks '_target_'") in str(error.value)


def test_an_address_is_a_subject_with_a_name():
    found = find_subjects(["hf://me/run", "other:hf://me/run@v1"])
    assert list(found) == ["run", "other"]
    assert [str(hub_module.parse(path)) for path in found.values()] == ["hf://me/run", "hf://me/run@v1"]


def printed(capsys, *words: str) -> str:
    call(card, *words)
    return capsys.readouterr().out


def test_a_runs_card_says_what_its_record_and_its_checkpoint_say(tmp_path, capsys):
    run = made_run(tmp_path / "run")
    said = printed(capsys, str(run), "limits=Faces blur.", "licence=Ours, see below")
    head = yaml.safe_load(said.split("---")[1])
    assert (head["license"], head["license_name"]) == ("other", "ours-see-below")
    assert "cyclegan" in head["tags"]
    for part in (
        "# run",
        "arXiv:1703.10593",
        "ResnetGenerator: base_channels=4, num_blocks=1",
        sha256_of(run / "checkpoints/last.ckpt")[:16],
        "| Pictures | pictures; train_photo: 9, SHA-256 ffffffffffff |",
        "epochs: 3, batches: 27, hours: 2, on H200 in processes: 2, seed: 7",
        "lit-ghibli train method=cyclegan data.root=pictures\n",
        "lit_ghibli 0.1, revision 0123456789ab with changes, python 3.11, torch 2.6",
        "- It has not been measured by",
        "- Its training has not finished: it is interrupted.",
        "- It was trained on crops of 28 pixels",
        "- Faces blur.",
        "Ours, see below",
    ):
        assert part in said
    assert "alice" not in said


@pytest.mark.slow
def test_figures_are_those_of_this_very_checkpoint(tmp_path, capsys, monkeypatch):
    run = made_run(tmp_path / "run")
    Path("photos").mkdir()
    for number in range(2):
        photo().save(f"photos/{number}.png")
    words = ["data=painted", "data.root=photos", "data.held_out=9", "data.load_size=32", "data.crop_size=32"]
    call(evaluate, f"checkpoint={run}", *words, "metrics.metrics=[ssim,l1]", "device=cpu")
    capsys.readouterr()
    (row, _) = json.loads((run / "evaluation/last/metrics.json").read_text())
    said = printed(capsys, str(run))
    assert f"| output | {row['ssim']:.4g} [{row['ssim_low']:.4g}, {row['ssim_high']:.4g}] |" in said
    assert "| untouched input |" in said
    assert f"protocol `{row['protocol']}`" in said
    assert "image_size `" in said
    assert "not been measured" not in said
    assert str(tmp_path) not in said
    made_run(run, seed=1)
    said = printed(capsys, str(run))
    assert "untouched input" not in said, "of weights that are no more"
    assert "- It has not been measured by" in said


def test_a_styles_card_is_its_own(capsys, tmp_path):
    said = printed(capsys, "ink", "--out", str(tmp_path / "a card.md"))
    assert said == f"card: {tmp_path / 'a card.md'}\n"
    text = (tmp_path / "a card.md").read_text()
    assert "stylize photo.jpg painted.jpg style=ink" in text
    assert "| ssim | 0.9177 |" in text
    assert "license: apache-2.0\n" in text
    with pytest.raises(UserError, match="exists already: overwrite=true"):
        call(card, "ink", "--out", str(tmp_path / "a card.md"))


def test_without_the_extra_a_line_says_which_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"huggingface_hub is needed for .*: pip install 'lit-ghibli\[hub\]'"):
        lit_ghibli.load("hf://me/run")
