"""A CSV log that a resumed run continues."""

import csv
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment


class _ContinuedWriter(ExperimentWriter):
    """Keeps the rows of an interrupted run that the resumed one does not write again."""

    def _check_log_dir_exists(self) -> None:
        """Accept an existing file, which Lightning's writer would delete."""

    def save(self) -> None:
        """Append; the first time in a resumed run, drop old rows from the first new step on."""
        path = Path(self.metrics_file_path)
        if self.metrics and not self.metrics_keys and path.is_file():
            with open(path, newline="") as file:
                reader = csv.DictReader(file)
                self.metrics_keys = list(reader.fieldnames or [])
                kept = [row for row in reader if int(row["step"]) < self.metrics[0]["step"]]
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
                writer.writeheader()
                writer.writerows(kept)
        super().save()


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
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = _ContinuedWriter(log_dir=self.log_dir)
        return self._experiment
