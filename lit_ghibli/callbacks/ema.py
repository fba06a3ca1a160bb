"""A moving average of a generator's weights beside its training."""

from contextlib import ExitStack
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_ghibli.errors import UserError
from lit_ghibli.training.weight_average import WeightAverage


class Ema(Callback):
    """Keeps an exponential moving average of the networks that translate, which is what is judged and shown.

    Training goes on with the weights themselves, which checkpoints hold as ever; the averages are in them under
    ``ema``. Lightning's own callback copies discriminators and metrics, too, and leaves them averaged.

    Args:
        decay: See :class:`~lit_ghibli.training.weight_average.WeightAverage`; None for no average.
    """

    def __init__(self, decay: float | None) -> None:
        self.decay = decay
        self._restored: dict[str, Any] | None = None
        self._judged = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.decay is not None and not hasattr(pl_module, "translator"):
            raise UserError(f"callbacks.ema: {type(pl_module).__name__} has no generator to average: leave it out")

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint.get("ema")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.decay is None:
            return
        translating = {pl_module.translator()}
        if hasattr(pl_module, "reverse_translator"):
            translating.add(pl_module.reverse_translator())
        networks = {name: network for name, network in pl_module.named_children() if network in translating}
        pl_module.average = WeightAverage(networks, self.decay)
        if self._restored:  # else the average of a run that had none begins with its weights
            pl_module.average.load_state_dict(self._restored)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if pl_module.average is not None:
            pl_module.average.update(pl_module.iteration)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._judged.enter_context(pl_module.averaged())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._judged.close()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if pl_module.average is not None:
            checkpoint["ema"] = pl_module.average.state_dict()
