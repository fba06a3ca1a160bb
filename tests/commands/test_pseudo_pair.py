"""`lit-ghibli pseudo-pair`, as a real process and without."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.styles import made_style
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from lit_ghibli import checkpoints
from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands import pseudo_pair as entry
from lit_ghibli.data.image_files import open_image
from lit_ghibli.inference.load import load_translator, open_model
from lit_ghibli.recipes import config_dir
from lit_ghibli.scenes.scene import render_pair
from lit_ghibli.trust import instantiate_trusted


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tiny):
    """A run's folder with a checkpoint of random weights."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=tiny).method, resolve=True)
    torch.manual_seed(0)
    state = instantiate_trusted(config).state_dict()
    run = tmp_path_factory.mktemp("teacher")
    path = run / "checkpoints" / "last.ckpt"
    checkpoints.save({"state_dict": state, checkpoints.CONFIG_KEY: {"method": config}}, path)
    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five scenes, a copy of the first of them, and a broken file."""
    folder = tmp_path_factory.mktemp("work place") / "my photos"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(render_pair(0, number, 48)[0]).save(folder / f"{number}.png")
    Image.fromarray(render_pair(0, 0, 48)[0]).save(folder / "copy.jpg", quality=90)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def manifest(out):
    with open(out / "manifest.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def run(teacher, photos, out, *overrides):
    """The command in this process."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        given = [f"teacher='{teacher}'", f"photos='{photos}'", f"out='{out}'", "device=cpu"]
        config = compose("pseudo_pair", overrides=[*given, *overrides])
    entry.pseudo_pair(config)


def test_from_photographs_to_a_set_and_sheets(teacher, photos, cli):
    words = [
        f"teacher={teacher}",
        "photos=my photos",
        "--out",
        "my pairs",
        "device=cpu",
        "min_style=0",
        "max_style=null",
    ]
    result = cli("pseudo-pair", *words, "min_structure=0", cwd=photos.parent)
    assert result.returncode == 0, result.stderr
    assert "5 of 7 pairs kept, 2 dropped: 1 unreadable, 1 duplicate\n" in result.stdout
    assert "| structure |" in result.stdout
    out = photos.parent / "my pairs"
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        *("dropped.png", "kept.png", "manifest.csv", "pairA", "pairB", "records.jsonl", "translated")
    ]
    for half in ("pairA", "pairB"):
        assert sorted(path.name for path in (out / half).iterdir()) == [f"{number}.png" for number in range(5)]
    assert manifest(out)["copy.jpg"]["detail"] == "of 0.png"
    with Image.open(out / "kept.png") as kept, Image.open(out / "dropped.png") as dropped:
        assert kept.width > dropped.width > 2 * 208, "three pairs and two in a row"
        assert kept.height > dropped.height, "two rows and one"


def test_the_pairs_second_half_is_what_the_teacher_paints(teacher, photos, tmp_path):
    run(teacher, photos, tmp_path, "min_structure=0", "min_style=0", "max_style=null")
    translator, _ = load_translator(checkpoints.find(teacher), "cpu", 1024)
    for number in range(5):
        painted = translator(open_image(photos / f"{number}.png"))
        assert np.array_equal(open_image(tmp_path / "pairB" / f"{number}.png"), painted)


def test_a_run_with_other_thresholds_needs_no_teacher_and_one_without_pairs_says_so(
    teacher, photos, tmp_path, monkeypatch
):
    run(teacher, photos, tmp_path, "min_structure=0", "min_style=0", "max_style=null", "keep=2")
    ranks = [row["detail"] for row in manifest(tmp_path).values() if row["verdict"] == "rank"]
    assert sorted(ranks) == ["3 of 5 by structure", "4 of 5 by structure", "5 of 5 by structure"]
    assert len(list((tmp_path / "pairB").iterdir())) == 2
    monkeypatch.setattr(
        "lit_ghibli.inference.translator.Translator.__call__", lambda *arguments: pytest.fail("translated")
    )
    with pytest.raises(
        SystemExit, match=r"0 of 7 pairs kept, 7 dropped: 5 style, 1 unreadable, 1 duplicate; see .*csv"
    ):
        run(teacher, photos, tmp_path, "min_structure=0", "min_style=99", "max_style=null")
    assert not list((tmp_path / "pairA").iterdir())
    assert not (tmp_path / "kept.png").exists()
    assert (tmp_path / "dropped.png").exists()


