"""Pictures of fixed photographs while training, on disk and in the loggers."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from lit_ghibli.callbacks.loggers import log_image
from lit_ghibli.images import to_uint8
from lit_ghibli.reports.grids import labelled_grid


class ImageGrid(Callback):
    """At the end of epochs, one row per sample photograph with the method's own columns.

    Args:
        folder: Where ``epoch_NNNN.png`` goes.
        every_n_epochs: Epochs from one grid to the next.
        num_images: Rows.
        max_side: Pictures are shown no larger than this, in pixels.
    """

    def __init__(self, folder: str | Path, every_n_epochs: int, num_images: int, max_side: int) -> None:
        self.folder, self.every_n_epochs = Path(folder), every_n_epochs
        self.num_images, self.max_side = num_images, max_side

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the grid, save it, and hand it to every logger that takes images."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        training = [module for module in pl_module.modules() if module.training]  # frozen networks may not be
        pl_module.eval()
        rows = []
        for sample in trainer.datamodule.samples(self.num_images):
            images = {name: image.to(pl_module.device, pl_module.dtype) for name, image in sample.items()}
            columns = pl_module.picture_columns(**images)
            rows.append({title: to_uint8(image[0]).permute(1, 2, 0).cpu().numpy() for title, image in columns.items()})
        for module in training:
            module.training = True
        grid = labelled_grid(rows, max_side=self.max_side)
        self.folder.mkdir(parents=True, exist_ok=True)
        grid.save(self.folder / f"epoch_{trainer.current_epoch + 1:04d}.png")
        step = trainer.fit_loop.epoch_loop.total_batch_idx  # the step under which the epoch's metrics are logged
        log_image(trainer, "val/grid", grid, step)
