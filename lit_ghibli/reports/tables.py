"""One table as CSV, JSON and Markdown."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_ghibli.errors import UserError

Row = dict[str, Any]


def write_table(rows: Sequence[Row], folder: str | Path, name: str) -> None:
    """Write ``<name>.csv``, ``<name>.json`` and ``<name>.md``; columns in order of first appearance.

    Raises:
        ValueError: There is no row.
    """
    if not rows:
        raise ValueError("a table needs at least one row")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(rows, folder / f"{name}.csv")
    (folder / f"{name}.json").write_text(json.dumps(_finite(rows), indent=2), encoding="utf-8")
    (folder / f"{name}.md").write_text(markdown_table(rows), encoding="utf-8")


def write_csv(rows: Sequence[Row], path: str | Path) -> None:
    """Write one CSV file; columns in order of first appearance, None as an empty cell."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns(rows))
        writer.writeheader()
        writer.writerows(rows)


def last_values(path: Path) -> dict[str, float]:
    """The last value of each column of a training's log, a CSV file of numbers with gaps.

    Raises:
        UserError: There is no log, or it is none of numbers.
    """
    values: dict[str, float] = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values |= {name: float(value) for name, value in row.items() if value}
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return values


def markdown_table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table: numbers with four significant digits, right-aligned.

    What is absent is blank, and None, that which has no value, a dash.
    """
    names = columns(rows)
    numeric = {name: all(isinstance(row.get(name, 0), int | float | None) for row in rows) for name in names}
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join("--:" if numeric[name] else "---" for name in names) + "|"]
    lines += ["| " + " | ".join(_cell(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def columns(rows: Sequence[Row]) -> list[str]:
    """Names of all columns, in order of first appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def _finite(rows: Sequence[Row]) -> list[Row]:
    """Rows for JSON, which knows no infinity and no NaN: those become words."""
    return [
        {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]


def format_value(value: Any) -> str:
    """A cell for people: four significant digits, a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    return format_value(value).replace("|", "\\|")