def test_another_checkpoint_is_refused(teacher, photos, tmp_path):
    loose = ("min_structure=0", "min_style=0", "max_style=null")
    run(teacher, photos, tmp_path / "out", *loose)
    other = checkpoints.load(teacher / "checkpoints" / "last.ckpt")
    name = next(iter(other["state_dict"]))
    other["state_dict"][name] = other["state_dict"][name] + 1
    checkpoints.save(other, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit, match=r"was begun with teacher=sha256:.*or another folder with out="):
        run(tmp_path / "other.ckpt", photos, tmp_path / "out", *loose)
    checkpoints.link(teacher / "checkpoints" / "last.ckpt", tmp_path / "same.ckpt")
    run(tmp_path / "same.ckpt", photos, tmp_path / "out", *loose)  # what counts is the content


def test_a_style_or_the_painter_needs_no_run(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "styles"))
    style, out = made_style(tmp_path / "styles"), tmp_path / "out"
    loose = ("min_structure=0", "min_style=0", "max_style=null")
    run("mine", photos, out, *loose)
    begun_with = json.loads((out / "records.jsonl").read_text().splitlines()[1])["teacher"]
    assert begun_with == f"mine sha256:{sha256_of(style)}"
    painted = open_model("mine", "cpu").translator(open_image(photos / "0.png"))
    assert np.array_equal(open_image(out / "pairB" / "0.png"), painted)
    made_style(tmp_path / "styles", seed=1)
    for other in ("mine", "painter"):  # another style of the same name, and another teacher
        with pytest.raises(SystemExit, match=r"was begun with teacher=mine sha256:.*or another folder with out="):
            run(other, photos, out, *loose)
    with pytest.raises(SystemExit, match="mien: no such run or checkpoint, and no style; did you mean mine"):
        run("mien", photos, out, *loose)


def test_a_painter_is_told_by_its_settings(photos, tmp_path):
    loose = ("min_structure=0", "min_style=0", "max_style=null")
    run("painter", photos, tmp_path, *loose, "painter=ink")
    run("painter", photos, tmp_path, *loose, "painter=ink")
    with pytest.raises(SystemExit, match="was begun with teacher=painter sha256:"):
        run("painter", photos, tmp_path, *loose, "painter=ink", "painter.outlines.opacity=0.9")
    with pytest.raises(SystemExit, match="was begun with teacher=painter sha256:"):
        run("painter", photos, tmp_path, *loose)


def test_meaning_is_compared_with_weights_from_a_file(teacher, photos, tmp_path):
    torch.manual_seed(0)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    few = tmp_path / "few"
    few.mkdir()
    (few / "0.png").write_bytes((photos / "0.png").read_bytes())
    run(teacher, few, tmp_path / "out", "min_structure=0", "min_style=0", f"segmentation='{tmp_path}/weights.pth'")
    assert float(manifest(tmp_path / "out")["0.png"]["semantics"]) >= 0.5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["keep=-1"], "keep must be"),
        (["photos=nowhere"], "nowhere: no such photograph or folder"),
        (["teacher=nowhere"], "nowhere: no such run or checkpoint"),
        (["min_semantics=0.2"], "min_semantics=0.2: that is of segmentation=NETWORK"),
        (["painter.outlines.opacity=0.2"], r"painter\.outlines\.opacity=0\.2: that is of teacher=painter"),
        (["teacher=painter", "tile=512"], "tile=512: that is of runs whose network can translate parts"),
        (["segmentation=nowhere"], "segmentation=nowhere: no such file"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(teacher, photos, tmp_path, monkeypatch, overrides, message):
    monkeypatch.setattr("lit_ghibli.commands._hydra.job_overrides", lambda: overrides)
    with pytest.raises(SystemExit, match=message):
        run(teacher, photos, tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()


def test_a_sheet_shows_every_verdict_and_evenly_spaced_pairs():
    rows = [{"verdict": "style", "number": number} for number in range(50)]
    rows[30:30] = [{"verdict": "duplicate", "number": 50 + number} for number in range(3)]
    chosen = entry._of_every_verdict(rows)
    assert [row["verdict"] for row in chosen] == ["style"] * 21 + ["duplicate"] * 3
    assert [row["number"] for row in entry._spread(rows)][::23] == [0, 49]
    assert len(entry._spread(rows)) == 24
    assert entry._spread(rows[:2]) == rows[:2]
    assert entry._spread([]) == []
