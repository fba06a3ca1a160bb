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
    """Feed two suites with the translations of all held-out inputs, and with the inputs themselves.

    Args:
        translator: What is measured.
        datamodule: Its validation loaders give inputs, with targets where known, and pictures of the target domain.
        translated: Receives the translations.
        untouched: Receives the inputs, the mark to beat.
        num_images: How many inputs to return.

    Returns:
        The first inputs as rows of a grid: ``input``, ``output`` and, where known, ``target``.
    """
    inputs, targets = datamodule.val_dataloader()
    rows: list[dict[str, np.ndarray]] = []
    for batch in track(inputs, description="Translating"):
        batch = datamodule.on_after_batch_transfer(batch, 0)
        image = batch["input"]
        images = {"input": image, "output": translator.translate(image.to(translator.device)).cpu()}
        for suite, output in ((translated, images["output"]), (untouched, image)):
            suite.update_fake(output)
            if "target" in batch:
                suite.update_pair(output, batch["target"])
        if "target" in batch:
            images["target"] = batch["target"]
        if len(rows) < num_images:
            rows.append({title: _pixels(image) for title, image in images.items()})
    for batch in targets:
        target = datamodule.on_after_batch_transfer(batch, 1)["target"]
        translated.update_real(target)
        untouched.update_real(target)
    return rows


def _pixels(images: Tensor) -> np.ndarray:
    return to_uint8(images[0]).permute(1, 2, 0).cpu().numpy()
