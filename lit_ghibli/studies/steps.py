"""The steps of a cell: what its commands are given, and what they have written."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lit_ghibli.documents import read_json
from lit_ghibli.errors import UserError
from lit_ghibli.overrides import quote
from lit_ghibli.reports.tables import last_values
from lit_ghibli.studies.ledger import Entry
from lit_ghibli.studies.runner import Step
from lit_ghibli.studies.study import Study

EVALUATION = "evaluation"  # folder of a trained cell's evaluation

_TABLES = {"evaluate": "metrics.json", "estimate": "estimate.json"}
_UNTOUCHED, _BEST = "untouched input", "best output"  # titles of rows that `evaluate` writes


def steps_of(
    study: Study, trained: str, trust: bool, pruned: Callable[[], bool], entry: Entry, folder: Path
) -> Iterator[Step]:
    """What is left of a cell.

    Args:
        study: That it belongs to.
        trained: Folder of the training that came before all cells; "" where there is none.
        trust: Whether its trainings may be of anything, also when they go on.
        pruned: Whether the cell's training was stopped early; asked when that is over.
        entry: The cell's; notes which evaluation it had.
        folder: The cell's.
    """
    place = quote(str(folder.resolve()))
    if study.command != "train":
        overrides = [override.replace("{trained}", quote(trained)) for override in entry.overrides]
        yield Step(study.command, [study.command, *overrides, f"out={place}"])
        return
    yield from training(trust, entry, folder)
    if study.evaluate is not None and entry.evaluated_by != list(study.evaluate) and not pruned():
        out = quote(str((folder / EVALUATION).resolve()))
        yield Step("evaluate", ["evaluate", f"checkpoint={place}", f"out={out}", *study.evaluate])
        entry.evaluated_by = list(study.evaluate)  # which the runner comes back to if all went well, and writes down


def training(trust: bool, entry: Entry, folder: Path) -> Iterator[Step]:
    """What is left of a training, with ``trust`` one of anything; all of it where somebody has removed its folder."""
    if "train" not in entry.finished or not (folder / "metrics.csv").is_file():
        place = quote(str(folder.resolve()))
        begun = (folder / "checkpoints" / "last.ckpt").is_file()
        words = [f"resume={place}", *["trust=true"] * trust] if begun else [*entry.overrides, f"hydra.run.dir={place}"]
        yield Step("train", ["train", *words])


def collect(study: Study, entry: Entry, folder: Path) -> None:
    """Put the results of a finished cell into its entry.

    It gets the study's ``metrics``, among which ``seconds`` is the time that the command took, those of the best
    checkpoint as ``best_<name>``, ``reference`` and ``checkpoint``.

    Raises:
        UserError: A metric is missing; the message lists those that there are.
    """
    metrics = list(study.metrics)
    rows = read_rows(folder, study.command, evaluated=study.evaluate is not None)
    found = {"seconds": entry.seconds[study.command], **rows[0]}
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

    Those of a trained cell are its evaluation's if it was ``evaluated``, else the last of its ``metrics.csv``.

    Raises:
        UserError: There is no such table.
    """
    if command == "train" and not evaluated:
        return [last_values(folder / "metrics.csv")]
    path = folder / EVALUATION / _TABLES["evaluate"] if command == "train" else folder / _TABLES[command]
    if not (rows := read_json(path, list[dict[str, Any]])):
        raise UserError(f"{path}: a table without rows")
    return rows
