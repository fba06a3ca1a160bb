"""Where the cells of a study come from: a grid that is known beforehand, or a search that proposes them."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from lit_ghibli.errors import UserError
from lit_ghibli.recipes import spell
from lit_ghibli.studies.ledger import Entry, Ledger
from lit_ghibli.studies.search import JOURNAL, Search, Trial
from lit_ghibli.studies.study import Cell, Study, override, shortest_names

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

    Raises:
        UserError: Two cells are the same.
    """

    def __init__(self, ledger: Ledger, study: Study, identify: Callable[[Cell], str], *, retry: bool) -> None:
        self.ledger = ledger
        self.keys: dict[str, Cell] = {}
        for cell in study.cells():
            key = identify(cell)
            if key in self.keys:
                raise UserError(
                    f"'{self.keys[key].name}' and '{cell.name}' are the same configuration: name one of them"
                )
            self.keys[key] = cell
            enter(ledger, key, cell)
        self.total = len(self.keys)
        left = ("waiting", "running", "interrupted", *(["failed"] if retry else []))
        self._left: Iterator[str] = (key for key in self.keys if ledger.entries[key].state in left)

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
        self._names = shortest_names(list(settings["space"]))
        self._numbers: dict[str, list[int]] = {}  # of the trials under way, several where they try the same
        self._keys: list[str] = []
        for row in self.search.rows():
            self._keys.append(key := self._enter(row["parameters"]))
            if ledger.entries[key].state != row["state"]:  # killed before it could write down what came of it
                self._settle(key, row)

    def take(self) -> str | None:
        """See :class:`Source`."""
        while (trial := self.search.ask()) is not None:
            key = self._propose(trial)
            if len(self._numbers[key]) > 1:
                continue  # the same values are being tried now, and count for both
            if not self.ledger.entries[key].ended:
                return key
            self.ended(key)  # the same values again, or a sweep that was killed before it could tell
        return None

    def ended(self, key: str) -> None:
        """See :class:`Source`."""
        entry = self.ledger.entries[key]
        if not entry.ended:  # stopped on its way, or before it began
            return
        for number in self._numbers.pop(key):
            if entry.state == "failed":
                self.search.fail(number, (entry.error or ["failed before"])[-1])
            elif entry.state == "pruned":
                self.search.prune(number)
            else:
                self.search.tell(number, entry.metrics)
        row = next(row for row in self.search.rows() if row["number"] == number)
        if row["state"] != entry.state:  # a metric that is not finite
            self._settle(key, row)

    def was_pruned(self, entry: Entry) -> bool:
        """Whether a trial's validations stopped it."""
        numbers = dict(self._numbers)  # another thread may be adding to it
        key = next(key for key in numbers if self.ledger.entries[key] is entry)
        return self.search.was_pruned(numbers[key][0])

    def entries(self) -> list[Entry]:
        """See :class:`Source`."""
        return [self.ledger.entries[key] for key in dict.fromkeys(self._keys)]

    def _propose(self, trial: Trial) -> str:
        """Note a trial; where it reports to is not known before, and is no part of its hash."""
        key = self._enter(trial.parameters)
        with self.ledger.change(key) as entry:
            entry.overrides += [each for each in trial.overrides if each not in entry.overrides]
        self._numbers.setdefault(key, []).append(trial.number)
        self._keys.append(key)
        return key

    def _enter(self, parameters: Mapping[str, Any]) -> str:
        cell = self._cell(parameters)
        key = self.identify(cell)
        enter(self.ledger, key, cell)
        return key

    def _settle(self, key: str, row: Mapping[str, Any]) -> None:
        """Take over what the search says of a trial."""
        with self.ledger.change(key) as entry:
            entry.state, entry.metrics = row["state"], {**row["values"], **entry.metrics}
            entry.error = [row["why"]] if row["why"] else []

    def _cell(self, parameters: Mapping[str, Any]) -> Cell:
        levels = {
            self._names[key]: (value if isinstance(value, str) else spell(value), (override(key, value),))
            for key, value in parameters.items()
        }
        return self.study.cell(levels, self.study.seeds[0])


def enter(ledger: Ledger, key: str, cell: Cell, folder: str = "cells/") -> None:
    """Give a cell an entry where it has none, and otherwise the names that it has now."""
    if key in ledger.entries:
        ledger.entries[key].name, ledger.entries[key].levels = cell.name, dict(cell.levels)
    else:
        words = "_".join(f"{factor}-{level}" for factor, level in cell.levels.items())  # no "=", which Hydra would read
        slug = re.sub(r"[^\w.-]+", "_", words)[:_LONGEST]
        ledger.entries[key] = Entry(cell.name, dict(cell.levels), list(cell.overrides), f"{folder}{slug}_{key}")
    ledger.save()
