"""Images, histograms and tables for the loggers that take them; to be called on the first rank only."""

from collections.abc import Mapping, Sequence

import numpy as np
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from lit_ghibli.callbacks.tensorboard_log import ContinuedTensorBoardLogger
from lit_ghibli.reports.tables import columns, markdown_table

Histogram = tuple[np.ndarray, np.ndarray]  # numbers of values, and the edges of their bins


def log_image(trainer: Trainer, key: str, image: Image.Image, step: int) -> None:
    """Hand an RGB picture to every logger of a run that takes pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _writer(logger, step).add_image(key, np.asarray(image), step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(key, [image], step)


def log_histograms(trainer: Trainer, histograms: Mapping[str, Histogram], step: int) -> None:
    """Hand histograms, by key, to every logger of a run that takes them."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for key, (counts, edges) in histograms.items():
                middles = (edges[:-1] + edges[1:]) / 2  # whose moments stand for those of the values
                _writer(logger, step).add_histogram_raw(
                    key,
                    min=float(edges[0]),
                    max=float(edges[-1]),
                    num=int(counts.sum()),
                    sum=float((counts * middles).sum()),
                    sum_squares=float((counts * middles**2).sum()),
                    bucket_limits=edges[1:].tolist(),
                    bucket_counts=counts.tolist(),
                    global_step=step,
                )
        elif isinstance(logger, WandbLogger):
            import wandb

            logger.log_metrics({key: wandb.Histogram(np_histogram=found) for key, found in histograms.items()}, step)


def log_table(
    trainer: Trainer, key: str, rows: Sequence[Mapping[str, Image.Image | float | int | str | None]], step: int
) -> None:
    """Hand rows of pictures, numbers and text to W&B, and to TensorBoard as far as they are no pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            text = [{name: cell for name, cell in row.items() if not isinstance(cell, Image.Image)} for row in rows]
            _writer(logger, step).add_text(key, markdown_table(text), step)
        elif isinstance(logger, WandbLogger):
            import wandb

            names = columns(rows)
            cells = [[row.get(name) for name in names] for row in rows]
            shown = [[wandb.Image(cell) if isinstance(cell, Image.Image) else cell for cell in row] for row in cells]
            logger.log_table(key, names, shown, step=step)


def _writer(logger: TensorBoardLogger, step: int) -> SummaryWriter:
    return logger.writer(step) if isinstance(logger, ContinuedTensorBoardLogger) else logger.experiment
