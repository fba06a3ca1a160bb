"""What a look through folders finds, on made-up folders with known faults."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from lit_ghibli.data.check import files as dataset_files
from lit_ghibli.data.check import findings as check
from lit_ghibli.data.near_duplicates import find_nearest
from lit_ghibli.data.painted_photos import PaintedPhotos
from lit_ghibli.data.pair_sources import DerivedSource, PseudoPairFolders, SideBySideSource, TwoFolderSource
from lit_ghibli.data.sources import FolderSource
from lit_ghibli.data.transforms import Grayscale
from lit_ghibli.errors import UserError

SIDE = 48
UNPAIRED = {"train_photo": "trainA", "train_anime": "trainB", "test_photo": "testA", "test_anime": "testB"}
PAIRED = {"train_input": "trainA", "train_target": "trainB", "test_input": "testA", "test_target": "testB"}


def photo(seed, width=SIDE, height=SIDE):
    """Smooth random colors, as different from one seed to the next as photographs are."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def painted(image):
    return image.filter(ImageFilter.GaussianBlur(0.6))  # which hardly changes mean colors


@pytest.fixture
def root(tmp_path):
    """Six pairs to train on and two held out, without any fault."""
    for split, numbers in (("train", range(6)), ("test", range(10, 12))):
        for domain in "AB":
            (tmp_path / f"{split}{domain}").mkdir()
        for number in numbers:
            photo(number).save(tmp_path / f"{split}A/{number}.png")
            painted(photo(number)).save(tmp_path / f"{split}B/{number}.png")
    return tmp_path


def source(kind, root, **fields):
    common = {"root": root, "load_size": 32, "eval_size": 32, "resize": "short_side", "min_side": 32}
    return kind(**{**common, "on_bad_file": "error", "cache": "ram", "cache_dir": None, **fields})


def pairs_of(root, **fields):
    return source(TwoFolderSource, root, **PAIRED, **fields)


def correlation(first, second):
    """Of the pixels, with numpy alone."""
    with np.errstate(invalid="ignore"):  # of flat pictures
        values = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second, strict=True)]
    return np.nan_to_num(values)


def look(source, distance=6):
    """All findings."""
    folders, pairings = dataset_files.layout(source)
    listed, findings = check.find_files(folders, pairings)
    files = list(dataset_files.inspect_files(listed, source.min_side, keep_grids=True))
    findings += check.find_bad(files, skipped=source.on_bad_file == "skip")
    findings += check.find_too_few(folders, files, batch_size=1)
    findings += check.find_duplicates(files, distance)
    findings += check.find_misfits(pairings, files, source)
    return findings + check.find_strangers(pairings, files, correlation)[0] + check.find_color_differences(files)


def kinds(findings):
    return sorted((finding.verdict, finding.kind) for finding in findings)


@pytest.mark.parametrize("kind", [FolderSource, TwoFolderSource])
def test_sound_folders_are_left_in_peace(root, kind):
    assert look(source(kind, root, **(UNPAIRED if kind is FolderSource else PAIRED))) == []


def test_each_source_names_its_folders(tmp_path):
    pair = {"pair_input": "pairA", "pair_target": "pairB"}
    folders, pairings = dataset_files.layout(source(PseudoPairFolders, tmp_path, **UNPAIRED, **pair))
    assert [(folder.path.name, folder.split, folder.domain, folder.needed) for folder in folders] == [
        ("trainA", "train", "input", True),
        ("trainB", "train", "target", True),
        ("pairA", "train", "input", True),
        ("pairB", "train", "target", True),
        ("testA", "test", "input", False),
        ("testB", "test", "target", False),
    ]
    assert [(p.inputs.path.name, p.targets.path.name, p.needed) for p in pairings] == [
        ("testA", "testB", False),
        ("pairA", "pairB", True),
    ]
    one = {"train": "train", "test": "val"}
    folders, pairings = dataset_files.layout(source(DerivedSource, tmp_path, **one, derive=Grayscale()))
    assert [(f.path.name, f.split, f.domain, f.halves) for f in folders] == [
        ("train", "train", "both", ()),
        ("val", "test", "both", ()),
    ]
    assert pairings == []
    folders, _ = dataset_files.layout(source(SideBySideSource, tmp_path, **one, direction="AtoB", max_half_aspect=1.5))
    assert [half.side for half in folders[0].halves] == ["left", "right"]


