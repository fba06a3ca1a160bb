"""What `lit-ghibli data check` says, writes, and ends with."""

import csv
import inspect
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from lit_ghibli.commands.data_check import data_check
from lit_ghibli.data.check.likeness import likeness
from lit_ghibli.data.near_duplicates import reduced_luminance
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import compose
from lit_ghibli.scenes.scene import render_pair

pytestmark = pytest.mark.usefixtures("composing")
SMALL = ["data.crop_size=32", "data.load_size=32"]


@pytest.fixture(scope="module")
def scenes():
    return [[Image.fromarray(pixels) for pixels in render_pair(0, number, 64)] for number in range(9)]


@pytest.fixture
def root(tmp_path, scenes):
    """Pairs to train on, two held out."""
    for number, pair in enumerate(scenes):
        for domain, image in zip("AB", pair, strict=True):
            folder = tmp_path / "pictures" / f"{'test' if number > 6 else 'train'}{domain}"
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{number}.png")
    return tmp_path / "pictures"


def checked(root, *overrides):
    """The exit status."""
    try:
        inspect.unwrap(data_check)(compose("data_check", [f"data.root={root}", *SMALL, *overrides]))
    except SystemExit as end:
        return end.code
    return 0


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("data", ["unpaired", "two_folders"])
def test_folders_without_a_fault_end_well(root, tmp_path, capsys, data):
    assert checked(root, f"data={data}") == 0
    out = capsys.readouterr().out
    assert "nothing here stops a training, and no held-out picture is trained on" in out
    folder = tmp_path / "outputs/data_check"
    written = ["files.csv", "findings.csv", "sheet.png", "summary.csv", "summary.json", "summary.md"]
    assert sorted(path.name for path in folder.iterdir()) == written
    assert len(rows_of(folder / "files.csv")) == 18
    summary = json.loads((folder / "summary.json").read_text())
    counts = {"trainA": 7, "trainB": 7, "testA": 2, "testB": 2}
    assert {row["folder"]: row["files"] for row in summary} == counts
    assert "no held-out picture is trained on" in (folder / "summary.md").read_text()


def test_a_leak_ends_with_status_1_and_names_both_files(root, tmp_path, scenes, capsys):
    ImageEnhance.Brightness(scenes[2][0]).enhance(0.9).save(root / "testA/7.png")
    assert checked(root, "out=here") == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "nearly is" in line)
    assert str(root / "testA/7.png") in line
    assert str(root / "trainA/2.png") in line
    (finding,) = (row for row in rows_of(tmp_path / "here/findings.csv") if row["verdict"] == "leaks")
    assert finding["file"] == str(root / "testA/7.png")
    assert finding["other"] == str(root / "trainA/2.png")
    assert finding["folder"] == str(root / "testA")


def test_a_truncated_file_stops_unless_it_is_skipped(root, tmp_path, capsys):
    path = root / "trainB/4.png"
    path.write_bytes(path.read_bytes()[:2000])
    assert checked(root) == 1
    assert "STOPS A TRAINING: bad file (1). What to do: repair or remove them, or" in capsys.readouterr().out
    assert checked(root, "data.on_bad_file=skip") == 0
    (bad,) = (row for row in rows_of(tmp_path / "outputs/data_check/files.csv") if row["problem"])
    assert (bad["folder"], bad["name"], bad["hash"]) == ("trainB", "4.png", "")
    assert bad["problem"].startswith("is truncated or damaged")


def test_many_of_one_kind_are_cut_short_in_print_only(root, tmp_path, capsys):
    for number in range(20, 28):
        shutil.copy(root / "trainA/3.png", root / f"trainA/{number}.png")
    assert checked(root) == 0
    out = capsys.readouterr().out
    assert "warning: repeated in train (8)" in out
    assert "... and 3 more in findings.csv" in out
    kinds = [row["kind"] for row in rows_of(tmp_path / "outputs/data_check/findings.csv")]
    assert kinds.count("repeated in train") == 8


def test_folders_with_nothing_in_them_are_reported_without_a_sheet(tmp_path):
    assert checked(tmp_path / "nowhere") == 1
    folder = tmp_path / "outputs/data_check"
    assert not (folder / "sheet.png").exists()
    assert {row["kind"] for row in rows_of(folder / "findings.csv")} == {"folder", "too few", "nothing held out"}


def test_pairs_in_one_picture_and_pairs_of_one_source(root, scenes, tmp_path):
    for split, numbers in (("train", range(7)), ("val", (7, 8))):
        (root / split).mkdir()
        for number in numbers:
            both = Image.new("RGB", (128, 64))
            both.paste(scenes[number][0])
            both.paste(scenes[number][1], (64, 0))
            both.save(root / split / f"{number}.png")
    assert checked(root, "data=side_by_side") == 0
    assert checked(root, "data=derived", "data.test=val") == 0
    assert len(rows_of(tmp_path / "outputs/data_check/files.csv")) == 9


@pytest.mark.parametrize("data", ["scenes", "semi_scenes", "iterations"])
def test_data_without_folders_say_so(data, capsys, tmp_path):
    inspect.unwrap(data_check)(compose("data_check", [f"data={data}"]))
    assert "there are no folders to look through" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("duplicate_distance=33", "duplicate_distance must be a whole number of 0 ... 32; got 33"),
        ("samples=-1", "samples must be a whole number of at least 0; got -1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(value, message, root):
    with pytest.raises(UserError) as error:
        checked(root, value)
    assert str(error.value) == message


def test_partners_are_more_alike_than_strangers(scenes):
    photos, paintings = (np.stack([reduced_luminance(pair[side]) for pair in scenes]) for side in (0, 1))
    own = likeness(photos, paintings)
    assert own.shape == (9,)
    assert likeness(photos, photos) == pytest.approx(np.ones(9), abs=1e-5)
    assert np.median(own) > np.median(likeness(photos, np.roll(paintings, 1, axis=0)))
