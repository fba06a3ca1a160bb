"""Pictures to whichever loggers take them."""

import numpy as np
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image


def log_image(trainer: Trainer, key: str, image: Image.Image, step: int) -> None:
    """Hand an RGB picture to every logger of a run that takes pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, np.asarray(image), step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(key, [image], step)