def test_photographs_to_paint_are_one_folder(tmp_path):
    photos = PaintedPhotos.__new__(PaintedPhotos)  # without a painter, which nothing here needs
    photos.root = tmp_path
    (folder,), pairings = dataset_files.layout(photos)
    assert (folder.path, folder.split, folder.halves, pairings) == (tmp_path, "train", (), [])


def test_what_is_known_of_a_file(tmp_path):
    path = tmp_path / "flat.jpg"
    Image.new("CMYK", (64, 40), (0, 255, 255, 0)).save(path)
    (tmp_path / "half.png").write_bytes(b"")
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, :20] = (255, 51, 51)  # saturation 0.8; the other half is black
    Image.fromarray(pixels).save(tmp_path / "two.png")
    folder = dataset_files.Folder(tmp_path, "train", "input", True)
    listed, findings = check.find_files([folder], [])
    flat, half, two = dataset_files.inspect_files(listed, 40, keep_grids=False)
    assert findings == []
    assert (flat.size, flat.format, flat.mode, flat.problem, flat.grids) == ((64, 40), "JPEG", "CMYK", "", ())
    assert flat.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (half.problem, half.size, half.hash) == ("is empty (0 bytes)", None, None)
    assert two.colors[:4] == pytest.approx((0.5, 0.1, 0.1, 0.4), abs=1e-3)
    assert two.colors[4] == pytest.approx((0.299 * 255 + 0.701 * 51) / 2 / 255, abs=3e-3)
    assert two.squares == pytest.approx((0.5, 0.02, 0.02), abs=1e-6)
    row = dataset_files.summarize(folder, [flat, half, two])
    assert (row["files"], row["bad"], row["smallest"], row["largest"]) == (3, 1, "40x40", "64x40")
    assert (row["aspect"], row["formats"], row["modes"]) == ("1.00 / 1.30 / 1.60", "1 JPEG, 1 PNG", "1 CMYK, 1 RGB")


def test_the_spread_of_colors_is_over_all_pixels_of_a_folder(tmp_path):
    for number, shade in enumerate((0, 255)):
        Image.new("RGB", (32, 32), (shade, 51, shade)).save(tmp_path / f"{number}.png")
    folder = dataset_files.Folder(tmp_path, "train", "input", True)
    files = list(dataset_files.inspect_files(check.find_files([folder], [])[0], 8, keep_grids=False))
    row = dataset_files.summarize(folder, files)
    assert [row[name] for name in ("red", "green", "blue")] == pytest.approx([0.5, 0.2, 0.5])
    assert [row[f"{name}_std"] for name in ("red", "green", "blue")] == pytest.approx([0.5, 0, 0.5], abs=1e-6)


def truncate(root):
    path = root / "trainA/3.png"
    path.write_bytes(path.read_bytes()[:-300])


def shrink(root):
    photo(3, 31, 60).save(root / "trainB/3.png")
    photo(3, 31, 60).save(root / "trainA/3.png")


def widen(root):
    photo(3, 80, 48).save(root / "trainB/3.png")


