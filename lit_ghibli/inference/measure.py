"""Measuring runs, folders of pictures and the untouched inputs alike, on the same held-out pictures."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from PIL import Image
from rich.markup import escape
from rich.progress import track
from torch import Tensor

from lit_ghibli.data.image_files import FolderError, ImageFileError, bullets, open_image
from lit_ghibli.data.image_folders import list_images
from lit_ghibli.data.sources import near_twins, partner_indices, stem
from lit_ghibli.errors import one_line
from lit_ghibli.files import write_picture, write_text
from lit_ghibli.images import from_picture, from_uint8, resample, to_picture, to_uint8
from lit_ghibli.inference.nearest_training import Signature, signature
from lit_ghibli.inference.profiling import clock
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics import protocol
from lit_ghibli.metrics.suite import SSIM_WINDOW, MetricSuite
from lit_ghibli.reports.tables import Row, markdown_table, without_bounds, write_table

_COMPARED = 1024  # pixels: side of what is compared of a photograph, so that a huge one needs no more memory


class Subject:
    """Whatever has a picture for every held-out input; by itself the untouched inputs, the mark to beat.

    Attributes:
        name: What it is called.
        resized: How many of its pictures had another size than their input, and were resized.
        stretched: How many of these had another aspect, too.
    """

    def __init__(self, name: str) -> None:
        self.name, self.resized, self.stretched = name, 0, 0

    def picture(self, name: str, photo: Tensor) -> Tensor:
        """Its picture of the input of this name, of the input's shape ``(1, 3, H, W)``, in ``[-1, 1]``, on the CPU."""
        return photo


class Run(Subject):
    """A trained run.

    Args:
        name: What it is called.
        translator: Its function on pictures.
        trained: The same with its training's solver, where ``translator`` has another one.

    Attributes:
        seconds: What the translation of each picture took, without files and metrics.
        apart: ``l1`` and ``ssim`` between the pictures of both solvers; of nothing where there is one.
    """

    def __init__(self, name: str, translator: Translator, trained: Translator | None = None) -> None:
        super().__init__(name)
        self.translator, self.trained = translator, trained
        self.seconds: list[float] = []
        self.apart = MetricSuite(("l1", "ssim"))

    def picture(self, name: str, photo: Tensor) -> Tensor:
        """The translation of an input."""
        photo = photo.to(self.translator.device)
        started = clock(photo.device)
        output = self.translator.translate(photo).cpu()
        self.seconds.append(clock(photo.device) - started)
        if self.trained:
            self.apart.update_pair(output, self.as_trained(photo))
        return output

    def as_trained(self, photo: Tensor) -> Tensor:
        """The translation of an input by the training's solver."""
        return self.trained.translate(photo.to(self.trained.device)).cpu()


class Pictures(Subject):
    """Pictures that anybody has made of the held-out inputs.

    Args:
        name: What they are called.
        paths: The file that was made of each input, by the input's name.
    """

    def __init__(self, name: str, paths: Mapping[str, Path]) -> None:
        super().__init__(name)
        self.paths = paths

    def picture(self, name: str, photo: Tensor) -> Tensor:
        """What is in the input's file."""
        picture = open_image(self.paths[name])
        height, width = photo.shape[-2:]
        self.resized += picture.size != (width, height)
        rounding = (picture.width + picture.height + width + height) / 2  # half a pixel of each side
        self.stretched += abs(picture.width * height - picture.height * width) > rounding
        return from_picture(resample(picture, (width, height)))


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
    alone = [folder / name for name, partner in zip(inputs, partners, strict=True) if partner is None]
    hints = dict(zip(alone, near_twins(folder, alone, folder, files), strict=True))
    matched, wrong = {}, []
    for name, partner in zip(inputs, partners, strict=True):
        if partner is None:
            wrong.append(f"{name} has no picture{hints[folder / name]}")
            continue
        try:
            open_image(files[partner])
        except ImageFileError as error:
            wrong.append(f"{name}: {error}")
        else:
            matched[name] = files[partner]
    known = set(partners)
    extra = [file for number, file in enumerate(files) if number not in known]
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
                f"{', '.join(inputs[:3])}, ...; files must be named alike but for their extensions:",
                *bullets(complaints, at_most=3),
            )
    if wrong and on_bad_file == "error":
        raise FolderError(
            f"folders and held-out inputs do not match in {len(wrong)} places; mend them, or give on_bad_file=skip, "
            f"which leaves inputs without a picture out for all methods:",
            *bullets(wrong),
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
        """Which pictures these are, in words, as protocols say it."""
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

    def first(
        self, count: int, picture: Callable[[Tensor, Tensor | None], Tensor | None], side: int | None = None
    ) -> dict[str, Image.Image]:
        """What a function makes of the first inputs and their targets, by the inputs' names; without what is None.

        Args:
            count: Of how many inputs.
            picture: The function.
            side: Pixels that the longer side is reduced to; None for full size.
        """
        made = ((name, picture(photo, target)) for name, photo, target in itertools.islice(self.inputs(), count))
        return {name: _reduced(to_picture(image), side) for name, image in made if image is not None}


@dataclass
class Outcome:
    """What is kept of a subject.

    Attributes:
        images: Of how many inputs it had a picture.
        metrics: By name; None where a score of people has no answers.
        intervals: Ends of the 95 % intervals of those that have one.
        stamp: The protocol by which they were taken.
        scores: `compare` of each picture and its target, where known, and its `content`, by the inputs' names; where
            asked for.
        pictures: Of the first inputs, by the inputs' names.
        signatures: Of all its pictures, likewise.
    """

    images: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    stamp: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)

    def row(self, title: Row, beside: Row, origin: Row) -> Row:
        """Its row of a table: numbers, their intervals as ``<metric>_low`` and ``_high``, and the protocol.

        Args:
            title: The first column.
            beside: Columns beside the metrics.
            origin: Where the pictures come from.
        """
        bounds = {
            f"{name}_{end}": value
            for name, interval in self.intervals.items()
            for end, value in zip(("low", "high"), interval, strict=True)
        }
        counted = {"images": self.images, "protocol": protocol.digest(self.stamp)}
        return {**title, **self.metrics, **beside, **counted, **origin, **bounds, **self.stamp}


