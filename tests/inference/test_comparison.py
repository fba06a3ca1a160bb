from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.images import from_uint8, to_uint8
from lit_ghibli.inference.comparison import (
    HeldOut,
    Pictures,
    Run,
    Untouched,
    match_folder,
    match_folders,
    measure_subject,
    target_pictures,
)
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.scenes.scene import render_pair

NAMES = ["a.jpg", "sub/b.jpg", "c.png"]
SIDES = (32, 40, 48)


class Darker(nn.Module):
    """A generator whose outputs lie between two levels of 8 bits."""

    size_multiple = minimum_size = 1

    def __init__(self):
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(0.0637))

    def forward(self, images):
        return images * 0.9 - self.amount


class Data:
    """Held-out scenes of three sizes as a data module serves them, with or without partners."""

    def __init__(self, partners=True):
        self.partners = partners
        self.splits = SimpleNamespace(test_input=SimpleNamespace(names=NAMES), stands_in=False)

    def val_dataloader(self):
        inputs, targets = [], []
        for number, (name, side) in enumerate(zip(NAMES, SIDES, strict=True)):
            pair = [torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in render_pair(1, number, side)]
            inputs.append({"input": pair[0], "name": [name], **({"target": pair[1]} if self.partners else {})})
            targets.append({"target": pair[1], "name": [name]})
        return [inputs, targets]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {key: from_uint8(value) if torch.is_tensor(value) else value for key, value in batch.items()}


def save(folder, names, sides=None):
    """Write a painted scene under each name; the first scene under the first name, and so on."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(render_pair(1, number, SIDES[number])[1])
        picture.resize(sides or picture.size).save(folder / name)
    return folder


# --- matching ------------------------------------------------------------------


def test_files_match_by_name_but_for_the_extension(tmp_path):
    folder = save(tmp_path, ["a.png", "sub/b.webp", "c.png"])
    matched, wrong = match_folder(folder, NAMES)
    assert matched == {"a.jpg": folder / "a.png", "sub/b.jpg": folder / "sub/b.webp", "c.png": folder / "c.png"}
    assert not wrong


def test_everything_that_does_not_match_is_named(tmp_path):
    folder = save(tmp_path, ["a.png", "b.png"])
    (folder / "c.png").write_bytes(b"no picture")
    matched, wrong = match_folder(folder, NAMES)
    assert list(matched) == ["a.jpg"]
    assert wrong[0] == "sub/b.jpg has no picture"
    assert wrong[1].startswith(f"c.png: {folder / 'c.png'} is not an image")
    assert wrong[2:] == ["b.png is of no held-out input"]


def test_folders_that_do_not_match_are_refused_or_skipped_as_asked(tmp_path):
    folders = {"x": save(tmp_path / "x", ["a.png", "c.png"]), "y": save(tmp_path / "y", ["a.png", "sub/b.png"])}
    with pytest.raises(FolderError, match=r"(?s)2 places.*on_bad_file=skip.*x: sub/b.jpg has no.*y: c.png has no"):
        match_folders(folders, NAMES, on_bad_file="error")
    subjects, wrong = match_folders(folders, NAMES, on_bad_file="skip")
    assert [list(subject.paths) for subject in subjects] == [["a.jpg", "c.png"], ["a.jpg", "sub/b.jpg"]]
    assert wrong == ["x: sub/b.jpg has no picture", "y: c.png has no picture"]


def test_nothing_in_common_is_refused_even_when_skipping(tmp_path):
    with pytest.raises(FolderError, match=r"no picture is named like any of the 3 .* which are a.jpg, sub/b.jpg"):
        match_folders({"x": save(tmp_path / "x", ["z.png"])}, NAMES, on_bad_file="skip")
    folders = {"x": save(tmp_path / "x2", ["a.png"]), "y": save(tmp_path / "y", ["c.png"])}
    with pytest.raises(FolderError, match="no held-out input has a picture in each"):
        match_folders(folders, NAMES, on_bad_file="skip")


def test_no_folders_match_whatever_the_inputs():
    assert match_folders({}, NAMES, on_bad_file="error") == ([], [])


# --- subjects ------------------------------------------------------------------


def test_pictures_of_another_size_are_resized_and_counted(tmp_path):
    folder = save(tmp_path, ["a.png", "sub/b.png", "c.png"], sides=(64, 40))
    subject = Pictures("x", match_folder(folder, NAMES)[0])
    photo = torch.zeros(1, 3, 32, 20)
    picture = subject.picture("a.jpg", photo)
    assert picture.shape == photo.shape
    assert subject.resized == 1
    halved = np.asarray(Image.open(folder / "a.png"), float).reshape(20, 2, 32, 2, 3).mean((1, 3))
    subject.picture("a.jpg", torch.zeros(1, 3, 40, 64))
    assert subject.resized == 1, "this one fits as it is"
    small = subject.picture("a.jpg", torch.zeros(1, 3, 20, 32))
    ours = (small[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(ours - halved).mean() < 4, "reduced with antialiasing, it is near the mean of four pixels"


def suite():
    return MetricSuite(("mse", "psnr", "l1", "ssim", "swd"))


def test_a_subject_is_measured_as_its_pictures_are_saved(tmp_path):
    run = Run("ours", Translator(Darker()))
    outcome = measure_subject(run, HeldOut(Data()), suite(), num_images=2, side=16)
    errors = []
    for number, name in enumerate(NAMES):
        photo, target = (side.astype(np.float64) for side in render_pair(1, number, SIDES[number]))
        output = ((photo / 127.5 - 1) * 0.9 - 0.0637 + 1) * 127.5
        output = output.clip(0, 255).round().astype(np.uint8)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(output).save((tmp_path / name).with_suffix(".png"))
        errors.append(np.abs(output - target).ravel() / 255)
    assert outcome.metrics["l1"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-4)
    saved = Pictures("theirs", match_folder(tmp_path, NAMES)[0])
    assert measure_subject(saved, HeldOut(Data()), suite(), 0, 16).metrics == outcome.metrics
    assert list(outcome.fingerprints) == NAMES
    assert {name: picture.size for name, picture in outcome.pictures.items()} == {
        "a.jpg": (16, 16),
        "sub/b.jpg": (16, 16),
    }


def test_what_is_left_out_is_left_out_for_all():
    held_out = HeldOut(Data(), {"sub/b.jpg"})
    outcome = measure_subject(Untouched("input"), held_out, suite(), 9, 64)
    assert len(held_out) == 2
    assert list(outcome.pictures) == ["a.jpg", "c.png"]
    assert (outcome.stamp["n_fake"], outcome.stamp["n_pairs"], outcome.stamp["n_real"]) == (2, 2, 3)


def test_targets_are_shown_where_they_are_known():
    pictures = target_pictures(HeldOut(Data()), 2, 32)
    assert list(pictures) == NAMES[:2]
    assert pictures["a.jpg"].tobytes() == Image.fromarray(render_pair(1, 0, 32)[1]).tobytes()
    assert target_pictures(HeldOut(Data(partners=False)), 2, 32) == {}


def test_without_partners_only_sets_are_compared():
    outcome = measure_subject(Untouched("input"), HeldOut(Data(partners=False)), suite(), 0, 64)
    assert list(outcome.metrics) == ["swd"]
    whole = suite()
    for number, side in enumerate(SIDES):
        photo, target = (torch.from_numpy(each).permute(2, 0, 1)[None] for each in render_pair(1, number, side))
        whole.update_fake(from_uint8(photo))
        whole.update_real(from_uint8(to_uint8(from_uint8(target))))
    assert outcome.metrics == whole.compute()
