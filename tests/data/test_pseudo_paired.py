"""Pseudo pairs and unpaired pictures side by side: even showing, equal crops of a pair, and what is refused."""

import itertools
import logging
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image
from torchvision.transforms import v2

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.pair_sources import PseudoPairScenes
from lit_ghibli.data.pseudo_paired import PseudoPairedDataModule, PseudoPairedDataset
from lit_ghibli.data.sampling import EpochSampler, Position
from lit_ghibli.data.sources import FIRST_HELD_OUT
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import config_dir
from lit_ghibli.scenes.scene import render_pair
from lit_ghibli.trust import instantiate_trusted

KEYS = ("pair_a", "pair_b", "photo", "anime")
LOADING = {"crop_size": 24, "flip": 0.5, "batch_size": 2, "num_workers": 0, "seed": 4}
SCENES = {"scene_seed": 0, "count": 5, "pairs": 3, "test_count": 2, "size": 32, "cache": "ram", "cache_dir": None}
READING = {"load_size": 28, "eval_size": 24, "resize": "squash", "min_side": 20, "on_bad_file": "error"}
READING |= {"cache": "ram", "cache_dir": None}
NAMES = {"pair_input": "pairA", "pair_target": "pairB", "train_photo": "trainA", "train_anime": "trainB"}
NAMES |= {"test_photo": "testA", "test_anime": "testB"}
FILES = {  # extensions differ between partners; only the first photograph that is held out has one
    "pairA": ("2.png", "10.png", "sub folder/ü.png"),
    "pairB": ("2.bmp", "10.png", "sub folder/ü.bmp"),
    "trainA": ("a.png", "b.png", "c.png", "d.png", "e.png"),
    "trainB": ("x.png", "y.png"),
    "testA": ("1.png", "3.png"),
    "testB": ("1.bmp", "3.png", "extra.png"),
}


class Mapped(list):
    """Pictures whose pixels say where they are: (row, column, number), or 255 less of each."""

    def __init__(self, count: int, negative: bool = False) -> None:
        rows, columns = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
        images = [torch.stack([rows, columns, torch.full_like(rows, number)]) for number in range(count)]
        super().__init__((255 - image if negative else image).to(torch.uint8) for image in images)


def dataset(pairs: int, photos: int, animes: int, seed: int = 0) -> PseudoPairedDataset:
    augment = v2.Compose([v2.RandomCrop(16), v2.RandomHorizontalFlip(0.5)])
    sets = (Mapped(pairs), Mapped(pairs, negative=True), Mapped(photos), Mapped(animes))
    return PseudoPairedDataset(*sets, augment, seed)


def numbers(item: dict[str, torch.Tensor]) -> tuple[int, int, int]:
    """Which pair, photograph and anime picture a sample shows."""
    return tuple(item[key][2, 0, 0].item() for key in ("pair_a", "photo", "anime"))


def place(crop: torch.Tensor) -> tuple[int, int, bool]:
    """Top, left and mirroring of a crop."""
    columns = crop[1].int()
    return crop[0, 0, 0].item(), columns.min().item(), (columns[0, 0] > columns[0, 1]).item()


def scenes(**changes) -> PseudoPairedDataModule:
    module = PseudoPairedDataModule.from_scenes(**LOADING | SCENES | changes)
    module.setup("fit")
    return module


def source_folders(root: Path | None, **changes) -> PseudoPairedDataModule:
    return PseudoPairedDataModule.from_folders(**LOADING | READING | NAMES | {"root": root} | changes)


def opened(root: Path, **changes) -> PseudoPairedDataModule:
    module = source_folders(root, **changes)
    module.setup("fit")
    return module


def failure(root: Path, **changes) -> str:
    with pytest.raises(FolderError) as caught:
        opened(root, **changes)
    return str(caught.value)