def measure(
    subject: Subject,
    held_out: HeldOut,
    suite: MetricSuite,
    *,
    num_images: int = 0,
    side: int | None = None,
    each: bool = False,
    folder: Path | None = None,
) -> Outcome:
    """Feed a suite with a subject's pictures of all inputs, and with the real ones.

    Pictures are measured as they are saved, rounded to 8 bits, so that a run and a folder of its outputs are equal.

    Args:
        subject: What is measured.
        held_out: The inputs.
        suite: Empty; receives the pictures.
        num_images: Of how many inputs to keep the picture.
        side: Pixels that the longer side of these is reduced to; None for full size.
        each: Whether pictures are compared one by one, too, with their photographs and targets. The mean of their
            ``psnr`` is the suite's, which averages over pictures; so is that of ``mse`` and ``l1`` where all have the
            same size, since the suite averages these over all pixels.
        folder: Every picture is written to it, as ``NAME.png`` at full size; None for no files.
    """
    outcome = Outcome(images=len(held_out))
    written: set[Path] = set()
    measuring = escape(one_line(f"Measuring {subject.name}"))  # in which brackets are no markup
    for name, photo, target in track(held_out.inputs(), total=len(held_out), description=measuring):
        output = from_uint8(to_uint8(subject.picture(name, photo)))
        suite.update_fake(output)
        suite.update_photo(output, photo)
        if target is not None:
            suite.update_pair(output, target)
        if each:
            outcome.scores[name] = {**({} if target is None else compare(output, target)), **content(output, photo)}
        image = to_picture(output)
        outcome.signatures[name] = signature(image)
        if folder is not None:
            path = folder / f"{stem(name)}.png"
            if path in written:  # photographs that differ in their extensions only
                path = folder / f"{name}.png"
            written.add(path)
            write_picture(image, path)
        if len(outcome.pictures) < num_images:
            outcome.pictures[name] = _reduced(image, side)
    for target in held_out.targets():
        suite.update_real(target)
    outcome.metrics, outcome.intervals = suite.compute(), suite.intervals()
    outcome.stamp = {**suite.protocol(), "split": held_out.split}
    return outcome


def write_measures(rows: Sequence[Row], out: Path) -> str:
    """Write ``metrics.csv``, ``.json`` and, for people, ``.md``, which is returned."""
    write_table(rows, out, "metrics")
    readable = markdown_table([shorten(row) for row in rows])
    write_text(out / "metrics.md", readable)
    return readable


def shorten(row: Row) -> Row:
    """A row for people: intervals beside their values, and of the protocol its hash alone."""
    left_out = {*protocol.COMPARED, "suite_version", "checkpoint_sha256"}
    short = {name: value for name, value in without_bounds(row).items() if name not in left_out}
    for name in short:
        if f"{name}_low" in row:
            short[name] = f"{row[name]:.4g} [{row[f'{name}_low']:.4g}, {row[f'{name}_high']:.4g}]"
    return short


def compare(output: Tensor, target: Tensor) -> dict[str, float]:
    """``mse``, ``psnr`` (dB), ``ssim`` and ``l1`` of pictures ``(N, 3, H, W)`` in ``[-1, 1]``, measured in ``[0, 1]``.

    Raises:
        ValueError: wrong or unequal shapes, or sides too short for SSIM.
    """
    suite = MetricSuite(("mse", "psnr", "ssim", "l1"))
    suite.update_pair(output, target)
    return suite.compute()


def content(output: Tensor, photo: Tensor) -> dict[str, float]:
    """``content_mse`` and ``content_psnr`` (dB) of pictures and their photographs, as `compare`."""
    suite = MetricSuite(("content_mse", "content_psnr"))
    suite.update_photo(output, photo)
    return suite.compute()


def describe_solver(translator: Translator, trained: Translator, photo: Image.Image) -> str:
    """Say how far a translator's picture is from that by the training's solver: mean absolute difference, and SSIM.

    Of a photograph with a side above 1024 pixels, the middle is translated and compared.
    """
    sides = [min(side, _COMPARED) for side in photo.size]
    left, top = ((whole - side) // 2 for whole, side in zip(photo.size, sides, strict=True))
    middle = from_picture(photo.crop((left, top, left + sides[0], top + sides[1])))
    suite = MetricSuite(("l1", "ssim") if min(sides) >= SSIM_WINDOW else ("l1",))
    suite.update_pair(*(each.translate(middle.to(each.device)).cpu() for each in (translator, trained)))
    values = suite.compute()
    ours, theirs = (f"{each.network.solver} ({each.network.nfe} evaluations)" for each in (translator, trained))
    ssim = f", SSIM {values['ssim']:.4f}" if "ssim" in values else ""
    return f"{ours} against the training's {theirs}: mean difference {255 * values['l1']:.2f} of 255 levels{ssim}"


def _reduced(image: Image.Image, side: int | None) -> Image.Image:
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image
