"""Sample pictures of fixed photographs while training, with scores, on disk and in the loggers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from lit_ghibli.callbacks.csv_log import earlier_rows
from lit_ghibli.callbacks.loggers import log_image, log_table
from lit_ghibli.files import replacing, write_picture
from lit_ghibli.images import to_pixels, to_unit
from lit_ghibli.metrics.structure import structure_consistency, style_strength
from lit_ghibli.metrics.suite import SMALLEST, MetricSuite
from lit_ghibli.reports.grids import labelled_grid
from lit_ghibli.reports.tables import write_csv


class ImageGrid(Callback):
    """At the end of epochs, one row per sample photograph with the method's own columns, and scores of each picture.

    Args:
        folder: Where ``epoch_NNNN.png`` goes; the scores go to ``<folder>.csv``.
        every_n_epochs: Epochs from one grid to the next.
        num_images: Rows.
        max_side: Pictures are shown no larger than this, in pixels.
    """

    def __init__(self, folder: str | Path, every_n_epochs: int, num_images: int, max_side: int) -> None:
        self.folder, self.every_n_epochs = Path(folder), every_n_epochs
        self.num_images, self.max_side = num_images, max_side

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        with pl_module.averaged():
            rows, scores = self._translate(trainer, pl_module)
        grid = labelled_grid([list(row.items()) for row in rows], max_side=self.max_side)
        write_picture(grid, self.folder / f"epoch_{trainer.current_epoch + 1:04d}.png")
        continue_csv(self.folder.with_suffix(".csv"), trainer.current_epoch + 1, scores)
        step = trainer.fit_loop.epoch_loop.total_batch_idx  # the step under which the epoch's metrics are logged
        log_image(trainer, "val/grid", grid, step)
        log_table(trainer, "val/pictures", [self._table_row(*row) for row in zip(rows, scores, strict=True)], step)

    def _translate(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> tuple[list[dict[str, np.ndarray]], list[dict[str, float]]]:
        """Columns of every sample photograph, as ``uint8`` pictures, and the scores of its picture."""
        training = [module for module in pl_module.modules() if module.training]  # frozen networks may not be
        pl_module.eval()
        rows, scores = [], []
        for number, sample in enumerate(trainer.datamodule.samples(self.num_images), start=1):
            images = {name: image.to(pl_module.device, pl_module.dtype) for name, image in sample.items()}
            columns = pl_module.picture_columns(**images)
            photo, picture, *_ = columns.values()
            scored = sample_scores(pl_module.metrics, photo, picture, images.get("target"))
            scores.append({"photo": number, **scored})
            rows.append({title: to_pixels(image) for title, image in columns.items()})
        for module in training:
            module.training = True
        return rows, scores

    def _table_row(self, row: dict[str, np.ndarray], scores: dict[str, float]) -> dict[str, Image.Image | float]:
        """Pictures, the first two of them named alike for all methods, and scores."""
        pictures = [Image.fromarray(image) for image in row.values()]
        for picture in pictures:
            picture.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        titles = ["input", "output", *list(row)[2:]]
        return {**dict(zip(titles, pictures, strict=True)), **scores}


@torch.no_grad()
def sample_scores(suite: MetricSuite | None, photo: Tensor, picture: Tensor, target: Tensor | None) -> dict[str, float]:
    """What one picture keeps of its photograph, what it changes, and how near it is to its target.

    Args:
        suite: Names the scores against the target; those that need larger pictures are left out.
        photo: ``(1, 3, H, W)`` in ``[-1, 1]``, as are the others.
        picture: What a method makes of it.
        target: What it should be, if that is known.

    Returns:
        ``structure`` and ``style_strength``, see `lit_ghibli.metrics.structure`; with a target also ``ssim``,
        ``psnr`` and whatever else the suite has for pairs.
    """
    photo, picture = photo.float(), picture.float()
    scores = {"structure": structure_consistency(photo, picture), "style_strength": style_strength(photo, picture)}
    if suite is not None and target is not None:
        output, wanted = to_unit(picture), to_unit(target.float())
        fitting = [name for name in suite.pair_metrics if min(output.shape[-2:]) >= SMALLEST.get(name, 1)]
        scores |= {suite.titles[name]: suite.pair_metrics[name].score(output, wanted) for name in fitting}
    return {name: float(score) for name, score in scores.items()}


def continue_csv(path: str | Path, epoch: int, rows: list[dict[str, Any]]) -> None:
    """Add the rows of an epoch to a CSV file that has a column ``epoch``.

    Rows of this epoch and of later ones, which an interrupted run has left behind, are dropped. The file is replaced
    as a whole, so that a crash leaves the old one or the new one. One that cannot be read is kept under another name.
    """
    path = Path(path)
    before = earlier_rows(path, "epoch", epoch)[1] if path.is_file() else []
    with replacing(path) as partial:
        write_csv([*before, *({"epoch": epoch, **row} for row in rows)], partial)
