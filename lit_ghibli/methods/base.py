"""What every photo -> picture method shares around its algorithm: validation, inference, exact resume."""

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.training import rank_state

_SERVED_BY = {
    ("photo", "anime"): "data=unpaired or data=scenes",
    ("input", "target"): "data=two_folders, side_by_side, derived or scene_pairs",
    ("pair_a", "pair_b", "photo", "anime"): "data=pseudo_paired or data=semi_scenes",
}


class Translation(LightningModule):
    """A LightningModule that translates photographs and is judged on held-out ones.

    A method names its :attr:`batch_keys`, implements :meth:`translator`, may extend :meth:`picture_columns` and
    :meth:`validation_metrics`, and sets :attr:`metrics`, which judges held-out photographs and may be None.
    """

    batch_keys: tuple[str, ...]  # of a training batch, in the method's order
    metrics: MetricSuite | None  # no value here: it would hide the sub-module of this name

    def translator(self) -> nn.Module:
        """The network that turns a photograph into a picture, the only one that inference needs."""
        raise NotImplementedError

    def check_data(self, datamodule: LightningDataModule) -> None:
        """Refuse data that this method cannot train on, before they are read.

        Raises:
            UserError: Batches hold something else, or crops have a size that the translator does not take.
        """
        served = getattr(datamodule, "batch_keys", ())
        if served != self.batch_keys:
            raise UserError(
                f"{type(self).__name__} trains on batches of {', '.join(self.batch_keys)}, which these data do not "
                f"serve: choose {_SERVED_BY[self.batch_keys]}"
            )
        self.translator().check_size(datamodule.crop_size, datamodule.crop_size)

    def networks(self) -> dict[str, nn.Module]:
        """The sub-modules that have parameters, by name."""
        return {name: module for name, module in self.named_children() if any(True for _ in module.parameters())}

    def picture_columns(self, input: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """Columns of the sample grid by title, each ``(N, 3, H, W)`` in ``[-1, 1]``."""
        columns = {"input": input, "output": translate(self.translator(), input)}
        return columns if target is None else {**columns, "target": target}

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Feed the metrics: loader 0 gives held-out inputs, loader 1 pictures of the target domain."""
        if self.metrics is None:
            return
        if dataloader_idx == 1:
            self.metrics.update_real(batch["target"])
            return
        fake = translate(self.translator(), batch["input"])
        self.metrics.update_fake(fake)
        if "target" in batch:
            self.metrics.update_pair(fake, batch["target"])

    def validation_metrics(self) -> dict[str, float]:
        """Metrics of the whole held-out set, by name."""
        return self.metrics.compute()

    def on_validation_epoch_end(self) -> None:
        """Log ``val/<metric>`` over the whole held-out set and start afresh."""
        if self.metrics is None:
            return
        if not self.trainer.sanity_checking:
            self.log_dict({f"val/{name}": value for name, value in self.validation_metrics().items()})
        self.metrics.reset()

    def setup(self, stage: str) -> None:
        """Seed the image pools by rank; a resumed run overwrites their states afterwards."""
        rank_state.seed_pools(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add image pools and random states of all ranks."""
        checkpoint["ranks"] = rank_state.collect(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the ranks' states until everything else that draws random numbers is set up."""
        self._rank_states = checkpoint["ranks"]

    def on_train_start(self) -> None:
        """Restore this rank's image pools and random state in a resumed run."""
        if (states := self.__dict__.pop("_rank_states", None)) is not None:
            rank_state.restore(self, states)


@torch.no_grad()
def translate(network: nn.Module, photo: Tensor) -> Tensor:
    """Run a generator on photographs of any size.

    Args:
        network: Generator with the attributes ``size_multiple`` and ``minimum_size``, in pixels.
        photo: ``(N, 3, H, W)`` in ``[-1, 1]``; reflect-padded at the right and bottom to a size that the
            network takes.

    Returns:
        Pictures of the photographs' size and type, in ``[-1, 1]``.
    """
    height, width = photo.shape[-2:]
    padded = pad_to_multiple(photo, network.size_multiple, network.minimum_size)
    return network(padded)[..., :height, :width].to(photo.dtype).clamp(-1.0, 1.0)


def pad_to_multiple(images: Tensor, multiple: int, minimum: int = 1) -> Tensor:
    """Reflect-pad ``(N, C, H, W)`` at the right and bottom to multiples of ``multiple``, at least ``minimum``.

    Images smaller than their padding are mirrored back and forth, which ``torch.nn.functional.pad`` refuses.
    """
    for dim in (-2, -1):
        length = images.shape[dim]
        padded = max(-(-length // multiple) * multiple, minimum)
        if padded > length:
            period = max(2 * (length - 1), 1)
            positions = torch.arange(padded, device=images.device) % period
            images = images.index_select(dim, torch.where(positions < length, positions, period - positions))
    return images
