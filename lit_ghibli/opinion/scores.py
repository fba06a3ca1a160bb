"""Opinion scores as `lit-ghibli mos score` has written them, to stand beside other numbers of the same methods."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError
from lit_ghibli.reports.tables import is_number

_FILE = "scores.json"
_ROW = {"method?": str, "name?": str}


@dataclass(frozen=True)
class Scores:
    """What raters thought of methods, over all aspects.

    Attributes:
        path: Of the file.
        column: ``mos``, a mean opinion score, or ``share``, of the choices.
        values: By the methods' names.
        intervals: Their 95 % intervals, where several raters were counted.
    """

    path: Path
    column: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def unknown(self, names: Collection[str]) -> list[str]:
        """The methods that have none of these names.

        Raises:
            UserError: None of them has.
        """
        unknown = [name for name in self.values if name not in names]
        if len(unknown) == len(self.values):
            raise UserError(
                f"{self.path} rates {', '.join(unknown)}, none of which is compared: call subjects as the study did, "
                f"{unknown[0]}:PATH"
            )
        return unknown


def read_scores(path: Path) -> Scores:
    """The scores in ``scores.json`` or ``summary.json`` of `mos score`, or in its folder.

    Raises:
        UserError: There are none.
    """
    path = path / _FILE if path.is_dir() else path
    try:
        table = read_json(path, list[_ROW])
    except DocumentError as error:
        raise UserError(f"{error}: no opinion scores: give {_FILE} of lit-ghibli mos score") from error
    # Of several aspects the mean comes last.
    rows: dict[str | None, dict[str, Any]] = {row.get("method", row.get("name")): row for row in table}
    for column in ("mos", "share"):
        if rows and None not in rows and all(is_number(row.get(column)) for row in rows.values()):
            ends = {name: (row.get(f"{column}_low"), row.get(f"{column}_high")) for name, row in rows.items()}
            known = {name: interval for name, interval in ends.items() if all(map(is_number, interval))}
            return Scores(path, column, {name: row[column] for name, row in rows.items()}, known)
    raise UserError(f"{path}: no opinion scores: give {_FILE} of lit-ghibli mos score")
