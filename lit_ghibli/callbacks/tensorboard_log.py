"""A TensorBoard log that a resumed run continues."""

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lit_ghibli.overrides import flatten


class ContinuedTensorBoardLogger(TensorBoardLogger):
    """Logs to ``<save_dir>/tensorboard``, where the steps that a resumed run does again replace those of before.

    When a training is over, its configuration goes to the tab HPARAMS, beside the last value of everything logged.

    Args:
        save_dir: The run's folder.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir, name="", version="tensorboard", default_hp_metric=False)
        self._continues = any(Path(self.log_dir).glob("events.out.tfevents.*"))
        self._latest: dict[str, float] = {}

    def writer(self, step: int) -> SummaryWriter:
        """TensorBoard's writer, for something that happens at ``step``; not for other ranks than the first."""
        if self._continues:
            self._continues = False
            start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
            self.experiment.file_writer.add_event(start)  # readers forget what came at this step and after it
        return self.experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is not None:
            self.writer(step)
        super().log_metrics(metrics, step)
        self._latest |= {name: float(value) for name, value in metrics.items()}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Log the configuration of a finished training, and close the file."""
        if status == "success" and self._latest:
            values = flatten(self.hparams).items()
            plain = {key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in values}
            for summary in hparams(plain, self._latest):
                self.experiment.file_writer.add_summary(summary)
        super().finalize(status)
