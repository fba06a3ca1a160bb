"""Where the cells of a study come from: a grid that is known beforehand, or a search that proposes them."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from lit_ghibli.studies.ledger import Entry, Ledger
from lit_ghibli.studies.overrides import spell
from lit_ghibli.studies.search import Search, Trial
from lit_ghibli.studies.study import Cell, Study, override, short

JOURNAL = "search.journal"

_LONGEST = 80  # letters of a cell's name in that of its folder


class Source(Protocol):
    """Gives cells to a runner.

    Attributes:
        total: How many cells there will be.
    """

    total: int

    def take(self) -> str | None:
        """The hash of the next cell to run; None when there is none."""

    def ended(self, key: str) -> None:
        """Be told that a cell has ended, in whatever way."""

    def entries(self) -> list[Entry]:
        """All cells so far."""


class GridSource:
    """All combinations of a grid that are not done.

    Args:
        ledger: Gets an entry for every new cell.
        study: With a grid.
        identify: The hash of a cell.
        retry: Whether failed cells are run again.
    """

    def __init__(self, ledger: Ledger, study: Study, identify: Callable[[Cell], str], *, retry: bool) -> None:
        self.ledger = ledger
        self.keys = {identify(cell): cell for cell in study.cells()}
        for key, cell in self.keys.items():
            enter(ledger, key, cell)
        self.total = len(self.keys)
        left = ("waiting", "running", "interrupted", *(["failed"] if retry else []))
        self._left: Iterator[str] = iter([key for key in self.keys if ledger.entries[key].state in left])

    def take(self) -> str | None:
        """See :class:`Source`."""
        return next(self._left, None)

    def ended(self, key: str) -> None:
        """See :class:`Source`."""

    def entries(self) -> list[Entry]:
        """See :class:`Source`."""
        return [self.ledger.entries[key] for key in self.keys]


class SearchSource:
    """The trials of a search, each with the values that the results so far suggest.

    Args:
        ledger: Gets an entry for every trial; its folder holds the search's journal.
        study: With a search.
        identify: The hash of a cell.
    """

    def __init__(self, ledger: Ledger, study: Study, identify: Callable[[Cell], str]) -> None:
        self.ledger, self.study, self.identify = ledger, study, identify
        settings = dict(study.search)
        self.total = settings["trials"]
        self.search = Search(
            ledger.folder / JOURNAL, study.name, directions=study.metrics, seed=study.seeds[0], **settings
        )
        self._numbers: dict[str, int] = {}
        self._keys: list[str] = []
        for row in self.search.rows():
            self._keys.append(key := self._enter(row["parameters"]))
            if (
                ledger.entries[key].state != row["state"]
            ):  # a sweep was killed before it could write down what came of it
                with ledger.change(key) as entry:
                    entry.state, entry.metrics = row["state"], {**row["values"], **entry.metrics}

    def take(self) -> str | None:
        """See :class:`Source`."""
        while (trial := self.search.ask()) is not None:
            key = self._propose(trial)
            if self.ledger.entries[key].state not in ("done", "pruned", "failed"):
                return key
            self.ended(key)  # the same values again, or a sweep that was killed before it could tell
        return None

    def ended(self, key: str) -> None:
        """See :class:`Source`."""
        entry, number = self.ledger.entries[key], self._numbers[key]
        if entry.state == "failed":
            self.search.fail(number, entry.error[-1])
        elif entry.state == "pruned":
            self.search.prune(number)
        elif entry.state == "done":
            self.search.tell(number, entry.metrics)

    def was_pruned(self, entry: Entry) -> bool:
        """Whether a trial's validations stopped it."""
        key = next(key for key in self._numbers if self.ledger.entries[key] is entry)
        return self.search.was_pruned(self._numbers[key])

    def entries(self) -> list[Entry]:
        """See :class:`Source`."""
        return [self.ledger.entries[key] for key in dict.fromkeys(self._keys)]

    def _propose(self, trial: Trial) -> str:
        """Note a trial; where it reports to is not known before, and is no part of its hash."""
        key = self._enter(trial.parameters)
        with self.ledger.change(key) as entry:
            entry.overrides += [each for each in trial.overrides if each not in entry.overrides]
        self._numbers[key] = trial.number
        self._keys.append(key)
        return key

    def _enter(self, parameters: Mapping[str, Any]) -> str:
        cell = self._cell(parameters)
        key = self.identify(cell)
        enter(self.ledger, key, cell)
        return key

    def _cell(self, parameters: Mapping[str, Any]) -> Cell:
        levels = {short(name): (_shown(value), (override(name, value),)) for name, value in parameters.items()}
        return self.study.cell(levels, self.study.seeds[0])


def enter(ledger: Ledger, key: str, cell: Cell, folder: str = "cells/") -> None:
    """Give a cell an entry where it has none."""
    if key not in ledger.entries:
        words = "_".join(f"{factor}-{level}" for factor, level in cell.levels.items())  # no "=", which Hydra would read
        slug = re.sub(r"[^\w.-]+", "_", words)[:_LONGEST]
        ledger.entries[key] = Entry(cell.name, dict(cell.levels), list(cell.overrides), f"{folder}{slug}_{key}")
        ledger.save()


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else spell(value)
