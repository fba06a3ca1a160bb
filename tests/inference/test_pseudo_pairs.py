import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from lit_ghibli.data.image_files import FolderError, open_image
from lit_ghibli.data.pair_sources import TwoFolderSource
from lit_ghibli.errors import UserError
from lit_ghibli.inference.pair_selection import Thresholds, judge
from lit_ghibli.inference.pseudo_pairs import find_photos, make_pairs
from lit_ghibli.inference.records import Records
from lit_ghibli.scenes.scene import render_pair

ALL = Thresholds(
    duplicate_distance=None, min_structure=None, min_semantics=None, min_style=None, max_style=None, keep=None
)


def limits(**changes) -> Thresholds:
    return Thresholds(**{**vars(ALL), **changes})


class Posterize:
    """A teacher that counts its pictures; given colors, it paints only them."""

    def __init__(self, bits=2, flat=()):
        self.bits, self.flat, self.calls = bits, flat, 0

    def __call__(self, photo):
        self.calls += 1
        return Image.new("RGB", photo.size) if self.calls in self.flat else ImageOps.posterize(photo, self.bits)


def scene(index: int, size=(48, 40)) -> Image.Image:
    return Image.fromarray(render_pair(0, index, 64)[0]).resize(size)


@pytest.fixture
def folder(tmp_path):
    return write_photos(tmp_path / "photos")


def write_photos(photos: Path) -> Path:
    """Six photographs of several kinds, the fourth a smaller copy of the first, and a broken file."""
    (photos / "sub dir").mkdir(parents=True)
    scene(0).save(photos / "1.png")
    scene(1, (33, 47)).save(photos / "2 ü.JPG", quality=95)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    scene(2).save(photos / "3.jpg", quality=95, exif=turned)
    scene(0).resize((24, 20)).save(photos / "4.png")
    scene(3).convert("L").save(photos / "5.png")
    scene(4).save(photos / "sub dir" / "1.webp", lossless=True)
    (photos / "6.jpg").write_bytes(b"no picture")
    return photos


NAMES = ["1.png", "2 ü.JPG", "3.jpg", "4.png", "5.png", "6.jpg", "sub dir/1.webp"]


def run(photos, out, teacher=None, thresholds=ALL, segment=None):
    found = find_photos(photos, out)
    records = Records(out / "records.jsonl", teacher="t", tile=0)
    return make_pairs(teacher or Posterize(), found, out, records, thresholds, segment)