FAULTS = {
    "nothing": (lambda root: None, []),
    "truncated": (truncate, ["bad file"]),
    "too small": (shrink, ["bad file", "bad file"]),
    "no partner": (lambda root: (root / "trainA/3.png").unlink(), ["no partner"]),
    "no held-out partner": (lambda root: (root / "testB/10.png").unlink(), ["no partner"]),
    "two of one name": (lambda root: photo(3).save(root / "trainB/3.bmp"), ["two of one name"]),
    "another aspect": (widen, ["two aspects"]),
    "copied into test": (lambda root: shutil.copy(root / "trainA/3.png", root / "testA/10.png"), ["leak"]),
    "no folder": (lambda root: shutil.rmtree(root / "trainB"), ["folder", "too few"]),
    "half held out": (lambda root: shutil.rmtree(root / "testB"), ["folder"]),
    "empty folder": (lambda root: [path.unlink() for path in (root / "testA").iterdir()], ["folder"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_stops_a_training_is_what_is_said_to(root, fault):
    spoil, expected = FAULTS[fault]
    spoil(root)
    try:
        pairs_of(root).load()
        stopped = False
    except UserError:
        stopped = True
    stops = [finding.kind for finding in look(pairs_of(root)) if finding.verdict == "stops"]
    assert stopped == bool(stops)
    assert set(expected) <= set(stops)


@pytest.mark.parametrize("spoil", [truncate, widen])
def test_what_is_skipped_is_a_warning(root, spoil):
    spoil(root)
    pairs_of(root, on_bad_file="skip").load()
    findings = look(pairs_of(root, on_bad_file="skip"))
    assert {finding.verdict for finding in findings} == {"warning"}


def test_partners_squashed_alike_may_differ_in_aspect_but_are_told_of(root):
    widen(root)
    pairs_of(root, resize="squash").load()
    (finding,) = (f for f in look(pairs_of(root, resize="squash")) if f.kind == "two aspects")
    assert finding.verdict == "warning"
    assert finding.detail.endswith("have different aspects: 48x48 and 80x48")


def test_a_changed_copy_leaks_from_training_into_test(root):
    ImageEnhance.Brightness(photo(3)).enhance(0.9).save(root / "testA/10.jpg")
    (root / "testA/10.png").unlink()
    (finding,) = (f for f in look(source(FolderSource, root, **UNPAIRED)) if f.verdict == "leaks")
    assert (finding.file, finding.other) == (root / "testA/10.jpg", root / "trainA/3.png")
    assert 0 <= finding.distance <= 6


def test_a_leak_is_of_one_domain(root):
    photo(50).save(root / "trainA/20.png")
    shutil.copy(root / "trainA/20.png", root / "testB/10.png")
    found = look(source(FolderSource, root, **UNPAIRED))
    assert ("warning", "in both domains") in kinds(found)
    assert not [finding for finding in found if finding.verdict in ("stops", "leaks")]


def test_repeats_name_both_files(root):
    shutil.copy(root / "trainA/3.png", root / "trainA/7.png")
    ImageEnhance.Contrast(photo(11)).enhance(0.9).save(root / "testA/12.png")
    findings = [finding for finding in look(source(FolderSource, root, **UNPAIRED)) if "repeated" in finding.kind]
    assert [(f.kind, f.file.name, f.other.name) for f in findings] == [
        ("repeated in train", "7.png", "3.png"),
        ("repeated in test", "12.png", "11.png"),
    ]
    assert findings[0].distance is None
    assert "is a copy of" in findings[0].detail
    assert findings[1].distance <= 6


def test_pictures_trained_on_in_two_ways_are_told_of(root):
    for domain in "AB":
        (root / f"pair{domain}").mkdir()
        shutil.copy(root / f"train{domain}/3.png", root / f"pair{domain}/1.png")
        photo(20).save(root / f"pair{domain}/2.png")
    found = look(source(PseudoPairFolders, root, **UNPAIRED, pair_input="pairA", pair_target="pairB"))
    assert kinds(found) == [("warning", "in both domains"), *[("warning", "in two training folders")] * 2]


def test_a_shifted_numbering_and_a_wrong_partner_are_seen(root):
    for number in range(20, 30):  # so many that two wrong ones are an exception
        photo(number).save(root / f"trainA/{number}.png")
        painted(photo(number)).save(root / f"trainB/{number}.png")
    painted(photo(99)).save(root / "trainB/25.png")
    findings = [finding for finding in look(pairs_of(root)) if finding.kind.startswith("pair")]
    assert [(f.kind, f.file.name, f.other.name) for f in findings] == [("pair unlike", "25.png", "25.png")]
    for number in range(20, 30):
        painted(photo(number + 1)).save(root / f"trainB/{number}.png")
    for number in range(6):
        painted(photo(number + 1)).save(root / f"trainB/{number}.png")
    assert ("warning", "pairs unlike") in kinds(look(pairs_of(root)))


def test_halves_of_one_file_are_partners(tmp_path):
    for folder, numbers in (("train", range(8)), ("val", range(10, 12))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            both = Image.new("RGB", (2 * SIDE, SIDE))
            both.paste(photo(number))
            both.paste(painted(photo(number if number != 4 else 99)), (SIDE, 0))
            both.save(tmp_path / folder / f"{number}.png")
    photo(0, 3 * SIDE, SIDE).save(tmp_path / "train/8.png")
    sides = source(SideBySideSource, tmp_path, train="train", test="val", direction="AtoB", max_half_aspect=1.2)
    findings = [finding for finding in look(sides) if finding.kind != "repeated in train"]
    assert [(finding.kind, finding.file.name) for finding in findings] == [
        ("bad file", "8.png"),
        ("pair unlike", "4.png"),
    ]
    assert "too far from 2:1" in findings[0].detail


def test_strong_differences_of_color_are_said(tmp_path):
    shades = {"trainA": 100, "testA": 200, "trainB": 150, "testB": 150}
    for folder, shade in shades.items():
        (tmp_path / folder).mkdir()
        for number in range(6):
            pixels = np.full((40, 40, 3), shade, dtype=np.uint8)
            pixels[:, number] += np.uint8(number)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    found = {finding.kind: finding for finding in look(source(FolderSource, tmp_path, **UNPAIRED))}
    assert found["train unlike test"].detail.startswith("input pictures differ between training and test (means): red")
    assert "lightness 0.39 and 0.78" in found["train unlike test"].detail
    assert found["domains unlike"].verdict == "note"


def test_files_that_are_passed_over_and_folders_that_are_not_there(root):
    (root / "trainA/notes.txt").write_text("x")
    (root / "trainA/picture.psd").write_text("x")
    shutil.rmtree(root / "testB")
    found = {finding.kind: finding for finding in look(source(FolderSource, root, **UNPAIRED))}
    assert set(found) == {"other files", "nothing held out"}
    assert found["other files"].detail.endswith("passed over: 1 .psd")


def test_a_batch_needs_as_many_pictures(root):
    folders, _ = dataset_files.layout(source(FolderSource, root, **UNPAIRED))
    files = list(dataset_files.inspect_files(check.find_files(folders, [])[0], 32, keep_grids=False))
    assert check.find_too_few(folders, files, batch_size=6) == []
    (finding,) = check.find_too_few(folders, files, batch_size=7)
    assert finding.verdict == "stops"


@pytest.mark.parametrize("most", [0, 6, 20])
def test_the_nearest_is_that_of_a_loop(most):
    generator = np.random.default_rng(0)
    others = [int(number) for number in generator.integers(0, 2**63, 50)]
    hashes = [other ^ int(generator.integers(0, 2**8)) for other in others[::-1]] + [2**64 - 1]
    expected = []
    for value in hashes:
        distances = [(value ^ other).bit_count() for other in others]
        expected.append(distances.index(min(distances)) if min(distances) <= most else None)
    assert find_nearest(hashes, others, most) == expected
    assert find_nearest(hashes, [], most) == [None] * 51
    assert find_nearest([], others, most) == []
