"""A CSV log that a resumed run continues."""

import csv
import logging
import shutil
from itertools import count
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from lit_ghibli.files import write_atomically

log = logging.getLogger(__name__)


class _ContinuedWriter(ExperimentWriter):
    """Keeps the rows of an interrupted run that the resumed one does not write again."""

    def _check_log_dir_exists(self) -> None:
        """Accept an existing file, which Lightning's writer would delete."""

    def save(self) -> None:
        """Append; the first time in a resumed run, drop old rows from the first new step on."""
        path = Path(self.metrics_file_path)
        if self.metrics and not self.metrics_keys and path.is_file():
            self.metrics_keys, rows = earlier_rows(path, "step", self.metrics[0]["step"])
            with write_atomically(path, newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
                writer.writeheader()
                writer.writerows(rows)
        super().save()


def earlier_rows(path: Path, column: str, end: int) -> tuple[list[str], list[dict[str, str]]]:
    """Columns of a CSV file, and its rows with a number below ``end`` in one of them.

    The last row may be incomplete, where a crash has cut it short. If any other cannot be read, as after a spreadsheet
    has written the file in its own way, the file is kept under another name, too.
    """
    columns, rows, unreadable = [], [], False
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error):
        lines, unreadable = [], True
    if lines and column in lines[0]:
        columns = lines[0]
        place = columns.index(column)
        for number, line in enumerate(lines[1:], start=2):
            if len(line) == len(columns) and line[place].isdecimal():
                if int(line[place]) < end:
                    rows.append(dict(zip(columns, line, strict=True)))
            elif line and number < len(lines):
                unreadable = True
    elif len(lines) > 1:
        unreadable = True
    if unreadable:
        copies = (path.with_name(f"{path.stem}_set_aside_{number}{path.suffix}") for number in count(1))
        aside = next(copy for copy in copies if not copy.exists())
        shutil.copy2(path, aside)
        log.warning("%s: not all rows are as they were written; the file is kept as %s", path, aside.name)
    return columns, rows


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