def content(out) -> dict[str, bytes]:
    """Every file but the records, whose order may differ."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "records.jsonl")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def names(out, half) -> set[str]:
    return {path.relative_to(out / half).as_posix() for path in (out / half).rglob("*.*")}


def verdicts(rows) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in rows}


def test_pairs_are_upright_alike_in_size_and_what_the_teacher_made_of_them(folder, tmp_path):
    out = tmp_path / "out"
    rows = run(folder, out)
    assert [row["name"] for row in rows] == sorted(NAMES)
    # Turned and grey photographs are written anew; the others are the same files.
    assert names(out, "pairA") == {"1.png", "2 ü.JPG", "3.png", "4.png", "5.png", "sub dir/1.webp"}
    assert names(out, "pairB") == {"1.png", "2 ü.png", "3.png", "4.png", "5.png", "sub dir/1.png"}
    for name in ("1.png", "2 ü.JPG", "sub dir/1.webp"):
        assert (out / "pairA" / name).samefile(folder / name)
    for photo, picture in zip(sorted((out / "pairA").rglob("*.*")), sorted((out / "pairB").rglob("*.*")), strict=True):
        with Image.open(photo) as first, Image.open(picture) as second:
            assert first.mode == second.mode == "RGB"
            assert np.array_equal(ImageOps.posterize(first, 2), second)
    with Image.open(out / "pairA" / "3.png") as photo:
        assert photo.size == (40, 48)
        assert np.array_equal(photo, open_image(folder / "3.jpg"))


def test_the_set_is_one_that_two_folders_can_be_trained_on(folder, tmp_path):
    run(folder, tmp_path / "out")
    source = TwoFolderSource(
        root=tmp_path / "out",
        train_input="pairA",
        train_target="pairB",
        test_input="testA",
        test_target="testB",
        load_size=32,
        eval_size=32,
        resize="short_side",
        min_side=16,
        on_bad_file="error",
        cache="ram",
        cache_dir=None,
    )
    splits = source.load()
    assert len(splits.train_input) == len(splits.train_target) == 6


def test_the_manifest_says_what_became_of_every_photograph(folder, tmp_path):
    # Of the four that are translated before the last, one is painted black: its edges are gone.
    rows = run(folder, tmp_path / "out", Posterize(flat=[2]), limits(duplicate_distance=6, min_structure=0.3))
    with open(tmp_path / "out" / "manifest.csv", newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    found = {row["name"]: (row["verdict"], row["detail"]) for row in written}
    assert found == {
        "1.png": ("kept", ""),
        "2 ü.JPG": ("structure", "0 is below 0.3"),
        "3.jpg": ("kept", ""),
        "4.png": ("duplicate", "of 1.png"),
        "5.png": ("kept", ""),
        "6.jpg": ("unreadable", "is not an image: its content is of no known format or damaged"),
        "sub dir/1.webp": ("kept", ""),
    }
    assert [row["verdict"] for row in rows] == [row["verdict"] for row in written]
    assert written[3]["structure"] == "", "a duplicate is never translated"
    assert float(written[0]["structure"]) > 0.3
    assert names(tmp_path / "out", "pairA") == {"1.png", "3.png", "5.png", "sub dir/1.webp"}
    assert names(tmp_path / "out", "pairB") == {"1.png", "3.png", "5.png", "sub dir/1.png"}


def test_another_threshold_selects_anew_without_a_translation(folder, tmp_path):
    out, idle = tmp_path / "out", Posterize()
    rows = run(folder, out)
    all_of_it = content(out)
    styles = sorted(row["style"] for row in rows if "style" in row)
    strict = run(folder, out, idle, limits(min_style=styles[3]))
    assert list(verdicts(strict).values()).count("style") == 3
    assert len(names(out, "pairA")) == len(names(out, "pairB")) == 3
    run(folder, out, idle)
    assert content(out) == all_of_it
    assert idle.calls == 0
    assert all((folder / name).is_file() for name in NAMES), "of photographs, only links are removed"


def test_new_photographs_join_the_set_and_a_lost_picture_is_made_again(folder, tmp_path):
    out, teacher = tmp_path / "out", Posterize()
    run(folder, out)
    scene(7).save(folder / "7.png")
    scene(6).save(folder / "6.jpg")  # repaired
    (out / "translated" / "5.png").unlink()
    rows = run(folder, out, teacher)
    assert set(verdicts(rows).values()) == {"kept"}
    assert teacher.calls == 3


def test_another_teacher_or_other_photographs_are_refused(folder, tmp_path):
    out = tmp_path / "out"
    run(folder, out)
    before = content(out)
    with pytest.raises(UserError, match="begun with teacher=t, and now teacher=u is given: give the same one"):
        Records(out / "records.jsonl", teacher="u", tile=0)
    with pytest.raises(UserError, match="begun with tile=0, and now tile=512"):
        Records(out / "records.jsonl", teacher="t", tile=512)
    scene(9).save(folder / "5.png")
    (folder / "1.png").unlink()
    with pytest.raises(FolderError, match=r"(?s)other photographs, for 2 of 6 on record.*1\.png.*5\.png"):
        run(folder, out)
    assert content(out) == before


# --- stopped at any moment ---------------------------------------------------------

# Starts a child for each folder, which kills itself at the given call of a function, as a power cut would.
CHILDREN = """
import os, signal, sys
from pathlib import Path
from PIL import ImageOps
from lit_ghibli.inference import pseudo_pairs
from lit_ghibli.inference.pair_selection import Thresholds
from lit_ghibli.inference.pseudo_pairs import find_photos, make_pairs
from lit_ghibli.inference.records import Records

def run(photos, out, function, number):
    calls = []
    def dying(original):
        def call(*arguments):
            calls.append(arguments)
            if len(calls) == number:
                if function == "_write":  # half a line
                    with (out / "records.jsonl").open("ab") as file:
                        file.write(b'\\n{"name": "1')
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)
        return call

    place = {"_write": Records, "replace": os, "link": pseudo_pairs}[function]
    setattr(place, function, dying(getattr(place, function)))
    records = Records(out / "records.jsonl", teacher="t", tile=0)
    limits = Thresholds(6, None, None, None, None, None)
    make_pairs(lambda photo: ImageOps.posterize(photo, 2), find_photos(photos, out), out, records, limits)

photos, *points = sys.argv[1:]
for point in points:
    child = os.fork()
    if child == 0:
        function, number = point.split(":")
        run(Path(photos), Path(photos).parent / point, function, int(number))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
