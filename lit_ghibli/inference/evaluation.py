"""Measuring a translator on held-out pictures."""

import numpy as np
from lightning import LightningDataModule
from rich.progress import track
from torch import Tensor

from lit_ghibli.images import to_uint8
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics.suite import MetricSuite


def measure(
    translator: Translator,
    datamodule: LightningDataModule,
    translated: MetricSuite,
    untouched: MetricSuite,
    num_images: int,
) -> list[dict[str, np.ndarray]]:
    """Feed two suites with the translations of all held-out photographs, and with the photographs themselves.

    Args:
        translator: What is measured.
        datamodule: Its validation loaders give photographs, with partners where known, and pictures of the style.
        translated: Receives the translations.
        untouched: Receives the photographs, the mark to beat.
        num_images: How many photographs to return.

    Returns:
        The first photographs as rows of a grid: ``photo``, ``translated`` and, where known, ``target``.
    """
    photos, animes = datamodule.val_dataloader()
    rows: list[dict[str, np.ndarray]] = []
    for batch in track(photos, description="Translating"):
        batch = datamodule.on_after_batch_transfer(batch, 0)
        photo = batch["photo"]
        images = {"photo": photo, "translated": translator.translate(photo.to(translator.device)).cpu()}
        for suite, output in ((translated, images["translated"]), (untouched, photo)):
            suite.update_fake(output)
            if "anime" in batch:
                suite.update_pair(output, batch["anime"])
        if "anime" in batch:
            images["target"] = batch["anime"]
        if len(rows) < num_images:
            rows.append({title: _pixels(image) for title, image in images.items()})
    for batch in animes:
        anime = datamodule.on_after_batch_transfer(batch, 1)["anime"]
        translated.update_real(anime)
        untouched.update_real(anime)
    return rows


def _pixels(images: Tensor) -> np.ndarray:
    return to_uint8(images[0]).permute(1, 2, 0).cpu().numpy()
