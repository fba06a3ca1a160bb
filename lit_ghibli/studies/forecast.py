"""What the cells of a study will cost, by trying a few steps of each."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lit_ghibli.errors import UserError, say
from lit_ghibli.overrides import quote
from lit_ghibli.reports.tables import duration, markdown_table
from lit_ghibli.studies.cells import Source
from lit_ghibli.studies.ledger import Entry, Ledger
from lit_ghibli.studies.study import SEED, Study

_KEPT = ("seconds_per_iteration", "host_peak_mib", "cuda_reserved_mib", "total_seconds")


def forecast(ledger: Ledger, study: Study, source: Source, steps: int, jobs: int) -> None:
    """Print all cells with their states and, where they train, what each and all that is left will take.

    Forecasts stay in the ledger; cells that differ in their seed alone share one, and so do all trials of a search.

    Args:
        ledger: Of the study.
        study: What is to be run.
        source: Its cells.
        steps: Of training that are tried of each; 0 for no forecast.
        jobs: How many will run at the same time.

    Raises:
        UserError: A cell cannot begin.
    """
    entries = source.entries()
    if study.command != "train" or not steps:
        print(markdown_table([_row(entry, {}) for entry in entries]) if entries else "")
        return
    pending = [entry for entry in entries if not entry.ended]
    new = source.total - len(entries)  # trials that the search has not proposed yet
    if new:
        pending.append(Entry("any trial", {}, list(study.common), ""))
    for number, entry in enumerate(pending, start=1):
        if _key(entry) not in ledger.forecasts:
            say(f"forecast {number}/{len(pending)}: {entry.name}")
            ledger.forecasts[_key(entry)] = _try(entry, steps)
            ledger.save()
    shown = [*entries, *pending[len(pending) - bool(new) :]]
    print(markdown_table([_row(entry, ledger.forecasts.get(_key(entry), {})) for entry in shown]))
    left = [max(ledger.forecasts[_key(entry)]["total_seconds"] - sum(entry.seconds.values()), 0.0) for entry in pending]
    seconds = sum(left) + max(new - 1, 0) * (left[-1] if left else 0.0)
    count = len(pending) + max(new - 1, 0)
    print(f"{count} cells to run: about {duration(seconds / jobs)} with jobs={jobs}")


def _key(entry: Entry) -> str:
    """What cells have in common that differ in nothing but the seed."""
    return " ".join(word for word in entry.overrides if not word.startswith(f"{SEED}="))


def _try(entry: Entry, steps: int) -> dict[str, Any]:
    """What `lit-ghibli estimate` says of a cell.

    Raises:
        UserError: It failed.
    """
    with TemporaryDirectory(prefix="lit_ghibli_") as folder:
        words = ["estimate", *entry.overrides, f"steps={steps}", f"warm_up={steps // 4}", f"out={quote(folder)}"]
        done = subprocess.run([sys.executable, "-m", "lit_ghibli", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
            raise UserError(f"{entry.name} cannot begin:", *said.splitlines())
        figures = json.loads((Path(folder) / "estimate.json").read_text(encoding="utf-8"))[0]
    return {name: figures[name] for name in _KEPT}


def _row(entry: Entry, forecast: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"cell": entry.name, "state": entry.state}
    if forecast:
        row |= {"s/iteration": forecast["seconds_per_iteration"], "peak MiB": forecast["host_peak_mib"]}
        row |= {"time": duration(forecast["total_seconds"])}
    if entry.seconds:
        row |= {"spent": duration(sum(entry.seconds.values()))}
    return row