POINTS = {
    "_write:10": 3,  # after the header and six hashes, while the third score is noted
    "replace:3": 3,  # the third picture is written but not in its place
    "link:4": 0,  # among the pairs
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The photographs, beside a folder for each of the points at which a run was killed."""
    photos = write_photos(tmp_path_factory.mktemp("killed") / "photos")
    command = [sys.executable, "-c", CHILDREN, photos, *POINTS]
    children = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert [int(word) for word in children.stdout.split() if word.lstrip(b"-").isdigit()] == [-signal.SIGKILL] * 3
    return photos


@pytest.mark.parametrize(("point", "translations"), POINTS.items())
def test_a_run_that_was_killed_goes_on_where_it_was(killed, tmp_path, point, translations):
    out, teacher = killed.parent / point, Posterize()
    assert (out / "records.jsonl").exists()
    assert not (out / "manifest.csv").exists()
    rows = run(killed, out, teacher, limits(duplicate_distance=6))
    assert teacher.calls == translations
    assert rows == run(killed, tmp_path / "whole", Posterize(), limits(duplicate_distance=6))
    assert content(out) == content(tmp_path / "whole"), "also, nothing else is left behind"


# --- the verdict --------------------------------------------------------------------


def scored(**scores):
    return {"structure": 0.7, "style": 10.0, "semantics": 0.8, **scores}


@pytest.mark.parametrize(
    ("changes", "scores", "expected"),
    [
        ({}, scored(structure=0.0, style=0.0, semantics=0.0), None),
        ({"min_structure": 0.7, "min_style": 10, "max_style": 10, "min_semantics": 0.8}, scored(), None),
        ({"min_structure": 0.75}, scored(), ("structure", "0.7 is below 0.75")),
        ({"min_semantics": 0.9}, scored(), ("semantics", "0.8 is below 0.9")),
        ({"min_semantics": 0.9}, {"structure": 0.7, "style": 10.0}, None),
        ({"min_style": 12.5}, scored(), ("style", "10 is below 12.5")),
        ({"max_style": 9}, scored(style=12.3456), ("style", "12.35 is above 9")),
        ({"min_structure": 0.9, "min_style": 90}, scored(), ("structure", "0.7 is below 0.9")),
    ],
)
def test_a_pair_is_dropped_for_the_first_score_out_of_its_limits(changes, scores, expected):
    assert limits(**changes).objection(scores) == expected


@pytest.mark.parametrize(("keep", "best"), [(None, "edcba"), (2, "ed"), (9, "edcba"), (0.4, "ed"), (0.01, "e")])
def test_the_best_structures_among_good_pairs_are_kept(keep, best):
    photos = {name: Path(name) for name in "abcdef"}
    scores = {name: {"structure": 0.1 * number, "style": 5.0} for number, name in enumerate("abcde", start=1)}
    scores["f"] = {"structure": 0.9, "style": 0.1}
    rows = judge(photos, scores, {}, limits(min_style=1.0, keep=keep))
    assert {row["name"] for row in rows if row["verdict"] == "kept"} == set(best)
    assert rows[5]["verdict"] == "style"
    if keep == 2:
        assert (rows[0]["verdict"], rows[0]["detail"]) == ("rank", "5 of 5 by structure")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("duplicate_distance", 32),
        ("duplicate_distance", -1),
        ("min_structure", 1.2),
        ("min_structure", "high"),
        ("min_style", -1),
        ("max_style", float("nan")),
        ("keep", 0),
        ("keep", 1.5),
        ("keep", "half"),
    ],
)
def test_limits_without_sense_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} must be .*; got {value!r}"):
        limits(**{name: value})


# --- meaning ------------------------------------------------------------------------


class Halves:
    """Labels the left part of a picture 1; of pictures with few colors, a smaller part."""

    num_classes = 3

    def __init__(self, source):
        self.source, self.calls = source, 0

    def __call__(self, images):
        self.calls += 1
        labels = torch.zeros(1, 10, 10, dtype=torch.long)
        labels[..., : 5 if len(images.unique()) > 8 else 2] = 1
        return labels


def test_label_maps_are_compared_once_for_each_network(folder, tmp_path):
    out, first, second = tmp_path / "out", Halves("a"), Halves("b")
    rows = run(folder, out, thresholds=limits(min_semantics=0.6), segment=first)
    # Class 0: 5 of 8 columns, class 1: 2 of 5.
    scores = [row["semantics"] for row in rows if row["verdict"] != "unreadable"]
    assert scores == [pytest.approx((5 / 8 + 2 / 5) / 2, abs=1e-4)] * 6
    assert list(verdicts(rows).values()).count("semantics") == 6
    assert first.calls == 12
    run(folder, out, segment=first)
    assert first.calls == 12
    run(folder, out, segment=second)
    assert second.calls == 12
    assert "semantics" not in run(folder, out)[0]


# --- folders ------------------------------------------------------------------------


def test_folders_that_could_lose_photographs_are_refused(folder, tmp_path):
    for inside in (folder, folder / "sub dir"):
        with pytest.raises(FolderError, match="choose another out"):
            find_photos(inside, folder)
    (tmp_path / "out" / "pairA").mkdir(parents=True)
    with pytest.raises(FolderError, match="pairA was not made by this command"):
        find_photos(folder, tmp_path / "out")
    with pytest.raises(FolderError, match="no such photograph or folder"):
        find_photos(folder / "nowhere", tmp_path / "new")


def test_photographs_that_would_share_a_picture_are_refused(folder, tmp_path):
    scene(5).save(folder / "1.jpg")
    with pytest.raises(FolderError, match=r"(?s)more than their extension; rename some of:\n  1\.jpg\n  1\.png$"):
        find_photos(folder, tmp_path / "out")


def test_photographs_that_are_symbolic_links_are_followed(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "1.png").symlink_to(Path("..") / folder.name / "1.png")  # relative: another folder would break it
    run(linked, tmp_path / "out")
    assert (tmp_path / "out" / "pairA" / "1.png").samefile(folder / "1.png")
    assert not (tmp_path / "out" / "pairA" / "1.png").is_symlink()


def test_a_set_among_the_photographs_is_no_photograph(folder):
    run(folder, folder / "out")
    assert len(run(folder, folder / "out")) == 7
