"""What a study has done so far, on disk after every change."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError
from lit_ghibli.files import lock_file, remove_partials, write_atomically

FILE = "ledger.json"

_Forecast = {"seconds_per_iteration": float, "host_peak_mib": float | None, "total_seconds": float}


@dataclass
class Entry:
    """What is known of one cell.

    Attributes:
        name: What people call it.
        levels: Label of the level by factor.
        overrides: What its command is given.
        folder: Where it works, relative to the study's.
        state: ``running`` in a ledger that nobody works on means that it was cut off.
        finished: Steps that need not be done again, such as ``train``.
        seconds: Spent on each step so far, in all attempts.
        under_way: The step that has begun and not ended, and when it began, in seconds since 1970; or None.
        evaluated_by: Overrides of the evaluation that is finished; None before.
        metrics: Results by name.
        reference: Those of the untouched inputs, where they are measured as well.
        checkpoint: The last one, relative to the study's folder.
        error: Last lines of a cell that failed.
    """

    name: str
    levels: dict[str, str]
    overrides: list[str]
    folder: str
    state: Literal["waiting", "running", "done", "pruned", "failed", "interrupted"] = "waiting"
    finished: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    under_way: tuple[str, float] | None = None
    evaluated_by: list[str] | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    reference: dict[str, float | None] = field(default_factory=dict)
    checkpoint: str | None = None
    error: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse places outside of the study's folder.

        Raises:
            ValueError: A ledger from elsewhere names one.
        """
        for path in (self.folder, self.checkpoint or ""):
            if PurePath(path).is_absolute() or ".." in PurePath(path).parts or "\0" in path:
                raise ValueError(f"{path!r} is no place in the study's folder")

    @property
    def ended(self) -> bool:
        """Whether something has come of the cell, for better or worse."""
        return self.state in ("done", "pruned", "failed")


class Ledger:
    """Entries by the hash of their configuration, in ``ledger.json`` of a folder, for one program at a time.

    Use it in a ``with`` statement.

    Args:
        folder: The study's.

    Attributes:
        entries: Change them within :meth:`change` only.
        forecasts: What cells will cost, by their overrides.

    Raises:
        UserError: Another program works in this folder, or the file is no ledger.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_file(folder / ".lock")
        if self._lock is None:
            raise UserError(f"{folder}: another `lit-ghibli sweep` is at work here; wait for it, or give --out FOLDER")
        remove_partials(folder)
        self._mutex = threading.RLock()
        self.entries: dict[str, Entry] = {}
        self.forecasts: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            try:
                self._read()
            except UserError:
                self._lock.close()
                raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        """Let other programs work in the folder."""
        self._lock.close()

    @contextlib.contextmanager
    def change(self, key: str) -> Iterator[Entry]:
        """The entry of ``key``, which other threads leave alone meanwhile, and which is on disk afterwards."""
        with self._mutex:
            yield self.entries[key]
            self.save()

    def save(self) -> None:
        """Write the file atomically: a reader sees the old one or the new one, also after a power cut."""
        with self._mutex:
            entries = {key: asdict(entry) for key, entry in self.entries.items()}
            with write_atomically(self.path, encoding="utf-8") as file:
                json.dump({"cells": entries, "forecasts": self.forecasts}, file, indent=1)

    def _read(self) -> None:
        try:
            written = read_json(self.path, {"cells": dict[str, Entry], "forecasts": dict[str, _Forecast]})
        except DocumentError as error:
            raise UserError(f"{error}: no ledger of this version; move it away to begin anew") from error
        self.entries, self.forecasts = written["cells"], written["forecasts"]
