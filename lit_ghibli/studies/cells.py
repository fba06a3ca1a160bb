"""Where the cells of a study come from: a grid that is known beforehand, or a search that proposes them."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lit_ghibli.errors import UserError
from lit_ghibli.overrides import spell
from lit_ghibli.studies.journal import was_pruned
from lit_ghibli.studies.ledger import Entry, Ledger
from lit_ghibli.studies.search import JOURNAL, Search
from lit_ghibli.studies.study import Cell, Study, override, shortest_names, summarize

_LONGEST = 80  # letters of a cell's name in that of its folder


class Source:
    """Gives cells to a runner.

    Args:
        ledger: Gets an entry for every new cell.
        study: Whose cells these are.
        identify: The hash of a cell.

    Attributes:
        total: How many cells there will be.
        overview: These in words.
    """

    total: int
    overview: str

    def __init__(self, ledger: Ledger, study: Study, identify: Callable[[Cell], str]) -> None:
        self.ledger, self.study, self.identify = ledger, study, identify
        self.keys: list[str] = []  # of all cells so far, in order

    def take(self) -> str | None:
        """The hash of the next cell to run; None when there is none."""
        raise NotImplementedError

    def ended(self, key: str) -> None:
        """Be told that a cell has ended, in whatever way."""

    def pruned(self, entry: Entry) -> Callable[[], bool]:
        """A function, which can be pickled, that says whether the validations of a cell under way have stopped it."""
        return bool  # which says no

    def entries(self) -> list[Entry]:
        """All cells so far."""
        return [self.ledger.entries[key] for key in dict.fromkeys(self.keys)]


class GridSource(Source):
    """All combinations of a grid that are not done; with ``retry``, those that failed as well.

    Raises:
        UserError: Two cells are the same.
    """

    def __init__(self, ledger: Ledger, study: Study, identify: Callable[[Cell], str], *, retry: bool) -> None:
        super().__init__(ledger, study, identify)
        cells: dict[str, Cell] = {}
        for cell in study.cells():
            if (key := identify(cell)) in cells:
                raise UserError(f"'{cells[key].name}' and '{cell.name}' are the same configuration: name one of them")
            cells[key] = cell
            enter(ledger, key, cell)
        self.keys, self.total, self.overview = list(cells), len(cells), summarize(cells.values())
        left = ("waiting", "running", "interrupted", *(["failed"] if retry else []))
        self._left = (key for key in cells if ledger.entries[key].state in left)

    def take(self) -> str | None:
        """The next one that is left."""
        return next(self._left, None)


class SearchSource(Source):
    """The trials of a search, each with the values that the results so far suggest; keeps the search's journal."""

    def __init__(self, ledger: Ledger, study: Study, identify: Callable[[Cell], str]) -> None:
        super().__init__(ledger, study, identify)
        self.total = study.search["trials"]
        self.overview = f"{self.total} trials of {', '.join(study.search['space'])} for {', '.join(study.metrics)}"
        self.search = Search(
            ledger.folder / JOURNAL, study.name, directions=study.metrics, seed=study.seeds[0], **study.search
        )
        self._names = shortest_names(list(study.search["space"]))
        self._numbers: dict[str, list[int]] = {}  # of the trials under way, several where they try the same
        for row in self.search.rows():
            self.keys.append(key := self._enter(row["parameters"]))
            if ledger.entries[key].state != row["state"]:  # killed before it could write down what came of it
                self._settle(key, row)

    def take(self) -> str | None:
        """The next trial whose values are not known or being tried already."""
        while (trial := self.search.ask()) is not None:
            key = self._enter(trial.parameters)
            with self.ledger.change(key) as entry:  # where it reports to was not known before, and is not in its hash
                entry.overrides += [each for each in trial.overrides if each not in entry.overrides]
            self._numbers.setdefault(key, []).append(trial.number)
            self.keys.append(key)
            if len(self._numbers[key]) > 1:
                continue  # the same values are being tried now, and count for both
            if not self.ledger.entries[key].ended:
                return key
            self.ended(key)  # the same values again, or a sweep that was killed before it could tell
        return None

    def ended(self, key: str) -> None:
        """Tell the search."""
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

    def pruned(self, entry: Entry) -> Callable[[], bool]:
        """A function that looks into the journal."""
        numbers = dict(self._numbers)  # another thread may be adding to it
        key = next(key for key in numbers if self.ledger.entries[key] is entry)
        return partial(was_pruned, self.search.journal, self.study.name, numbers[key][0])

    def _enter(self, parameters: Mapping[str, Any]) -> str:
        levels = {
            self._names[key]: (value if isinstance(value, str) else spell(value), (override(key, value),))
            for key, value in parameters.items()
        }
        cell = self.study.cell(levels, self.study.seeds[0])
        enter(self.ledger, key := self.identify(cell), cell)
        return key

    def _settle(self, key: str, row: Mapping[str, Any]) -> None:
        """Take over what the search says of a trial."""
        with self.ledger.change(key) as entry:
            entry.state, entry.metrics = row["state"], {**row["values"], **entry.metrics}
            entry.error = [row["why"]] if row["why"] else []


def enter(ledger: Ledger, key: str, cell: Cell, folder: str = "cells/") -> None:
    """Give a cell an entry where it has none, and otherwise the names that it has now."""
    if key in ledger.entries:
        entry = ledger.entries[key]  # whose overrides may be a stranger's, with the ledger
        entry.name, entry.levels, entry.overrides = cell.name, dict(cell.levels), list(cell.overrides)
    else:
        words = "_".join(f"{factor}-{level}" for factor, level in cell.levels.items())  # no "=", which Hydra would read
        slug = re.sub(r"[^\w.-]+", "_", words)[:_LONGEST]
        ledger.entries[key] = Entry(cell.name, dict(cell.levels), list(cell.overrides), f"{folder}{slug}_{key}")
    ledger.save()
