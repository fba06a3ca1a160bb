"""Measuring runs and folders of pictures alike, on the same held-out pictures."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lightning import LightningDataModule
from PIL import Image
from rich.progress import track
from torch import Tensor
from torchvision.transforms.v2 import functional as resizing

from lit_ghibli.data.image_files import FolderError, ImageFileError, bullets, list_images, open_image
from lit_ghibli.data.sources import partner_indices
from lit_ghibli.images import from_picture, from_uint8, to_picture, to_uint8
from lit_ghibli.inference.nearest_training import Fingerprint, fingerprint
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics.suite import MetricSuite


class Subject(Protocol):
    """Whatever has a picture for every held-out input.

    Attributes:
        name: What it is called.
        resized: How many of its pictures had another size than their input, and were resized.
    """

    name: str
    resized: int

    def picture(self, name: str, photo: Tensor) -> Tensor:
        """Its picture of an input, ``(1, 3, H, W)`` in ``[-1, 1]``, in that one's size.

        Args:
            name: The input's name.
            photo: The input, ``(1, 3, H, W)`` in ``[-1, 1]``.
        """


class Untouched:
    """The inputs themselves, the mark to beat."""

    resized = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def picture(self, name: str, photo: Tensor) -> Tensor:
        """The input; see :class:`Subject`."""
        return photo


class Run:
    """A trained run.

    Args:
        name: What it is called.
        translator: Its function on pictures.
    """

    resized = 0

    def __init__(self, name: str, translator: Translator) -> None:
        self.name, self.translator = name, translator

    def picture(self, name: str, photo: Tensor) -> Tensor:
        """The translation of an input; see :class:`Subject`."""
        return self.translator.translate(photo.to(self.translator.device)).cpu()


class Pictures:
    """Pictures that anybody has made of the held-out inputs.

    Args:
        name: What they are called.
        paths: The file that was made of each input, by the input's name.
    """

    def __init__(self, name: str, paths: Mapping[str, Path]) -> None:
        self.name, self.paths, self.resized = name, paths, 0

    def picture(self, name: str, photo: Tensor) -> Tensor:
        """What is in the input's file; see :class:`Subject`."""
        picture = from_picture(open_image(self.paths[name]))
        if picture.shape == photo.shape:
            return picture
        self.resized += 1
        return resizing.resize(picture, list(photo.shape[-2:]), antialias=True).clamp(-1.0, 1.0)


