"""The three layouts of pairs on real files, and crops that are the same for both pictures of a pair."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lit_ghibli.data import image_files
from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.paired import PairedDataModule, PairedDataset
from lit_ghibli.data.sampling import Position
from lit_ghibli.data.transforms import Grayscale, LowResolution
from lit_ghibli.errors import UserError
from lit_ghibli.scenes.scene import render_pair

LOADING = {"crop_size": 24, "flip": 0.5, "batch_size": 2, "num_workers": 0, "seed": 4}
READING = {"load_size": 28, "eval_size": 24, "resize": "squash", "min_side": 4, "on_bad_file": "error"}
READING |= {"cache": "ram", "cache_dir": None}
LAYOUTS = {
    "two_folders": {"train_input": "pairA", "train_target": "pairB", "test_input": "testA", "test_target": "testB"},
    "side_by_side": {"train": "train", "test": "val", "direction": "AtoB", "max_half_aspect": 1.5},
    "derived": {"train": "train", "test": "test", "derive": Grayscale()},
}


def module(layout: str, root: Path | None, **changes) -> PairedDataModule:
    return PairedDataModule.from_layout(layout, **LOADING | READING | LAYOUTS[layout] | {"root": root} | changes)


def opened(layout: str, root: Path, **changes) -> PairedDataModule:
    made = module(layout, root, **changes)
    made.setup("fit")
    return made


def failure(layout: str, root: Path, **changes) -> str:
    with pytest.raises(FolderError) as caught:
        opened(layout, root, **changes)
    return str(caught.value)


def save(path: Path, color: tuple[int, int, int], width: int = 40, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), color).save(path, quality=100)
    return path


def color(image: torch.Tensor) -> list[int]:
    return image.float().mean(dim=(-2, -1)).round().int().tolist()


@pytest.fixture
def two(tmp_path) -> Path:
    """Pairs whose red channel says input or target and whose blue one says which pair; extensions differ."""
    root = tmp_path / "Paare für Ghibli"
    for folder, red in (("pairA", 0), ("pairB", 200)):
        for number, name in enumerate(("2", "10", "ü b", "sub folder/c")):
            suffix = ".png" if (number + (red > 0)) % 2 else ".bmp"
            save(root / folder / f"{name}{suffix}", (red, 0, 10 * number))
    for folder, red in (("testA", 0), ("testB", 200)):
        for number, name in enumerate(("x", "y")):
            save(root / folder / f"{name}.png", (red, 0, 100 + 10 * number))
    return root


def test_files_of_two_folders_are_matched_by_their_stems(two):
    splits = opened("two_folders", two).splits
    assert splits.train_input.names == ["2.bmp", "10.png", "sub folder/c.png", "ü b.bmp"]
    assert splits.train_target.names == ["2.png", "10.bmp", "sub folder/c.bmp", "ü b.png"]
    for image, target in zip(splits.train_input, splits.train_target, strict=True):
        assert color(image)[0] == 0
        assert color(target) == [200, 0, color(image)[2]]
    assert splits.partners() == [0, 1]


def test_all_files_without_a_partner_are_listed(two):
    alone = [save(two / "pairA" / f"alone {number:02}.png", (0, 0, 0)) for number in range(30)]
    alone.append(save(two / "pairB" / "other.png", (0, 0, 0)))
    message = failure("two_folders", two)
    assert all(f"{path} has no partner in {two / 'pairB'}" in message for path in alone[:30])
    assert f"{alone[-1]} has no partner in {two / 'pairA'}" in message
    assert message.startswith("31 files")


@pytest.mark.parametrize(("ours", "theirs"), [("Caf\u00e9.1.png", "Cafe\u0301.1.png"), ("IMG.1.png", "img.1.jpg")])
def test_a_partner_that_only_looks_alike_is_named(two, ours, theirs):
    save(two / "pairA" / ours, (0, 0, 0))
    save(two / "pairB" / theirs, (0, 0, 0))
    message = failure("two_folders", two)
    assert f"{two / 'pairA' / ours} has no partner in {two / 'pairB'} (but {theirs}: with other capitals" in message
    assert f"{two / 'pairB' / theirs} has no partner in {two / 'pairA'} (but {ours}: with other capitals" in message


def test_files_without_a_partner_or_content_are_skipped_on_request(two, caplog):
    save(two / "pairA" / "alone.png", (0, 0, 0))
    (two / "pairB" / "10.bmp").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        splits = opened("two_folders", two, on_bad_file="skip").splits
    assert splits.train_input.names == ["2.bmp", "sub folder/c.png", "ü b.bmp"]
    assert splits.train_target.names == ["2.png", "sub folder/c.bmp", "ü b.png"]
    assert [color(image)[2] for image in splits.train_input] == [color(image)[2] for image in splits.train_target]
    assert "alone.png has no partner" in caplog.text


@pytest.mark.parametrize("missing", ["testA", "testB"])
def test_half_of_the_held_out_pairs_is_refused(two, missing):
    shutil.rmtree(two / missing)
    assert f"no folder {missing} in" in failure("two_folders", two)


def test_without_held_out_folders_pairs_that_were_trained_on_are_shown(two, caplog):
    for folder in ("testA", "testB"):
        shutil.rmtree(two / folder)
    for number in range(9):  # sorts first and has no partner: must not use up what is shown
        save(two / "pairA" / f"0{number}.png", (0, 0, 0))
    made = opened("two_folders", two, on_bad_file="skip")
    assert "training images" in caplog.text
    assert made.splits.test_input.names == made.splits.train_input.names
    assert made.splits.partners() == [0, 1, 2, 3]


def test_both_missing_folders_are_named_at_once(two):
    for folder in ("pairA", "pairB"):
        shutil.rmtree(two / folder)
    message = failure("two_folders", two)
    assert all(f"{two / folder} does not exist" in message for folder in ("pairA", "pairB"))


def test_two_files_of_one_stem_are_refused(two):
    save(two / "pairA" / "2.png", (0, 0, 0))
    message = failure("two_folders", two)
    assert str(two / "pairA" / "2.bmp") in message
    assert str(two / "pairA" / "2.png") in message


def test_pairs_of_two_aspects_are_refused_when_aspects_are_kept(two):
    save(two / "pairB" / "ü b.png", (200, 0, 20), width=60)
    message = failure("two_folders", two, resize="short_side")
    assert "ü b.bmp and its partner ü b.png have different aspects: 28x28 and 42x28" in message
    assert len(opened("two_folders", two).splits.train_input) == 4, "squashed to squares they fit"


def test_folders_without_a_common_name_are_refused(two):
    shutil.rmtree(two / "pairB")
    save(two / "pairB" / "other.png", (0, 0, 0))
    assert "have no two files named alike" in failure("two_folders", two, on_bad_file="skip")


@pytest.fixture
def beside(tmp_path) -> Path:
    for folder in ("train", "val"):
        for number in range(3):
            pixels = np.zeros((40, 80, 3), dtype=np.uint8)
            pixels[:, :40] = (10, number, 0)
            pixels[:, 40:] = (200, number, 99)
            pixels[0, 0] = [folder == "val"] * 3  # no picture is in both
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(("direction", "expected"), [("AtoB", (10, 200)), ("BtoA", (200, 10))])
def test_halves_become_input_and_target(beside, direction, expected):
    splits = opened("side_by_side", beside, direction=direction).splits
    assert len(splits.train_input) == len(splits.test_input) == 3
    for number, (image, target) in enumerate(zip(splits.train_input, splits.train_target, strict=True)):
        assert image.shape == target.shape == (3, 28, 28)
        assert (color(image)[0], color(target)[0]) == expected, "nothing bled over the seam"
        assert color(image)[1] == color(target)[1] == number
    assert splits.partners() == [0, 1, 2]


def test_pictures_that_hold_no_two_halves_are_all_named(beside):
    save(beside / "train" / "odd.png", (0, 0, 0), width=81)
    save(beside / "val" / "single.png", (0, 0, 0), width=40)
    message = failure("side_by_side", beside)
    assert f"{beside / 'train' / 'odd.png'} is 81x40: an odd width" in message
    assert f"{beside / 'val' / 'single.png'} is 40x40, 1.00:1, too far from 2:1" in message
    assert message.count("odd.png") == 1, "said once for both halves"


def test_a_half_that_failed_alone_does_not_shift_the_others(beside, monkeypatch):
    calls, open_image = [], image_files.open_image

    def fails_once(path):
        calls.append(path)
        if path == beside / "train" / "1.png" and calls.count(path) == 1:
            raise image_files.ImageFileError(path, "cannot be read (network)")
        return open_image(path)

    monkeypatch.setattr(image_files, "open_image", fails_once)
    splits = opened("side_by_side", beside, on_bad_file="skip").splits
    assert splits.train_input.names == splits.train_target.names == ["0.png", "2.png"]
    assert [color(target)[1] for target in splits.train_target] == [0, 2]


def test_pictures_of_one_stem_are_pairs_of_their_own(beside):
    for folder in ("train", "val"):
        save(beside / folder / "0.bmp", (77 + len(folder), 5, 0), width=80)
    splits = opened("side_by_side", beside).splits
    assert splits.partners() == [0, 1, 2, 3]
    for image, target in zip(splits.train_input, splits.train_target, strict=True):
        assert color(image)[1] == color(target)[1]


def test_halves_not_whole_pictures_must_be_large_enough(beside):
    assert "is 40x40, smaller than 50 pixels" in failure("side_by_side", beside, min_side=50)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_bad_file": "ignore"}, "data.on_bad_file must be error or skip; got 'ignore'"),
        ({"cache": "tape"}, "data.cache must be disk or ram; got 'tape'"),
        ({"eval_size": 8}, "data.eval_size must be at least 16 pixels; got 8"),
        ({"batch_size": 0}, "data.batch_size must be at least 1; got 0"),
        ({"max_half_aspect": "x"}, "data.max_half_aspect must be a number, at least 1; got 'x'"),
    ],
)
def test_wrong_values_are_named(beside, changes, message):
    with pytest.raises(UserError) as caught:
        module("side_by_side", beside, **changes)
    assert message in str(caught.value)


def test_a_derivation_that_computes_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.derive is 'edges'.*data/derive="):
        module("derived", tmp_path, derive="edges")
    with pytest.raises(UserError, match=r"data\.layout must be one of side_by_side.*got 'foo'"):
        PairedDataModule.from_layout("foo", **LOADING)


def test_an_unknown_direction_is_refused(beside):
    with pytest.raises(UserError, match=r"data\.direction must be AtoB .* got 'BA'"):
        module("side_by_side", beside, direction="BA")


@pytest.mark.parametrize("derive", [Grayscale(), LowResolution(2)])
def test_inputs_are_derived_from_the_resized_photograph(tmp_path, derive):
    rng = np.random.default_rng(0)
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(tmp_path / folder / "a.png")
    splits = opened("derived", tmp_path, derive=derive).splits
    pairs = ((splits.train_input[0], splits.train_target[0], 28), (splits.test_input[0], splits.test_target[0], 24))
    for folder, (image, target, size) in zip(("train", "test"), pairs, strict=True):
        with Image.open(tmp_path / folder / "a.png") as photo:
            small = photo.resize((size, size), Image.Resampling.BICUBIC)
        assert np.array_equal(target.permute(1, 2, 0).numpy(), np.asarray(small))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(derive(small)))


def test_scenes_are_pairs_in_training_too():
    made = PairedDataModule.from_layout(
        "scenes", **LOADING, scene_seed=5, count=2, test_count=1, size=32, cache="ram", cache_dir=None
    )
    made.setup("fit")
    for index in range(2):
        photo, painted = render_pair(5, index, 32)
        assert np.array_equal(made.splits.train_input[index].permute(1, 2, 0).numpy(), photo)
        assert np.array_equal(made.splits.train_target[index].permute(1, 2, 0).numpy(), painted)
    assert made.summary() == "2 pairs, 1 held out"


class Mapped(list):
    """Pictures whose pixels say where they are: (row, column, number)."""

    def __init__(self, count: int, height: int = 40, width: int = 50) -> None:
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        images = [torch.stack([rows, columns, torch.full_like(rows, number)]) for number in range(count)]
        super().__init__(image.to(torch.uint8) for image in images)


def test_crop_and_flip_are_the_same_for_both_pictures_of_a_pair():
    augment = v2.Compose([v2.RandomCrop(16), v2.RandomHorizontalFlip(0.5)])
    ours = PairedDataset(Mapped(3), Mapped(3), augment, seed=0)
    places = set()
    for epoch in range(200):
        for index in range(len(ours)):
            item = ours[Position(epoch, index)]
            assert item["input"].shape == (3, 16, 16)
            assert torch.equal(item["input"], item["target"]), "every pixel of both is from the same place"
            assert (item["input"][2] == index).all()
            columns = item["input"][1]
            places.add((item["input"][0, 0, 0].item(), columns.min().item(), (columns[0, 0] > columns[0, 1]).item()))
    assert {top for top, _, _ in places} == set(range(25))
    assert {left for _, left, _ in places} == set(range(35))
    assert {mirrored for _, _, mirrored in places} == {False, True}


def test_samples_repeat_and_leave_the_global_generator_alone():
    augment = v2.RandomCrop(16)
    state = torch.get_rng_state()
    first = PairedDataset(Mapped(3), Mapped(3), augment, seed=1)[Position(2, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    again = PairedDataset(Mapped(3), Mapped(3), augment, seed=1)[Position(2, 1)]
    assert torch.equal(first["input"], again["input"])
    others = [(seed, epoch) for seed in (1, 2, 3) for epoch in (2, 3, 4)]
    crops = {
        tuple(PairedDataset(Mapped(3), Mapped(3), augment, seed=seed)[Position(epoch, 1)]["input"][:2, 0, 0].tolist())
        for seed, epoch in others
    }
    assert len(crops) > 5


def test_a_target_one_pixel_larger_is_brought_to_the_inputs_size():
    item = PairedDataset(Mapped(1, 20, 30), Mapped(1, 20, 31), v2.Identity(), seed=0)[Position(0, 0)]
    assert item["input"].shape == item["target"].shape == (3, 20, 30)


def test_batches_hold_pairs_in_the_range_of_images(two):
    made = opened("two_folders", two)
    (first, _) = [made.on_after_batch_transfer(batch, 0) for batch in made.train_dataloader()]
    assert set(first) == {"input", "target"}
    for images in first.values():
        assert images.shape == (2, 3, 24, 24)
        assert images.min() >= -1
        assert images.max() <= 1
    assert (first["target"][:, 0] > first["input"][:, 0]).all()


def test_a_missing_root_is_named():
    with pytest.raises(UserError, match=r"data\.root is not set.*pairA/ and pairB/"):
        module("two_folders", None)
    with pytest.raises(UserError, match=r"data\.root is not set.*train/"):
        module("derived", None)
