"""A search whose trials something else launches, so many at once; its results as tables."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from lit_ghibli.documents import read_json
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import write_atomically
from lit_ghibli.locks import Taken, take
from lit_ghibli.overrides import spell
from lit_ghibli.reports.tables import direction, write_table
from lit_ghibli.studies.search import JOURNAL, Search, Trial

LOCK = "search.lock"

_MANY_FAILURES = 3  # in a row from the start: what is wrong with these is wrong with all

log = logging.getLogger(__name__)


def search_in_batches(
    folder: Path,
    space: Mapping[str, Mapping[str, Any]],
    metrics: str | Sequence[str] | None,
    launch: Callable[[list[Trial]], list[Any]],
    *,
    n_trials: int,
    n_jobs: int,
    directions: str | Sequence[str] | None,
    **settings: Any,
) -> None:
    """Launch trials until none is left, and write what came of them after each batch.

    Args:
        folder: Holds the journal, ``optimization_results.yaml`` and the table ``search.csv``, ``.json`` and ``.md``.
            Where it holds a journal already, that search goes on, first with the trials that were under way.
        space: As of :class:`~lit_ghibli.studies.search.Search`.
        metrics: What trials return, one value or one of each.
        launch: Gives for each trial an object whose ``return_value`` is that, or raises what the trial failed with.
        n_trials: How many to try in all.
        n_jobs: How many are launched at once.
        directions: ``min`` or ``max`` for each metric in turn; None to go by their names.
        settings: ``seed``, ``sampler`` and ``pruner`` of the search.

    Raises:
        UserError: Something given is impossible, another program searches here, or no trial came to anything.
    """
    if not metrics:
        raise UserError("a search needs optimized_metric=NAME, or several as optimized_metric=[NAME,train_seconds]")
    chosen = directions_of([metrics] if isinstance(metrics, str) else list(metrics), directions)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = take(folder / LOCK, lambda who: say(f"{folder}: looking whether {who} still searches here"))
    except Taken as error:
        raise UserError(
            f"hydra.sweep.dir={folder}: another search is at work here, {error} wait for it, or give another"
        ) from error
    with lock:
        search = Search(folder / JOURNAL, "search", space, chosen, n_trials, **settings)
        ended: set[int] = set()  # of this program
        while batch := search.take(n_jobs):
            for trial, result in zip(batch, launch(batch), strict=True):
                ended.add(trial.number)
                try:
                    returned = result.return_value
                except Exception as error:
                    trace = None if isinstance(error, UserError) else error
                    log.warning("trial %d failed: %s", trial.number, error, exc_info=trace)
                    search.fail(trial.number, str(error) or type(error).__name__)
                    continue
                values = returned if isinstance(returned, list | tuple) else [returned]
                search.tell(trial.number, dict(zip(chosen, values, strict=True)))
            write_results(search, folder)
            states = [row["state"] for row in search.rows() if row["number"] in ended]
            if len(states) >= _MANY_FAILURES and set(states) == {"failed"}:
                raise UserError(f"all {len(states)} trials failed so far: see {folder / 'search.md'}; again to go on")
        write_results(search, folder)  # an earlier program may have been killed before it could
    if search.best() is None:
        raise UserError(f"nothing came of any trial: see {folder / 'search.md'}")
    say(f"search: {folder / 'search.md'}")


def run_trial(folder: Path, overrides: list[str], train: Callable[[], Any]) -> Any:
    """A training whose end, good or bad, is the end of a trial and not of the search.

    Its result is kept in its folder: in a batch of trials, one may end long before the search is told of any.

    Args:
        folder: The trial's.
        overrides: By which a result that is kept there is known as this trial's.
        train: Gives the result.

    Raises:
        Exception: What it ended with.
    """
    path = folder / "trial.json"
    overrides = [override for override in overrides if not override.startswith("resume=")]
    if path.is_file():
        kept = read_json(path, {"overrides": list[str], "returned": Any})
        if kept["overrides"] == overrides:
            return kept["returned"]
    returned = train()
    with write_atomically(path) as file:
        json.dump({"overrides": overrides, "returned": returned}, file)
    return returned


def evenly_spaced(values: Sequence[int | float], step: int | float) -> dict[str, Any]:
    """An entry of a search's space for sorted values that lie ``step`` apart."""
    exact = Decimal(str(step))
    if all(isinstance(value, int) for value in values):
        return {"low": values[0], "high": values[-1], "step": int(exact), "int": True}
    high = Decimal(str(values[0])) + (len(values) - 1) * exact  # without the rounding of repeated addition
    return {"low": values[0], "high": float(high), "step": float(exact)}


def directions_of(names: Sequence[str], given: str | Sequence[str] | None) -> dict[str, str]:
    """Which way each metric is better, ``min`` or ``max`` by name.

    Raises:
        UserError: This is neither given nor told by a name.
    """
    if given is not None:
        given = [given] if isinstance(given, str) else given
        if len(given) != len(names):
            raise UserError(f"hydra.sweeper.directions must be one for each of {list(names)}; got {list(given)}")
        return dict(zip(names, given, strict=True))
    signs = {name: -1 if name == "train_seconds" else direction(name.split("/")[-1]) for name in names}
    if unknown := [name for name, sign in signs.items() if not sign]:
        raise UserError(f"which way is {unknown[0]} better? Give hydra.sweeper.directions=[min], or max, one for each")
    return {name: "min" if sign < 0 else "max" for name, sign in signs.items()}


def write_results(search: Search, folder: Path) -> None:
    """Write all trials as a table, and the best as Hydra's sweepers do."""
    one = len(search.directions) == 1
    table = []
    for row in search.rows():
        tried = {key: spell(v) if isinstance(v, list | dict) else v for key, v in row["parameters"].items()}
        values = {name: row["values"].get(name) for name in search.directions}
        judged = {
            "best" if one else "front": "yes" if row["on_front"] else "",
            "why": " ".join((row["why"] or "").split()),
        }
        table.append({"trial": row["number"], "state": row["state"], **tried, **values, **judged})
    write_table(table, folder, "search")
    results: dict[str, Any] = {"name": "search"}
    if one and (best := search.best()):
        results |= {"best_params": best["parameters"], "best_value": next(iter(best["values"].values()))}
    else:
        results["solutions"] = [
            {"trial": row["number"], "params": row["parameters"], "values": list(row["values"].values())}
            for row in search.front()
        ]
    with write_atomically(folder / "optimization_results.yaml", encoding="utf-8") as file:
        yaml.safe_dump(results, file, sort_keys=False, allow_unicode=True)
