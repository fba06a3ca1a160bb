import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image, ImageOps

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.painted_photos import PaintedPhotos
from lit_ghibli.data.paired import PairedDataModule
from lit_ghibli.data.pseudo_paired import PseudoPairedDataModule
from lit_ghibli.data.unpaired import UnpairedDataModule
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import build, build_painter, config_dir

LOADING = {"crop_size": 24, "flip": 0.5, "batch_size": 1, "num_workers": 0, "seed": 4}
SIZES = {"load_size": 28, "eval_size": 20, "resize": "squash", "min_side": 4, "on_bad_file": "error"}
SIZES |= {"cache": "ram", "cache_dir": None, "held_out": 2, "crops": 1}


SAMPLE = (32, 32)  # size of what is painted at each load to see what the painter does


@dataclass(frozen=True)
class Negative:
    """Stands for a painter, and remembers the sizes of what it paints."""

    strength: float = 1.0
    sizes: ClassVar[list[tuple[int, int]]] = []

    def __call__(self, photo: Image.Image) -> Image.Image:
        self.sizes.append(photo.size)
        return ImageOps.invert(photo)

    @classmethod
    def painted(cls) -> list[tuple[int, int]]:
        """Sizes of photographs, no sample among them."""
        return [size for size in cls.sizes if size != SAMPLE]


@pytest.fixture(autouse=True)
def _nothing_painted() -> Iterator[None]:
    Negative.sizes.clear()
    yield
    Negative.sizes.clear()