def match_folder(folder: Path, inputs: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """The file of a folder that was made of each input: named the same, or else but for the extension.

    Returns:
        Files by the inputs' names; and, for each file that is missing, cannot be read, or belongs to no input, what
        is wrong, beginning with the name.

    Raises:
        FolderError: The folder holds no images.
    """
    files = list_images(folder)
    partners = partner_indices(inputs, [file.relative_to(folder).as_posix() for file in files])
    matched, wrong = {}, []
    for name, partner in zip(inputs, partners, strict=True):
        if partner is None:
            wrong.append(f"{name} has no picture")
            continue
        try:
            open_image(files[partner])
        except ImageFileError as error:
            wrong.append(f"{name}: {error}")
        else:
            matched[name] = files[partner]
    known = set(partners)
    extra = [files[number] for number in range(len(files)) if number not in known]
    return matched, wrong + [f"{file.relative_to(folder).as_posix()} is of no held-out input" for file in extra]


def match_folders(
    folders: Mapping[str, Path], inputs: Sequence[str], *, on_bad_file: str
) -> tuple[list[Pictures], list[str]]:
    """Match each folder, and find the inputs that all of them have a picture of.

    Args:
        folders: By the names of the subjects.
        inputs: Names of the held-out inputs.
        on_bad_file: ``error`` refuses folders that do not match; ``skip`` passes over pictures of no input, and
            leaves inputs without a picture out of the whole comparison, so that all are measured on the same ones.

    Returns:
        The subjects, and what was wrong.

    Raises:
        FolderError: Folders do not match, or no input is left.
    """
    subjects, wrong = [], []
    for name, folder in folders.items():
        matched, complaints = match_folder(folder, inputs)
        subjects.append(Pictures(name, matched))
        wrong += [f"{name}: {complaint}" for complaint in complaints]
        if not matched:
            raise FolderError(
                f"{folder}: no picture is named like any of the {len(inputs)} held-out inputs, which are "
                f"{', '.join(inputs[:3])}, ...; files must be named alike but for their extensions"
            )
    if wrong and on_bad_file == "error":
        raise FolderError(
            f"folders and held-out inputs do not match in {len(wrong)} places; mend them, or give on_bad_file=skip, "
            f"which leaves inputs without a picture out for all methods:{bullets(wrong)}"
        )
    if not any(all(name in subject.paths for subject in subjects) for name in inputs):
        raise FolderError(f"no held-out input has a picture in each of {', '.join(map(str, folders.values()))}")
    return subjects, wrong


class HeldOut:
    """Held-out pictures of a data module, the same ones in the same order every time.

    Args:
        datamodule: Set up for validation.
        without: Names of inputs to leave out.
    """

    def __init__(self, datamodule: LightningDataModule, without: Collection[str] = ()) -> None:
        self.datamodule, self.without = datamodule, without

    def __len__(self) -> int:
        return len(set(self.datamodule.splits.test_input.names) - set(self.without))

    @property
    def split(self) -> str:
        """Which pictures these are, in words, as `evaluate` says it."""
        return "test, with training pictures as real ones" if self.datamodule.splits.stands_in else "test"

    def inputs(self) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """Name, picture ``(1, 3, H, W)`` in ``[-1, 1]``, and target where it is known, of each input."""
        for batch in self.datamodule.val_dataloader()[0]:
            (name,) = batch["name"]
            if name not in self.without:
                batch = self.datamodule.on_after_batch_transfer(batch, 0)
                yield name, batch["input"], batch.get("target")

    def targets(self) -> Iterator[Tensor]:
        """Pictures ``(1, 3, H, W)`` in ``[-1, 1]`` of the domain that is translated to."""
        for batch in self.datamodule.val_dataloader()[1]:
            yield self.datamodule.on_after_batch_transfer(batch, 1)["target"]


@dataclass
class Outcome:
    """What is kept of a subject.

    Attributes:
        metrics: By name.
        intervals: Ends of the 95 % intervals of those that have one.
        stamp: The protocol by which they were taken.
        pictures: Of the first inputs, by the inputs' names.
        fingerprints: Of all its pictures, likewise.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    stamp: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)


def target_pictures(held_out: HeldOut, num_images: int, side: int) -> dict[str, Image.Image]:
    """True partners of the first inputs by the inputs' names, reduced like a subject's pictures; empty without such."""
    pictures = {}
    for name, _, target in itertools.islice(held_out.inputs(), num_images):
        if target is not None:
            pictures[name] = _reduced(to_picture(target), side)
    return pictures


def measure_subject(subject: Subject, held_out: HeldOut, suite: MetricSuite, num_images: int, side: int) -> Outcome:
    """Feed a suite with a subject's pictures of all inputs, and with the real ones, as `evaluate` does.

    Pictures are measured as they are saved, rounded to 8 bits, so that a run and a folder of its outputs are equal.

    Args:
        subject: What is measured.
        held_out: The inputs.
        suite: Empty; receives the pictures.
        num_images: Of how many inputs to keep the picture.
        side: Pixels that the longer side of these is reduced to.
    """
    outcome = Outcome()
    for name, photo, target in track(held_out.inputs(), total=len(held_out), description=f"Measuring {subject.name}"):
        output = from_uint8(to_uint8(subject.picture(name, photo)))
        suite.update_fake(output)
        if target is not None:
            suite.update_pair(output, target)
        image = to_picture(output)
        outcome.fingerprints[name] = fingerprint(image)
        if len(outcome.pictures) < num_images:
            outcome.pictures[name] = _reduced(image, side)
    for target in held_out.targets():
        suite.update_real(target)
    outcome.metrics, outcome.intervals, outcome.stamp = suite.compute(), suite.intervals(), suite.protocol()
    return outcome


def _reduced(image: Image.Image, side: int) -> Image.Image:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image
