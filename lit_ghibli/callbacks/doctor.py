"""Notices trainings that fail in the ways that users of these methods report."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lit_ghibli.errors import UserError
from lit_ghibli.images import luminance

log = logging.getLogger(__name__)


class TrainingDiverged(UserError):
    """A loss or a weight is no longer finite."""


class Doctor(Callback):
    """Stops a run whose losses are NaN or infinite; warns of identical, inverted or unopposed outputs, idle codes.

    Reads what a training step returns: ``losses`` by name; of methods whose outputs should keep what their inputs
    show, ``input`` and ``output``, both ``(N, 3, H, W)`` in ``[-1, 1]``; of those with a codebook ``codes_in_use``, the
    share of it in ``[0, 1]``. Values are looked at every few steps and before every checkpoint, since looking makes a
    GPU wait; the step named is nevertheless the one in which it happened. Each alarm rings once.

    Args:
        every_n_batches: Steps between two looks. With the other defaults only NaN and infinity are looked for.
        patience: Looks in a row before an alarm rings.
        identical_below: Mean absolute difference of output and photograph, in units of ``[-1, 1]``.
        inverted_below: Correlation of the two luminances.
        unopposed_below: Loss of a discriminator.
        collapsed_below: Share of a codebook that is in use.
    """

    def __init__(
        self,
        every_n_batches: int,
        patience: int = 1,
        identical_below: float = 0.0,
        inverted_below: float = -1.0,
        unopposed_below: float = 0.0,
        collapsed_below: float = 0.0,
    ) -> None:
        self.every_n_batches, self.patience = every_n_batches, patience
        self.identical_below, self.inverted_below = identical_below, inverted_below
        self.unopposed_below, self.collapsed_below = unopposed_below, collapsed_below
        self._unseen: list[tuple[int, dict[str, Tensor]]] = []
        self._in_a_row: dict[str, int] = {}
        self._rung: set[str] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._unseen.append((step, outputs["losses"]))
        if step % self.every_n_batches == 0:
            self._check_losses()
            self._check_discriminators(step, outputs["losses"])
            if "output" in outputs:
                self._check_pictures(step, outputs["input"].float(), outputs["output"].float())
            if "codes_in_use" in outputs:
                self._check_codes(step, outputs["codes_in_use"].item())
        if trainer.is_last_batch:  # what comes next measures and shows what the networks make
            self._check_losses()
            self._check_weights(pl_module.state_dict())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check_losses()
        self._check_weights(checkpoint["state_dict"])  # a good checkpoint stays

    def _check_losses(self) -> None:
        for step, losses in self._unseen:
            for name, value in losses.items():
                if not math.isfinite(value):
                    raise TrainingDiverged(
                        f"step {step}: the loss '{name}' is {float(value)}; the last checkpoint is from before: "
                        "resume from it with a lower learning rate or a lower weight of that loss"
                    )
        self._unseen.clear()

    def _check_weights(self, weights: Mapping[str, Tensor]) -> None:
        finite = {name: value.isfinite().all() for name, value in weights.items() if value.is_floating_point()}
        if broken := [name for name, value in finite.items() if not value]:
            raise TrainingDiverged(
                f"{len(broken)} weights are not finite, {broken[0]} first; the last checkpoint is from before: resume "
                "from it with a lower learning rate"
            )

    def _check_pictures(self, step: int, photo: Tensor, output: Tensor) -> None:
        difference = (photo - output).abs().mean().item()
        self._alarm(
            "identical",
            difference < self.identical_below,
            f"step {step}: outputs equal their photographs (mean difference {difference:.3f} in [-1, 1]): lower "
            "method.weights.identity or method.weights.cycle, or raise method.weights.gan",
        )
        correlation = _correlation(luminance(photo), luminance(output))
        self._alarm(
            "inverted",
            correlation < self.inverted_below,
            f"step {step}: light and dark are exchanged (correlation {correlation:.2f}): raise "
            "method.weights.identity, or start again with another seed",
        )

    def _check_discriminators(self, step: int, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            if name.startswith("discriminator"):
                self._alarm(
                    name,
                    loss.item() < self.unopposed_below,
                    f"step {step}: {name} has won (loss {loss.item():.4f}), the generators learn nothing from it: "
                    "lower method.optimizer_d.lr or add data",
                )

    def _check_codes(self, step: int, in_use: float) -> None:
        self._alarm(
            "collapsed",
            in_use < self.collapsed_below,
            f"step {step}: {100 * in_use:.1f} % of the codes are in use, the codebook has collapsed: start again with "
            "method.generator.restart_after=200 or method.generator.codebook_ema=0.99",
        )

    def _alarm(self, kind: str, symptom: bool, message: str) -> None:
        self._in_a_row[kind] = self._in_a_row.get(kind, 0) + 1 if symptom else 0
        if self._in_a_row[kind] >= self.patience and kind not in self._rung:
            self._rung.add(kind)
            log.warning(message)


def _correlation(a: Tensor, b: Tensor) -> float:
    stacked = torch.stack([a.flatten(), b.flatten()])
    if (stacked.std(dim=1) < 1e-6).any():
        return 0.0
    return torch.corrcoef(stacked)[0, 1].item()
