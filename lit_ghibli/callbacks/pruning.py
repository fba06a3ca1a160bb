"""Pruning: stops a trial of a search that does worse than the others did."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_ghibli.errors import UserError
from lit_ghibli.studies.journal import report


class Pruning(Callback):
    """Reports each epoch's validation to a search's journal; ends the training if the search's pruner says so.

    The training ends as it would after its last epoch, checkpoint and all; the journal tells the search that it was
    pruned. After the last epoch there is nothing left to save, so that it is reported only.

    Args:
        journal: File of the search.
        study: Name of the search in it.
        trial: Number of this trial.
        monitor: Logged metric, such as ``val/swd``, in the direction of the one that the search optimises.
    """

    def __init__(self, journal: str | Path, study: str, trial: int, monitor: str) -> None:
        self.journal, self.study, self.trial, self.monitor = Path(journal), study, trial, monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.monitor not in trainer.callback_metrics:
            raise UserError(
                f"callbacks.pruning.monitor={self.monitor} is not logged; there are {sorted(trainer.callback_metrics)}"
            )
        stop = False
        if trainer.is_global_zero:
            value = float(trainer.callback_metrics[self.monitor])
            unfinished = trainer.current_epoch + 1 < trainer.max_epochs
            stop = report(self.journal, self.study, self.trial, trainer.current_epoch, value, prune=unfinished)
        if trainer.strategy.broadcast(stop):
            trainer.should_stop = True
            trainer.print(
                f"pruned after epoch {trainer.current_epoch + 1}: {self.monitor} is worse than in other trials"
            )
