"""Measuring translators on held-out pictures."""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning import LightningDataModule
from PIL import Image
from rich.progress import track
from torch import Tensor

from lit_ghibli.data.sources import stem
from lit_ghibli.images import from_picture, from_uint8, to_picture, to_pixels, to_uint8
from lit_ghibli.inference.profiling import clock
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics.suite import SSIM_WINDOW, MetricSuite

TRAINED_SOLVER = "as trained"  # title of the outputs that another solver's are compared with
_COMPARED = 1024  # pixels: side of what is compared of a photograph, so that a huge one needs no more memory


class Measured(NamedTuple):
    """What `measure` found beside what it fed to the suites.

    Attributes:
        grid: The first inputs as rows of a grid: ``input``, ``output`` and, where known, ``target``.
        per_picture: A row for each held-out pair: ``name``, `compare` of the output, and of the untouched input as
            ``input_<metric>``. Empty where no partners are known.
        solver: ``solver_l1`` and ``solver_ssim``, means over all held-out inputs of `compare` between the outputs and
            those of the training's solver. Empty where there is no other solver.
        seconds: Median over pictures of what the translation of one took, without files and metrics.
    """

    grid: list[dict[str, np.ndarray]]
    per_picture: list[dict[str, Any]]
    solver: dict[str, float]
    seconds: float


def measure(
    translators: Mapping[str, Translator],
    datamodule: LightningDataModule,
    translated: MetricSuite,
    untouched: MetricSuite | None,
    num_images: int,
    folder: Path,
) -> Measured:
    """Feed two suites with the translations of all held-out inputs, and with the inputs themselves.

    Translations are measured as they are saved, rounded to 8 bits: the saved files give the same numbers.

    Args:
        translators: What is measured, as ``output``; and, where that uses another solver than its training, the
            translator with the training's, as `TRAINED_SOLVER`.
        datamodule: Its validation loaders give inputs, with targets where known, and pictures of the target domain.
        translated: Receives the translations.
        untouched: Receives the inputs, the mark to beat; None where another checkpoint's evaluation has done that.
        num_images: How many rows of a grid to return.
        folder: Every output is written to it, as ``NAME.png`` at full size.

    Returns:
        What single pictures show. The mean of their ``psnr`` is the suite's, which averages over pictures; so is that
        of ``mse`` and ``l1`` where all have the same size, since the suite averages these over all pixels.
    """
    grid, per_picture = [], []
    seconds: list[float] = []
    between = MetricSuite(("l1", "ssim"))
    suites = {"output": translated} if untouched is None else {"output": translated, "input": untouched}
    for name, images in _translate_held_out(translators, datamodule, folder, seconds):
        if TRAINED_SOLVER in images:
            between.update_pair(images["output"], images[TRAINED_SOLVER])
        images["output"] = from_uint8(to_uint8(images["output"]))
        for title, suite in suites.items():
            suite.update_fake(images[title])
            if "target" in images:
                suite.update_pair(images[title], images["target"])
        if "target" in images:
            beside = {f"input_{key}": value for key, value in compare(images["input"], images["target"]).items()}
            per_picture.append({"name": name, **compare(images["output"], images["target"]), **beside})
        if len(grid) < num_images:
            grid.append({title: to_pixels(image) for title, image in images.items()})
    for batch in datamodule.val_dataloader()[1]:
        target = datamodule.on_after_batch_transfer(batch, 1)["target"]
        for suite in suites.values():
            suite.update_real(target)
    apart = {f"solver_{name}": value for name, value in between.compute().items()}
    return Measured(grid, per_picture, apart, statistics.median(seconds))


def compare(output: Tensor, target: Tensor) -> dict[str, float]:
    """``mse``, ``psnr`` (dB), ``ssim`` and ``l1`` of pictures ``(N, 3, H, W)`` in ``[-1, 1]``, measured in ``[0, 1]``.

    Raises:
        ValueError: wrong or unequal shapes, or sides too short for SSIM.
    """
    suite = MetricSuite(("mse", "psnr", "ssim", "l1"))
    suite.update_pair(output, target)
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


def _translate_held_out(
    translators: Mapping[str, Translator], datamodule: LightningDataModule, folder: Path, seconds: list[float]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Name and pictures ``(1, 3, H, W)`` of each held-out input: itself, its translations, and its target if known.

    ``seconds`` receives what each ``output`` took.
    """
    written: set[Path] = set()
    for batch in track(datamodule.val_dataloader()[0], description="Translating"):
        batch = datamodule.on_after_batch_transfer(batch, 0)
        images = {"input": batch["input"]}
        for title, translator in translators.items():
            photo, started = batch["input"].to(translator.device), clock(translator.device)
            images[title] = translator.translate(photo).cpu()
            if title == "output":
                seconds.append(clock(translator.device) - started)
        if "target" in batch:
            images["target"] = batch["target"]
        (name,) = batch["name"]
        path = folder / f"{stem(name)}.png"
        if path in written:  # photographs that differ in their extensions only
            path = folder / f"{name}.png"
        written.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        to_picture(images["output"]).save(path)
        yield name, images
