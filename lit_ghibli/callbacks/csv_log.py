"""A CSV log that a resumed run continues."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from lit_ghibli.files import write_atomically


class _ContinuedWriter(ExperimentWriter):
    """Keeps the rows of an interrupted run that the resumed one does not write again."""

    def _check_log_dir_exists(self) -> None:
        """Accept an existing file, which Lightning's writer would delete."""

    def save(self) -> None:
        """Append; the first time in a resumed run, drop old rows from the first new step on."""
        path = Path(self.metrics_file_path)
        if self.metrics and not self.metrics_keys and path.is_file():
            self.metrics_keys = _drop_rows(path, from_step=self.metrics[0]["step"])
        super().save()


def _drop_rows(path: Path, from_step: int) -> list[str]:
    """Leave the complete rows of earlier steps in the file and return its columns; a crash may have cut it short."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        rows = [row for row in reader if None not in row.values()]
    if "step" not in columns:
        path.unlink()
        return []
    with write_atomically(path, newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(row for row in rows if row["step"].isdecimal() and int(row["step"]) < from_step)
    return columns


class ContinuedCSVLogger(CSVLogger):
    """Logs to ``<save_dir>/metrics.csv``, one row per logged step, the same file before and after a resume.

    Args:
        save_dir: The run's folder.
        flush_logs_every_n_steps: Logged steps between two writes to disk.
    """

    def __init__(self, save_dir: str, flush_logs_every_n_steps: int = 10) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _ContinuedWriter(log_dir=self.log_dir)
        return self._experiment

    def log_hyperparams(self, params: Any = None) -> None:
        """Write nothing: the run's record holds them."""