def picture(path: Path, level: int, width: int = 30, height: int = 30) -> Path:
    """A picture of one grey level, which tells it from all others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (level, level, level)).save(path)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """All six folders; partners have levels 100 apart."""
    root = tmp_path / "Bilder für Ghibli"
    for start, (folder, files) in zip((0, 100, 10, 110, 20, 120), FILES.items(), strict=True):
        for number, name in enumerate(files):
            picture(root / folder / name, start + number)
    return root


def test_both_halves_of_a_pair_are_cut_and_mirrored_alike_and_the_others_on_their_own():
    ours = dataset(2, 3, 3)
    items = [ours[Position(epoch, index)] for epoch in range(100) for index in range(3)]
    for item in items:
        assert tuple(item) == KEYS
        assert all(image.shape == (3, 16, 16) and image.dtype == torch.uint8 for image in item.values())
        assert torch.equal(item["pair_b"], 255 - item["pair_a"]), "every pixel of both is from the same place"
    for key in ("pair_a", "photo", "anime"):
        places = [place(item[key]) for item in items]
        assert {top for top, _, _ in places} == set(range(25))
        assert {mirrored for _, _, mirrored in places} == {False, True}
    for one, other in itertools.combinations(("pair_a", "photo", "anime"), 2):
        # Of 25 * 35 * 2 places, two crops that know nothing of each other share one once in 1750 samples.
        assert sum(place(item[one]) == place(item[other]) for item in items) < 10


@pytest.mark.parametrize("counts", [(5, 3, 7), (7, 5, 3), (1, 4, 6)])
def test_over_whole_epochs_all_of_a_set_are_shown_equally_often(counts):
    ours = dataset(*counts)
    assert len(ours) == max(counts)
    shown = [Counter() for _ in counts]
    for epoch in range(6):
        for index in range(len(ours)):
            for counter, number in zip(shown, numbers(ours[Position(epoch, index)]), strict=True):
                counter[number] += 1
        for counter, count in zip(shown, counts, strict=True):
            assert set(counter) == set(range(count))
            assert max(counter.values()) - min(counter.values()) <= 1


def test_part_of_an_epoch_in_order_shows_all_equally_often():
    ours = dataset(5, 3, 7)
    shown = [Counter({number: 0 for number in range(count)}) for count in (5, 3, 7)]
    for epoch, index in itertools.product(range(4), range(7)):
        for counter, number in zip(shown, numbers(ours[Position(epoch, index)]), strict=True):
            counter[number] += 1
            assert max(counter.values()) - min(counter.values()) <= 1


def test_ranks_together_show_all_equally_often_where_they_divide_the_epoch():
    ours = dataset(5, 3, 12)
    shown = [Counter() for _ in range(3)]
    for epoch in range(5):
        for rank in range(3):
            sampler = EpochSampler(len(ours), seed=1, rank=rank, world_size=3)
            sampler.set_epoch(epoch)
            for position in sampler:
                for counter, number in zip(shown, numbers(ours[position]), strict=True):
                    counter[number] += 1
    for counter, count in zip(shown, (5, 3, 12), strict=True):
        assert set(counter.values()) <= {60 // count, -(-60 // count)}
        assert sum(counter.values()) == 60


def test_combinations_change_from_epoch_to_epoch():
    ours = dataset(6, 6, 6)
    epochs = [frozenset(numbers(ours[Position(epoch, index)]) for index in range(6)) for epoch in range(20)]
    assert len(set(epochs)) == 20
    # A photograph keeps its pair and its anime picture once in 36 epochs on average.
    assert sum(len(one & other) for one, other in itertools.pairwise(epochs)) < 20


def test_a_position_decides_everything_and_the_global_generator_nothing():
    state = torch.get_rng_state()
    first = dataset(5, 3, 7, seed=1)[Position(2, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    again = dataset(5, 3, 7, seed=1)[Position(2, 1)]
    assert all(torch.equal(first[key], again[key]) for key in KEYS)
    for seed, epoch, index in ((2, 2, 1), (1, 3, 1), (1, 2, 4)):
        other = dataset(5, 3, 7, seed=seed)[Position(epoch, index)]
        assert all(not torch.equal(first[key], other[key]) for key in KEYS)


def test_seeds_give_other_orders():
    orders = {
        tuple(numbers(dataset(6, 6, 6, seed=seed)[Position(0, index)]) for index in range(6)) for seed in range(5)
    }
    assert len(orders) == 5


def test_batches_are_crops_of_four_kinds_in_the_range_of_images():
    module = scenes()
    assert module.batch_keys == KEYS
    batches = list(module.train_dataloader())
    assert len(batches) == 5 // 2
    for batch in batches:
        assert tuple(batch) == KEYS
        for images in module.on_after_batch_transfer(batch, 0).values():
            assert images.shape == (2, 3, 24, 24)
            assert -1 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_resumed_in_mid_epoch_gives_the_same_batches(num_workers):
    def batches(loader, epoch):
        loader.sampler.set_epoch(epoch)
        return list(loader)

    straight = scenes(batch_size=1).train_dataloader()
    whole, following = batches(straight, 1), batches(straight, 2)
    broken_off = scenes(batch_size=1).train_dataloader()
    broken_off.sampler.set_epoch(1)
    begun = iter(broken_off)
    for _ in range(2):
        next(begun)
    resumed = scenes(batch_size=1, num_workers=num_workers).train_dataloader()
    resumed.load_state_dict(broken_off.state_dict())
    rest = batches(resumed, 1) + batches(resumed, 2)
    assert len(rest) == 3 + 5
    for ours, theirs in zip(rest, whole[2:] + following, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in KEYS)


def test_no_scene_is_in_two_sets():
    splits = scenes().splits
    all_scenes = {
        (domain, pixels.tobytes()): index
        for index in (*range(13), FIRST_HELD_OUT, FIRST_HELD_OUT + 1)
        for domain, pixels in enumerate(render_pair(0, index, 32))
    }

    def shown(images, domain) -> list[int]:
        return [all_scenes[domain, image.permute(1, 2, 0).numpy().tobytes()] for image in images]

    pairs, held_out = shown(splits.pair_input, 0), shown(splits.test_input, 0)
    assert pairs == shown(splits.pair_target, 1)
    assert held_out == shown(splits.test_target, 1)
    unpaired = shown(splits.train_input, 0), shown(splits.train_target, 1)
    assert [len(part) for part in (pairs, held_out, *unpaired)] == [3, 2, 5, 5]
    assert len({*pairs, *held_out, *unpaired[0], *unpaired[1]}) == 15


def test_more_held_out_scenes_than_in_training_are_none_that_were_trained_on():
    def fields(**changes):
        return PseudoPairScenes(**SCENES | {"paired": False} | changes)

    trained = fields().load()
    more = fields(test_count=9).load(training=False)
    assert (more.train_input, more.pair_input) == (None, None)
    trained_on = {image.numpy().tobytes() for part in (trained.pair_input, trained.train_input) for image in part}
    assert not trained_on & {image.numpy().tobytes() for image in more.test_input}


def test_held_out_scenes_come_with_their_partners():
    module = scenes()
    inputs, targets = (list(loader) for loader in module.val_dataloader())
    assert len(inputs) == len(targets) == 2
    for pair, target in zip(inputs, targets, strict=True):
        assert torch.equal(pair["target"], target["target"])
        assert pair["input"].shape == (1, 3, 32, 32)


def test_summary_counts(root):
    assert scenes().summary() == ("3 pseudo pairs, 5 photos, 5 anime pictures, 2 photos and 2 anime pictures held out")
    assert opened(root).summary() == (
        "3 pseudo pairs, 5 photos, 2 anime pictures, 2 photos and 3 anime pictures held out"
    )


def levels(images) -> list[int]:
    assert all((image == image[0, 0, 0]).all() for image in images)
    return [image[0, 0, 0].item() for image in images]


def test_six_folders_are_read_and_pairs_and_partners_matched_by_name(root):
    module = opened(root)
    splits = module.splits
    assert splits.pair_input.names == ["2.png", "10.png", "sub folder/ü.png"]
    assert splits.pair_target.names == ["2.bmp", "10.png", "sub folder/ü.bmp"]
    assert (levels(splits.pair_input), levels(splits.pair_target)) == ([0, 1, 2], [100, 101, 102])
    assert (levels(splits.train_input), levels(splits.train_target)) == ([10, 11, 12, 13, 14], [110, 111])
    assert {tuple(image.shape) for image in (*splits.pair_input, *splits.pair_target)} == {(3, 28, 28)}
    for number, batch in enumerate(module.val_dataloader()[0]):
        assert (levels(batch["input"]), levels(batch["target"])) == ([20 + number], [120 + number])
    for batch in module.train_dataloader():
        assert levels(batch["pair_b"]) == [100 + level for level in levels(batch["pair_a"])]


def test_held_out_pictures_need_no_training_folders(root):
    for folder in ("pairA", "pairB", "trainA", "trainB"):
        shutil.rmtree(root / folder)
    splits = source_folders(root).source.load(training=False)
    assert (splits.pair_input, splits.pair_target, splits.train_input, splits.train_target) == (None,) * 4
    assert (len(splits.test_input), len(splits.test_target)) == (2, 3)


def test_without_held_out_folders_training_pictures_are_shown_and_pairs_are_not_needed(root, caplog):
    for folder in ("testA", "testB", "pairA", "pairB"):
        shutil.rmtree(root / folder)
    with caplog.at_level(logging.WARNING):
        splits = source_folders(root).source.load(training=False)
    assert (levels(splits.test_input), levels(splits.test_target)) == ([10, 11, 12, 13, 14], [110, 111])
    assert splits.partners() is None
    assert "no folder testA in" in caplog.text
    assert len(caplog.records) == 2, "said once for each folder"


def test_all_missing_folders_are_named_at_once(root):
    for folder in ("pairA", "pairB", "trainA", "trainB"):
        shutil.rmtree(root / folder)
    message = failure(root)
    assert all(f"{root / folder} does not exist" in message for folder in ("pairA", "pairB", "trainA", "trainB"))
    with pytest.raises(UserError, match=r"data\.root is not set.*pairA/ and pairB/ and trainA/ and trainB/"):
        source_folders(None)


def test_files_of_pairs_without_a_partner_are_listed_or_skipped(root, caplog):
    alone = picture(root / "pairA" / "alone.png", 50), picture(root / "pairB" / "other.png", 51)
    message = failure(root)
    assert f"{alone[0]} has no partner in {root / 'pairB'}" in message
    assert f"{alone[1]} has no partner in {root / 'pairA'}" in message
    with caplog.at_level(logging.WARNING):
        splits = opened(root, on_bad_file="skip").splits
    assert "alone.png has no partner" in caplog.text
    assert (levels(splits.pair_input), levels(splits.pair_target)) == ([0, 1, 2], [100, 101, 102])


def test_pairs_of_two_aspects_are_refused_when_aspects_are_kept(root):
    picture(root / "pairB" / "10.png", 101, width=45)
    assert "10.png and its partner 10.png have different aspects: 28x28 and 42x28" in failure(root, resize="short_side")
    splits = opened(root, resize="short_side", on_bad_file="skip").splits
    assert (levels(splits.pair_input), levels(splits.pair_target)) == ([0, 2], [100, 102])
    assert len(opened(root).splits.pair_input) == 3, "squashed to squares they fit"


def test_bad_files_of_all_six_folders_are_reported_at_once(root):
    bad = [root / folder / files[0] for folder, files in FILES.items()]
    for number, path in enumerate(bad):
        path.write_bytes(b"no picture" + bytes([number]))
    message = failure(root)
    assert all(f"{path} is not an image" in message for path in bad)


@pytest.mark.parametrize(
    "trained", [["pairA/2.png"], ["trainA/b.png"], ["pairB/10.png"], ["trainB/y.png"], ["pairA/2.png", "trainA/b.png"]]
)
def test_held_out_pictures_are_in_neither_training_set(root, trained):
    for path in trained:
        held_out = root / ("testA" if "A/" in path else "testB") / f"copy of {Path(path).name}"
        shutil.copyfile(root / path, held_out)
    message = failure(root)
    assert "seen in training" in message
    for path in trained:
        assert f"copy of {Path(path).name} is the training image {root / path}" in message


def test_a_photograph_may_be_in_a_pair_and_unpaired(root):
    shutil.copyfile(root / "trainA" / "a.png", root / "pairA" / "2.png")
    assert levels(opened(root).splits.pair_input) == [10, 1, 2]


def test_the_disk_cache_gives_the_same_pictures(root, tmp_path):
    ram = opened(root).splits
    for _ in range(2):
        disk = opened(root, cache="disk", cache_dir=tmp_path / "cache").splits
        for name in ("pair_input", "pair_target", "train_input", "test_target"):
            assert levels(getattr(ram, name)) == levels(getattr(disk, name))
    assert len(list((tmp_path / "cache").glob("*.pack"))) == 6


@pytest.mark.parametrize("field", ["pairs", "count"])
def test_empty_sets_of_scenes_are_refused(field):
    with pytest.raises(UserError, match=rf"data\.{field} must be at least 1; got 0"):
        scenes(**{field: 0})


def from_command_line(*overrides: str) -> PseudoPairedDataModule:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", [*overrides, "data.cache=ram", "name=x", "run_dir=y"])
    module = instantiate_trusted(OmegaConf.to_container(config.data, resolve=True))
    module.setup("fit")
    return module


def test_scenes_are_served_as_the_recipe_says_from_the_command_line():
    module = from_command_line("data=semi_scenes", "data.count=2", "data.pairs=3", "data.test_count=1")
    assert module.summary().startswith("3 pseudo pairs, 2 photos, 2 anime pictures, 1 photos")
    batches = list(module.train_dataloader())
    assert [batch["pair_b"].shape for batch in batches] == [(1, 3, 112, 112)] * 3


def test_folders_are_served_as_the_recipe_says_from_the_command_line(root):
    sizes = ["data.crop_size=24", "data.load_size=28"]
    module = from_command_line("data=pseudo_paired", f'data.root="{root}"', *sizes)
    assert module.summary().startswith("3 pseudo pairs, 5 photos, 2 anime pictures, 2 photos and 3")
    assert [tuple(batch) for batch in module.train_dataloader()] == [KEYS] * 5
