"""How far a study is, from its files alone: whoever works on it, and wherever, is not disturbed."""

from pathlib import Path
from typing import Any

from lit_ghibli.errors import UserError, say
from lit_ghibli.locks import Taken, is_free, owner_of
from lit_ghibli.reports.tables import duration, markdown_table
from lit_ghibli.studies import runner
from lit_ghibli.studies.ledger import FILE, LOCK, CellLedger, Entry, count_states, read_ledger

_TAIL = 10_000  # bytes of a log in which its last news are


def print_status(folder: Path) -> None:
    """Print the state of every cell of a study.

    Args:
        folder: Of its ledger.

    Raises:
        UserError: Nothing was begun there.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder}: no {FILE} here, so nothing was begun; or another folder was given with --out")
    entries = [_as_it_is(folder, key, entry) for key, entry in read_ledger(path)[0].items()]
    print(markdown_table([_row(folder, entry) for entry in entries]))
    owner = None if is_free(folder / LOCK) else owner_of(folder / LOCK)
    say("nobody sweeps here now" if owner is None else f"sweeps here: {str(Taken(owner, LOCK)).rstrip(',')}")
    print(count_states(entries, len(entries)))
    for entry in entries:
        if entry.state == "failed":
            say(f"failed: {entry.name} ({folder / entry.folder / runner.LOG}): {(entry.error or [''])[-1]}")


def _as_it_is(folder: Path, key: str, entry: Entry) -> Entry:
    """An entry with what its job has written down since, and as cut off where nobody works on it any more."""
    said = CellLedger(folder, key, entry).read() if entry.attempt else None
    if said is not None and said.attempt == entry.attempt:
        entry = said
    if entry.state == "running" and is_free(folder / entry.folder / runner.LOCK):
        entry.state = "interrupted"
    return entry


def _row(folder: Path, entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"cell": entry.name, "state": entry.state, "job": " ".join((entry.job or "").split()[:2])}
    row["spent"] = duration(sum(entry.seconds.values())) if entry.seconds else ""
    return {**row, "at": "" if entry.ended else _news(folder / entry.folder / runner.LOG)}


def _news(log: Path) -> str:
    """How far the last line of a cell's log that says so says that it is."""
    if not log.is_file():
        return ""
    with open(log, "rb") as file:
        file.seek(max(log.stat().st_size - _TAIL, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return next((runner.news(line) for line in reversed(lines) if runner.news(line)), "")
