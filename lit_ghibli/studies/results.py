"""Reads what a cell's commands have written."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_ghibli.errors import UserError
from lit_ghibli.reports.tables import last_values
from lit_ghibli.studies.ledger import Entry

EVALUATION = "evaluation"  # folder of a trained cell's evaluation

_TABLES = {"evaluate": "metrics.json", "estimate": "estimate.json"}
_UNTOUCHED, _BEST = "untouched input", "best output"  # titles of rows that `evaluate` writes


def collect(entry: Entry, folder: Path, command: str, metrics: Sequence[str], *, evaluated: bool) -> None:
    """Put the results of a finished cell into its entry.

    Args:
        entry: Gets ``metrics``, of the best checkpoint as ``best_<name>``, ``reference`` and ``checkpoint``.
        folder: The cell's.
        command: That it ran.
        metrics: Names that its tables must have; ``seconds`` is the time that the command took.
        evaluated: Whether a trained cell was evaluated; otherwise its results are the last of its ``metrics.csv``.

    Raises:
        UserError: A metric is missing; the message lists those that there are.
    """
    rows = read_rows(folder, command, evaluated=evaluated)
    found = {"seconds": entry.seconds[command], **rows[0]}
    if missing := [name for name in metrics if found.get(name) is None]:
        numbers = sorted(name for name, value in found.items() if isinstance(value, int | float))
        raise UserError(f"{entry.name}: no metric '{missing[0]}' in {folder}; there are {numbers}")
    entry.metrics = {name: float(found[name]) for name in metrics}  # of words, too: JSON has no infinity and no NaN
    for row in rows[1:]:
        values = {name: float(row[name]) for name in metrics if row.get(name) is not None}
        if row.get("pictures") == _UNTOUCHED:
            entry.reference = values
        elif row.get("pictures") == _BEST:
            entry.metrics |= {f"best_{name}": value for name, value in values.items()}
    last = folder / "checkpoints" / "last.ckpt"
    entry.checkpoint = f"{entry.folder}/checkpoints/last.ckpt" if last.is_file() else None


def read_rows(folder: Path, command: str, *, evaluated: bool) -> list[dict[str, Any]]:
    """Rows of the table that a cell's last command has written, its own first.

    Raises:
        UserError: There is no such table.
    """
    if command == "train" and not evaluated:
        return [last_values(folder / "metrics.csv")]
    path = folder / EVALUATION / _TABLES["evaluate"] if command == "train" else folder / _TABLES[command]
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
