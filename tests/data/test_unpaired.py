from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lit_ghibli.data.module import HeldOutDataset
from lit_ghibli.data.sampling import Position
from lit_ghibli.data.sources import Splits
from lit_ghibli.data.unpaired import UnpairedDataModule, UnpairedDataset
from lit_ghibli.errors import UserError

SCENES = {"scene_seed": 0, "count": 7, "test_count": 3, "size": 32, "cache": "ram", "cache_dir": None}
LOADING = {"crop_size": 28, "flip": 0.5, "batch_size": 2, "num_workers": 0, "seed": 4}


class Pictures(list):
    """Stands for PackedImages."""

    def __init__(self, *images: torch.Tensor) -> None:
        super().__init__(images)
        self.names = [f"{number}.png" for number in range(len(images))]


def mapped(number: int, height: int = 40, width: int = 50) -> torch.Tensor:
    """Pixels that say where they are, and in which picture: (row, column, number)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, number)]).to(torch.uint8)


def scenes(**changes) -> UnpairedDataModule:
    module = UnpairedDataModule.from_scenes(**LOADING | SCENES | changes)
    module.setup("fit")
    return module


def dataset(photos: int, animes: int, seed: int = 0, flip: float = 0.5) -> UnpairedDataset:
    augment = v2.Compose([v2.RandomCrop(16), v2.RandomHorizontalFlip(flip)])
    pictures = [Pictures(*(mapped(number) for number in range(count))) for count in (photos, animes)]
    return UnpairedDataset(*pictures, augment, seed)


def place(crop: torch.Tensor) -> tuple[int, int, int, bool]:
    """Top, left, picture number and mirroring of a crop, after checking every one of its pixels."""
    assert crop.shape == (3, 16, 16)
    rows, columns, numbers = crop.int()
    top, number = rows[0, 0].item(), numbers[0, 0].item()
    mirrored = (columns[0, 0] > columns[0, 1]).item()
    columns = columns.flip(1) if mirrored else columns
    left = columns[0, 0].item()
    assert torch.equal(rows, torch.arange(top, top + 16).view(16, 1).expand(16, 16).int())
    assert torch.equal(columns, torch.arange(left, left + 16).view(1, 16).expand(16, 16).int())
    assert (numbers == number).all()
    assert 0 <= top <= 40 - 16
    assert 0 <= left <= 50 - 16
    return top, left, number, mirrored


def test_crops_come_from_everywhere_inside_and_half_are_mirrored():
    ours = dataset(1, 1)
    places = [place(ours[Position(epoch, 0)][key]) for epoch in range(300) for key in ("photo", "anime")]
    tops, lefts, _, mirrored = zip(*places, strict=True)
    assert set(tops) == set(range(25))
    assert set(lefts) == set(range(35))
    assert abs(sum(mirrored) - 300) < 5 * np.sqrt(600 / 4)


@pytest.mark.parametrize(("flip", "expected"), [(0.0, {False}), (1.0, {True})])
def test_mirroring_is_a_probability(flip, expected):
    ours = dataset(1, 1, flip=flip)
    assert {place(ours[Position(epoch, 0)]["photo"])[3] for epoch in range(20)} == expected


@pytest.mark.parametrize(("photos", "animes"), [(3, 8), (8, 3), (5, 5)])
def test_an_epoch_is_as_long_as_the_larger_set_and_shows_every_photograph(photos, animes):
    ours = dataset(photos, animes)
    assert len(ours) == max(photos, animes)
    shown = Counter(place(ours[Position(0, index)]["photo"])[2] for index in range(len(ours)))
    assert set(shown) == set(range(photos))
    assert max(shown.values()) - min(shown.values()) <= 1


def test_the_anime_picture_is_drawn_at_random_and_anew_in_every_epoch():
    ours = dataset(4, 4)
    drawn = [[place(ours[Position(epoch, index)]["anime"])[2] for index in range(4)] for epoch in range(250)]
    assert len({tuple(numbers) for numbers in drawn}) > 100  # of 256
    counts = Counter((index, number) for numbers in drawn for index, number in enumerate(numbers))
    # Each of 16 combinations is binomial with n = 250, p = 1/4.
    assert len(counts) == 16
    assert all(abs(count - 62.5) < 5 * np.sqrt(250 * 3 / 16) for count in counts.values())


def test_a_position_decides_everything_and_the_global_generator_nothing():
    state = torch.get_rng_state()
    first = dataset(3, 5, seed=1)[Position(2, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    again = dataset(3, 5, seed=1)[Position(2, 1)]
    assert all(torch.equal(first[key], again[key]) for key in first)
    others = [
        dataset(3, 5, seed=2)[Position(2, 1)],
        dataset(3, 5, seed=1)[Position(3, 1)],
        dataset(3, 5, seed=1)[Position(2, 4)],
    ]
    assert all(not torch.equal(first["anime"], other["anime"]) for other in others)


def test_batches_are_crops_in_the_range_of_images():
    module = scenes()
    batches = list(module.train_dataloader())
    assert len(batches) == 7 // 2
    for batch in batches:
        assert batch["photo"].dtype == torch.uint8, "to the device at a quarter of the size"
        ready = module.on_after_batch_transfer(batch, 0)
        for key in ("photo", "anime"):
            assert ready[key].shape == (2, 3, 28, 28)
            assert ready[key].dtype == torch.float32
            assert ready[key].min() >= -1
            assert ready[key].max() <= 1
            torch.testing.assert_close(ready[key], batch[key].double().mul(2 / 255).sub(1).float(), rtol=0, atol=1e-6)


def test_workers_make_no_difference():
    plain, with_workers = (list(scenes(num_workers=number).train_dataloader()) for number in (0, 2))
    assert len(plain) == len(with_workers)
    for ours, theirs in zip(plain, with_workers, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ("photo", "anime"))


def test_held_out_pictures_come_whole_with_their_partners():
    module = scenes(size=36)
    inputs, targets = (list(loader) for loader in module.val_dataloader())
    assert len(inputs) == len(targets) == 3
    for number, (pair, target) in enumerate(zip(inputs, targets, strict=True)):
        assert torch.equal(pair["input"][0], module.splits.test_input[number])
        assert torch.equal(pair["target"], target["target"])
        assert pair["input"].shape == (1, 3, 36, 36)
        assert pair["name"] == [f"{number:06d}"]


def test_a_partner_one_pixel_larger_is_brought_to_the_inputs_size():
    inputs, targets = Pictures(mapped(0, 10, 13)), Pictures(mapped(1), mapped(2, 10, 14))
    item = HeldOutDataset("input", inputs, (targets, [1]))[0]
    assert item["target"].shape == item["input"].shape == (3, 10, 13)
    assert (item["target"][2] == 2).all()


def test_samples_are_spread_over_the_held_out_inputs_and_come_with_their_targets():
    module = scenes()
    held_out = Pictures(*(mapped(number) for number in range(10)))
    module.splits = Splits(None, None, held_out, Pictures(*(mapped(100 + number) for number in range(10))))
    for count, expected in ((1, [0]), (4, [0, 2, 5, 7]), (10, list(range(10))), (99, list(range(10)))):
        samples = module.samples(count)
        assert [round((sample["input"][0, 2, 0, 0].item() + 1) * 127.5) for sample in samples] == expected
        assert [round((sample["target"][0, 2, 0, 0].item() + 1) * 127.5) - 100 for sample in samples] == expected
        assert all(image.shape == (1, 3, 40, 50) for sample in samples for image in sample.values())
    module.splits.test_target = Pictures(mapped(0))
    assert {tuple(sample) for sample in module.samples(10)[1:]} == {("input",)}, "not all have a partner"


def test_summary_counts():
    assert scenes().summary() == "7 photos, 7 anime pictures, 3 photos and 3 anime pictures held out"


def test_pictures_in_memory_are_prepared_once(monkeypatch):
    module = UnpairedDataModule.from_scenes(**LOADING | SCENES)
    loads, load = [], module.source.load
    monkeypatch.setattr(module.source, "load", lambda training: loads.append(training) or load(training))
    module.prepare_data()
    module.setup("fit")
    module.setup("validate")
    assert loads == [True]


def test_shares_of_two_processes(monkeypatch):
    module = scenes()
    trained, held_out = [], []
    for rank in range(2):
        monkeypatch.setattr(module, "_process", lambda rank=rank: (rank, 2))
        trained.append([position.index for position in module.train_dataloader().sampler])
        held_out.append([name for batch in module.val_dataloader()[0] for name in batch["name"]])
    assert len(trained[0]) == len(trained[1]) == 3
    assert not set(trained[0]) & set(trained[1])
    assert held_out == [["000000", "000002"], ["000001"]], "each once: nothing is padded"


def folders(root: Path | None, **changes) -> UnpairedDataModule:
    names = {"train_photo": "trainA", "train_anime": "trainB", "test_photo": "testA", "test_anime": "testB"}
    sizes = {"load_size": 32, "eval_size": 28, "resize": "squash", "min_side": 28}
    rest = {"on_bad_file": "error", "cache": "ram", "cache_dir": None}
    return UnpairedDataModule.from_folders(**LOADING | names | sizes | rest | {"root": root} | changes)


def test_a_users_folders_are_served(tmp_path):
    for folder, count in (("trainA", 2), ("trainB", 3)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            Image.fromarray(mapped(number, 36, 36).permute(1, 2, 0).numpy()).save(tmp_path / folder / f"{number} ö.png")
    module = folders(tmp_path, batch_size=1)
    module.setup("fit")
    assert [batch["photo"].shape for batch in module.train_dataloader()] == [(1, 3, 28, 28)] * 3


def test_small_pictures_are_enlarged_with_a_warning_where_asked_for(tmp_path, caplog):
    for folder, sizes in (("trainA", (20, 36, 24)), ("trainB", (36,))):
        (tmp_path / folder).mkdir()
        for number, size in enumerate(sizes):
            Image.fromarray(mapped(number, size, 36).permute(1, 2, 0).numpy()).save(tmp_path / folder / f"{number}.png")
    with pytest.raises(UserError, match="is 36x20, smaller than 28 pixels"):
        folders(tmp_path, batch_size=1).setup("fit")
    module = folders(tmp_path, batch_size=1, on_small="enlarge")
    module.setup("fit")
    assert [batch["photo"].shape for batch in module.train_dataloader()] == [(1, 3, 28, 28)] * 3
    assert f"2 of 3 pictures in {tmp_path / 'trainA'} are smaller than data.min_side = 28 pixels" in caplog.text
    assert "trainB are smaller" not in caplog.text


def test_pictures_are_resized_to_pre_size_first(tmp_path):
    """256, then 286, as 003 has it: each of Pillow's steps rounds, so that the results are equal bit for bit."""
    for folder in ("trainA", "trainB", "testA"):
        (tmp_path / folder).mkdir()
        Image.fromarray(mapped(len(folder), 40, 40).permute(1, 2, 0).numpy()).save(tmp_path / folder / f"{folder}.png")
    module = folders(tmp_path, pre_size=20)
    module.setup("fit")
    for photos, first, last in ((module.splits.train_input, 20, 32), (module.splits.test_input, None, 28)):
        with Image.open(
            tmp_path / ("trainA" if first else "testA") / f"{'trainA' if first else 'testA'}.png"
        ) as picture:
            for side in filter(None, (first, last)):
                picture = picture.resize((side, side), Image.Resampling.BICUBIC)
            assert torch.equal(photos[0], torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(UserError, match=r"data\.root is not set.*trainA/ and trainB/"):
        folders(None)
    with pytest.raises(UserError, match=r"data\.load_size = 20 is smaller than data\.crop_size = 28"):
        folders(Path(), load_size=20)
    with pytest.raises(UserError, match=r"data\.size = 32 is smaller than data\.crop_size = 33"):
        UnpairedDataModule.from_scenes(**LOADING | SCENES | {"crop_size": 33})
    with pytest.raises(UserError, match=r"data\.steps_per_epoch must be at least 1, or null; got 0"):
        scenes(steps_per_epoch=0)
    assert len(scenes(batch_size=2, steps_per_epoch=9).train_dataloader()) == 9
    module = scenes(batch_size=8)
    with pytest.raises(UserError, match=r"7 images for 1 processes are no batch of data\.batch_size = 8"):
        module.train_dataloader()
    monkeypatch.setattr(module, "_process", lambda: (0, 4))
    with pytest.raises(UserError, match="3 held-out images cannot be shared out among 4 processes"):
        module.val_dataloader()


def test_training_crops_at_even_distances_are_those_of_the_first_epoch():
    module, again = scenes(), scenes()
    before = torch.get_rng_state()
    crops = list(module.training_crops("photo", 3))
    assert torch.equal(torch.get_rng_state(), before)
    expected = [module.training_set()[Position(0, index)]["photo"] for index in (0, 2, 4)]
    assert [crop.shape for crop in crops] == [(1, 3, 28, 28)] * 3
    for crop, pixels in zip(crops, expected, strict=True):
        torch.testing.assert_close(crop[0], pixels / 127.5 - 1)
    torch.rand(3)
    assert all(map(torch.equal, crops, again.training_crops("photo", 3)))
    assert len(list(module.training_crops("anime", 100))) == 7
