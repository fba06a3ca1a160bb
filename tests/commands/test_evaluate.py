"""`lit-ghibli evaluate` of what has no held-out pictures of its own."""

import json
from pathlib import Path

import pytest
from helpers.styles import made_style
from hydra import compose
from PIL import Image

from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands import compare, evaluate
from lit_ghibli.commands.evaluate import _find_checkpoints
from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import UserError
from lit_ghibli.scenes.scene import render_pair

QUICK = "metrics.metrics=[ssim,l1]"
PAINTED = ["data=painted", "++data.root=photos", "++data.held_out=9", "++data.load_size=32", "++data.crop_size=32"]


@pytest.fixture(autouse=True)
def _place(composing, monkeypatch):
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(Path("styles").absolute()))
    made_style(Path("styles"))
    Path("photos").mkdir()
    for number in range(3):
        Image.fromarray(render_pair(0, number, 48)[0]).save(f"photos/{number}.png")


def call(*words):
    evaluate.evaluate.__wrapped__(compose("evaluate", [*words, QUICK]))
    return {row["pictures"]: row for row in json.loads(Path("outputs/evaluation/mine/metrics.json").read_text())}


def test_a_style_is_measured_on_given_data():
    rows = call("checkpoint=mine", *PAINTED)
    assert list(rows) == ["output", "untouched input"]
    row = rows["output"]
    sha256 = sha256_of(Path("styles/mine.safetensors"))[:16]
    assert (row["checkpoint"], row["checkpoint_sha256"], row["images"]) == ("mine", sha256, 3)
    assert row["seconds_per_picture"] > 0
    assert row["l1"] != rows["untouched input"]["l1"]
    pictures = list(Path("outputs/evaluation/mine/translated").iterdir())
    assert [open_image(picture).size for picture in pictures] == [(32, 32)] * 3
    words = ["subjects=[mine]", *PAINTED, "costs=false", "leakage=false", "out=compared", QUICK]
    compare.compare.__wrapped__(compose("compare", words))
    (_, compared) = json.loads(Path("compared/metrics.json").read_text())
    assert {key: compared[key] for key in ("ssim", "l1", "protocol")} == {
        key: row[key] for key in ("ssim", "l1", "protocol")
    }


def test_without_data_a_style_says_what_to_give():
    for word in ("mine", "painter"):
        with pytest.raises(UserError) as error:
            call(f"checkpoint={word}")
        message = str(error.value)
        assert message.startswith(f"{word} is a style, with no held-out pictures of its own: give data=painted")
        assert "\n" not in message
    with pytest.raises(UserError, match="mien: no such run or checkpoint, and no style; did you mean mine"):
        call("checkpoint=mien", *PAINTED)
    with pytest.raises(UserError, match=r"solver=euler.*no ODE to solve"):
        call("checkpoint=mine", "solver=euler", *PAINTED)


def test_what_exists_as_a_path_is_no_name():
    assert _find_checkpoints("mine") == [Path("mine")]
    Path("mine/checkpoints").mkdir(parents=True)
    Path("mine/checkpoints/last.ckpt").touch()
    assert _find_checkpoints("mine") == [Path("mine/checkpoints/last.ckpt")]


def test_data_take_the_place_of_a_runs_own():
    of_run = {"_target_": "x", "root": "/run", "eval_size": 64}
    given = compose("evaluate", ["++data.root=/other"]).data
    assert evaluate.merged(of_run, given) == {**of_run, "root": "/other"}
    whole = evaluate.merged(of_run, compose("evaluate", PAINTED).data)
    assert (whole["_target_"].rpartition(".")[2], whole["root"], whole["eval_size"]) == ("from_painted", "photos", 32)