def save(path: Path, level: int, width: int = 32, height: int = 24) -> Path:
    """A picture of one grey level below 128, which tells it from all others and from all painted ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (level, level, level)).save(path)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """Twelve photographs, two of them in a subfolder."""
    root = tmp_path / "Fotos für Ghibli"
    for number in range(12):
        save(root / ("sub folder" if number in (3, 8) else "") / f"ü {number}.png", 10 * number)
    return root


def source(root: Path, use: str = "pairs", **changes) -> PaintedPhotos:
    return PaintedPhotos(use=use, **SIZES | {"root": root, "painter": Negative()} | changes)


def levels(pictures) -> list[int]:
    return [int(picture.float().mean().round()) for picture in pictures]


def negatives(pictures) -> list[int]:
    """Levels of the photographs that painted pictures are of."""
    return [255 - level for level in levels(pictures)]


def test_every_photograph_is_held_out_or_trained_on_with_its_painting(root):
    splits = source(root).load()
    trained, held_out = levels(splits.train_input), levels(splits.test_input)
    assert len(held_out) == 2
    assert sorted(trained + held_out) == [10 * number for number in range(12)]
    assert negatives(splits.train_target) == trained
    assert negatives(splits.test_target) == held_out
    assert splits.train_input.names == splits.train_target.names
    assert splits.partners() == [0, 1]
    assert {tuple(picture.shape) for picture in splits.train_target} == {(3, 28, 28)}
    assert {tuple(picture.shape) for picture in (*splits.test_input, *splits.test_target)} == {(3, 20, 20)}


def test_pairs_are_what_the_painter_makes_of_the_resized_photograph(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((64, 48)).save(tmp_path / f"{number}.png")
    painter = build_painter("meadow")
    splits = source(tmp_path, painter=painter, resize="area", held_out=1).load()
    assert len(splits.train_input) == 2
    for name, photo, painted in zip(splits.train_input.names, splits.train_input, splits.train_target, strict=True):
        # 28 * 28 pixels of the aspect 4:3
        resized = Image.open(tmp_path / name).resize((32, 24), Image.Resampling.BICUBIC)
        assert np.array_equal(photo.permute(1, 2, 0).numpy(), np.asarray(resized))
        assert np.array_equal(painted.permute(1, 2, 0).numpy(), np.asarray(painter(resized)))
        assert not torch.equal(photo, painted)


def test_pictures_are_painted_in_one_thread_so_that_rounding_does_not_depend_on_cores(root, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(Negative, "__call__", lambda _, photo: seen.append(torch.get_num_threads()) or photo)
    try:
        torch.set_num_threads(3)
        source(root).load()
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert len(seen) > 12
    assert set(seen) == {1}
    assert after == 3


def test_a_subfolder_test_is_held_out_whatever_the_number(root):
    for number in range(3):
        save(root / "test" / f"{number}.png", 5 + 10 * number)
    splits = source(root, held_out=1).load()
    assert sorted(levels(splits.test_input)) == [5, 15, 25]
    assert sorted(negatives(splits.test_target)) == [5, 15, 25]
    assert sorted(levels(splits.train_input)) == [10 * number for number in range(12)]
    assert set(splits.test_input.names) == {f"test/{number}.png" for number in range(3)}


def test_a_folder_that_only_begins_like_test_is_no_held_out_one(root):
    save(root / "tests" / "a.png", 5)
    assert len(source(root).load().test_input) == 2


def test_what_is_held_out_depends_on_names_alone(root, tmp_path):
    held_out = source(root).load().test_input.names
    for number in range(12):
        save(tmp_path / "elsewhere" / ("sub folder" if number in (3, 8) else "") / f"ü {number}.png", 120 - 9 * number)
    assert source(tmp_path / "elsewhere").load().test_input.names == held_out


def test_an_added_photograph_takes_the_place_of_one_that_is_held_out_at_most(root):
    before = set(source(root, held_out=4).load().test_input.names)
    replaced = 0
    for number in range(12, 24):
        save(root / f"ü {number}.png", number)
        after = set(source(root, held_out=4).load().test_input.names)
        assert len(after - before) <= 1
        replaced += len(after - before)
        before = after
    # Each is among the first four of n with probability 4 / n, n from 13 to 24: 2.7 of twelve.
    assert replaced < 8


def test_unpaired_trains_on_paintings_of_other_photographs(root):
    splits = source(root, "unpaired").load()
    photos, painted = levels(splits.train_input), negatives(splits.train_target)
    assert (len(photos), len(painted), len(splits.test_input)) == (5, 5, 2)
    assert sorted({*photos, *painted, *levels(splits.test_input)}) == [10 * number for number in range(12)]
    assert splits.partners() == [0, 1], "held-out photographs have theirs"
    assert negatives(splits.test_target) == levels(splits.test_input)


def test_semi_trains_on_a_third_in_pairs_and_on_the_rest_unpaired(root):
    splits = source(root, "semi", held_out=3).load()
    pairs = levels(splits.pair_input)
    assert negatives(splits.pair_target) == pairs
    sets = [pairs, levels(splits.train_input), negatives(splits.train_target), levels(splits.test_input)]
    assert [len(numbers) for numbers in sets] == [3, 3, 3, 3]
    assert sorted(number for numbers in sets for number in numbers) == [10 * number for number in range(12)]


def test_crops_make_an_epoch_longer_and_show_all_equally_often(root):
    once, thrice = source(root).load(), source(root, crops=3).load()
    assert levels(thrice.train_input) == 3 * levels(once.train_input)
    assert levels(thrice.train_target) == 3 * levels(once.train_target)
    assert levels(thrice.test_input) == levels(once.test_input)
    module = PairedDataModule.from_layout("painted", **LOADING | SIZES | {"root": root, "painter": Negative()})
    longer = PairedDataModule.from_layout(
        "painted", **LOADING | SIZES | {"root": root, "painter": Negative(), "crops": 3}
    )
    for made in (module, longer):
        made.setup("fit")
    assert len(longer.train_dataloader()) == 3 * len(module.train_dataloader()) == 30


def test_crops_of_a_pair_are_of_one_place(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    module = PairedDataModule.from_layout("painted", **LOADING | SIZES | {"root": tmp_path, "painter": Negative()})
    module.setup("fit")
    batches = list(module.train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert batch["input"].shape == (1, 3, 24, 24)
        assert torch.equal(batch["target"], 255 - batch["input"])


@pytest.mark.parametrize(
    ("module", "keys"),
    [
        (UnpairedDataModule, ("photo", "anime")),
        (PseudoPairedDataModule, ("pair_a", "pair_b", "photo", "anime")),
    ],
)
def test_modules_serve_photographs_and_painted_ones(root, module, keys):
    made = module.from_painted(**LOADING | SIZES | {"root": root, "painter": Negative()})
    made.setup("fit")
    for batch in made.train_dataloader():
        assert tuple(batch) == keys
        painted = {key for key, picture in batch.items() if picture.float().mean() > 127}
        assert painted == {"anime", "pair_b"} & set(keys)
        assert all(picture.shape == (1, 3, 24, 24) for picture in batch.values())


def test_pictures_on_disk_are_painted_once(root, tmp_path):
    cache = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    first = source(root, **cache).load()
    assert sorted(Negative.painted()) == sorted([(28, 28)] * 10 + [(20, 20)] * 2)
    again = source(root, **cache, crops=2).load()
    assert len(Negative.painted()) == 12
    assert negatives(again.train_target) == 2 * negatives(first.train_target)
    source(root, **cache, painter=Negative(strength=0.5)).load()
    assert len(Negative.painted()) == 24, "other settings"
    source(root, **cache, use="unpaired").load()
    assert len(Negative.painted()) == 24 + 5, "held-out ones are the same"


def test_a_painter_of_the_same_settings_that_paints_otherwise_finds_no_old_pictures(root, tmp_path, monkeypatch):
    cache = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    first = source(root, **cache).load()
    monkeypatch.setattr(Negative, "__call__", lambda self, photo: ImageOps.invert(photo).point(lambda level: level - 9))
    changed = source(root, **cache).load()
    assert changed.train_input.names == first.train_input.names
    for before, after in ((first.train_target, changed.train_target), (first.test_target, changed.test_target)):
        assert levels(after) == [level - 9 for level in levels(before)]


def test_a_load_from_the_cache_paints_a_small_sample_alone(root, tmp_path):
    cache = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    source(root, **cache).load()
    Negative.sizes.clear()
    source(root, **cache).load(training=False)
    assert Negative.sizes == [SAMPLE]
    source(root, **cache).load()
    assert set(Negative.sizes) == {SAMPLE}


def test_what_is_held_out_is_opened_without_painting_the_rest(root):
    splits = source(root).load(training=False)
    assert (splits.train_input, splits.train_target, splits.pair_input) == (None, None, None)
    assert Negative.painted() == [(20, 20)] * 2
    assert splits.partners() == [0, 1]


@pytest.mark.parametrize(
    ("use", "count", "held_out"), [("pairs", 2, 2), ("pairs", 1, 5), ("unpaired", 3, 2), ("semi", 4, 2)]
)
def test_too_few_photographs_are_refused(tmp_path, use, count, held_out):
    for number in range(count):
        save(tmp_path / f"{number}.png", number)
    with pytest.raises(FolderError) as caught:
        source(tmp_path, use, held_out=held_out).load()
    told = f"{tmp_path} has {count} photographs, of which {min(count, held_out)} are held out: too few are left"
    assert told in str(caught.value)
    assert "data.held_out" in str(caught.value)


@pytest.mark.parametrize(("use", "count"), [("pairs", 3), ("unpaired", 4), ("semi", 5)])
def test_the_fewest_photographs_are_enough(tmp_path, use, count):
    for number in range(count):
        save(tmp_path / f"{number}.png", number)
    splits = source(tmp_path, use).load()
    assert (len(splits.train_input), len(splits.train_target), len(splits.test_input)) == (1, 1, 2)


def test_held_out_photographs_need_no_others(tmp_path):
    save(tmp_path / "test" / "a.png", 3)
    splits = source(tmp_path).load(training=False)
    assert (levels(splits.test_input), negatives(splits.test_target)) == ([3], [3])


def test_a_photograph_in_training_and_test_is_refused(root):
    twin = root / "test" / "twin.png"
    twin.parent.mkdir()
    twin.write_bytes((root / "ü 5.png").read_bytes())
    with pytest.raises(FolderError) as caught:
        source(root).load()
    assert str(twin) in str(caught.value)
    assert str(root / "ü 5.png") in str(caught.value)


def test_bad_files_are_listed_or_skipped_from_both_halves_of_pairs(root, caplog):
    (root / "ü 0.png").write_bytes(b"no picture")
    with pytest.raises(FolderError, match=r"ü 0\.png"):
        source(root).load()
    with caplog.at_level(logging.WARNING):
        splits = source(root, on_bad_file="skip").load()
    assert len(splits.train_input) + len(splits.test_input) == 11
    assert negatives(splits.train_target) == levels(splits.train_input)
    assert "ü 0.png" in caplog.text


def test_of_equal_area_a_long_photograph_is_too_low_for_a_crop_and_a_bad_file(root):
    save(root / "wide.png", 125, 96, 24)  # becomes 56x14
    held_out = save(root / "test" / "panorama.png", 126, 96, 24)
    with pytest.raises(FolderError, match=r"wide\.png is 56x14, smaller than 20 pixels") as caught:
        source(root, resize="area", min_side=20).load()
    assert held_out.name not in str(caught.value), "is not cropped"
    splits = source(root, resize="area", min_side=20, on_bad_file="skip").load()
    assert splits.test_input.names == ["test/panorama.png"]
    assert len(splits.train_input) == 12
    assert splits.train_input.names == splits.train_target.names
    assert negatives(splits.train_target) == levels(splits.train_input)
    assert len(source(root, resize="short_side", min_side=20).load().train_input) == 13, "crops fit where sides do"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": None}, "data.root is not set: give a folder of photographs"),
        ({"held_out": 0}, "data.held_out must be at least 1; got 0"),
        ({"crops": 0}, "data.crops must be at least 1; got 0"),
        ({"load_size": 20}, "data.load_size = 20 is smaller than data.crop_size = 24"),
        ({"eval_size": 8}, "data.eval_size must be at least 16 pixels; got 8"),
        ({"cache": "tape"}, "data.cache must be disk or ram; got 'tape'"),
    ],
)
def test_mistakes_are_named_before_anything_is_read(root, changes, message):
    with pytest.raises(UserError) as caught:
        PairedDataModule.from_layout("painted", **LOADING | SIZES | {"root": root, "painter": Negative()} | changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "size"), [("painted", (640, 480)), ("painted_pairs", (480, 720)), ("painted_semi", (640, 360))]
)
def test_recipes_serve_crops_of_photographs_of_usual_aspects(tmp_path, data, size):
    for number in range(5):
        save(tmp_path / f"{number}.png", number, *size)
    with initialize_config_dir(config_dir(), version_base="1.3"):
        overrides = [f"data={data}", f"data.root={tmp_path}", "data.cache=ram", "data.held_out=1"]
        config = compose("train", [*overrides, "name=any", "run_dir=any"])
    fields = OmegaConf.to_container(config, resolve=True)["data"]
    del fields["painter"]
    module = build(fields, painter=Negative())
    module.setup("fit")
    for batch in module.train_dataloader():
        assert {tuple(picture.shape) for picture in batch.values()} == {(1, 3, 256, 256)}
