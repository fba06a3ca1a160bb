"""Tables of results as CSV, JSON, Markdown and LaTeX, what their columns mean, and which row is best."""

import csv
import json
import math
import re
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from lit_ghibli.errors import UserError, one_line
from lit_ghibli.files import check_plain, write_atomically, write_text

Row = dict[str, Any]

_YEAR = 31_557_600  # seconds

_LOWER = ("mse", "l1", "swd", "fid", "kid", "lpips", "peak_mib", "parameters_m", "tflop", "nfe")
_LOWER += ("seconds", "host_peak_mib", "content", "style", "flicker")
_LOWER_KINDS = ("seconds_", "frechet_", "kernel_", "perceptual_")  # how further names begin
_NO_DIRECTION = ("_std", "_sd", "_low", "_high")  # how names end that say how certain another column is
_HIGHER = ("ssim", "ms_ssim", "psnr", "flat", "contours", "mos", "share", "images_per_second")
_LABELS = {
    "name": "Method",
    "l1": "L1",
    "psnr": "PSNR (dB)",
    "flat": "Flat area gained",
    "contours": "Contours kept",
    "content_mse": "MSE to the photograph",
    "content_psnr": "PSNR to the photograph (dB)",
    "flicker": "Flicker (warping error)",
    "share": "Share of choices",
    "parameters_m": "Parameters (M)",
    "peak_mib": "Peak memory (MiB)",
    "tflop": "TFLOP",
    "nfe": "ODE evaluations",
    "near_duplicates": "Near-duplicates",
    "resized": "Resized",
    "seconds_per_picture": "Seconds per picture",
    "seconds_per_iteration": "Seconds per iteration",
    "images_per_second": "Images per second",
    "host_peak_mib": "Peak memory (MiB)",
    "seconds": "Seconds of training",
}
_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def write_table(rows: Sequence[Row], folder: str | Path, name: str) -> None:
    """Write ``<name>.csv``, ``<name>.json`` and ``<name>.md``; columns in order of first appearance.

    Raises:
        ValueError: There is no row.
    """
    if not rows:
        raise ValueError("a table needs at least one row")
    folder = Path(folder)
    write_csv(rows, folder / f"{name}.csv")
    # JSON knows no infinity and no NaN: those become words.
    finite = [
        {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]
    write_text(folder / f"{name}.json", json.dumps(finite, indent=2))
    write_text(folder / f"{name}.md", markdown_table(rows))


def write_csv(rows: Sequence[Row], path: str | Path) -> None:
    """Write one CSV file; columns in order of first appearance, None as an empty cell."""
    with write_atomically(path, newline="") as file:
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
        check_plain(path)
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
    texts = [[one_line(format_value(row.get(name, ""))).replace("|", "\\|") for name in names] for row in rows]
    lines += ["| " + " | ".join(cells) + " |" for cells in texts]
    return "\n".join(lines) + "\n"


def columns(rows: Sequence[Row]) -> list[str]:
    """Names of all columns, in order of first appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def format_value(value: Any) -> str:
    """A cell for people: four significant digits, a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """A time for people, as ``1 day, 2:03:04``; in years from a thousand of them on, as of epochs without end."""
    years = seconds / _YEAR
    return str(timedelta(seconds=round(seconds))) if years < 1000 else f"{years:.2g} years"


def direction(column: str) -> int:
    """1 where higher is better, -1 where lower is, and 0 where neither is known to be."""
    if column in _HIGHER:
        return 1
    if column.endswith(_NO_DIRECTION):
        return 0
    return -1 if column in _LOWER or column.startswith(_LOWER_KINDS) else 0


def label(column: str) -> str:
    """A column's name for people, such as ``Seconds (mean of 5)`` for ``seconds_5``."""
    if column in _LABELS:
        return _LABELS[column]
    kind, _, count = column.partition("_")
    if kind == "seconds":
        return f"Seconds (mean of {count})"
    if column.endswith("_std"):
        return f"{label(column.removesuffix('_std'))} std"
    if column.startswith(_LOWER_KINDS):
        return f"{kind.capitalize()} ({count})"
    return column.upper().replace("_", "-") if direction(column) else column.replace("_", " ").capitalize()


def arrow(column: str) -> str:
    """The direction in which a column is better, as a character; nothing where none is known."""
    return {1: "\N{UPWARDS ARROW}", -1: "\N{DOWNWARDS ARROW}", 0: ""}[direction(column)]


def without_bounds(row: Row) -> Row:
    """A row without the ends of intervals, ``<metric>_low`` and ``<metric>_high``."""
    ends = {f"{name}_{end}" for name in row for end in ("low", "high")}
    return {name: value for name, value in row.items() if name not in ends}


def is_number(value: Any) -> bool:
    """Whether a cell holds a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def best_rows(rows: Sequence[Row], column: str, besides: Collection[int] = ()) -> set[int]:
    """Indices of the rows that are best in a column: several where they are equal in four significant digits.

    None are where no direction is known, where fewer than two rows compete, or where all of these are equal.

    Args:
        rows: The table.
        column: Its column.
        besides: Indices of rows that do not compete, such as the untouched inputs'.
    """
    sign = direction(column)
    values = {i: row[column] for i, row in enumerate(rows) if i not in besides and is_number(row.get(column))}
    shown = {index: sign * float(f"{value:.4g}") for index, value in values.items()}
    if not sign or len(set(shown.values())) < 2:
        return set()
    return {index for index, value in shown.items() if value == max(shown.values())}


def escape(text: str) -> str:
    """``text`` as LaTeX prints it, whatever characters it holds."""
    return "".join(_ESCAPED.get(character, character) for character in text)


def latex_table(rows: Sequence[Row], besides: Collection[int] = ()) -> str:
    r"""Rows as a ``tabular`` of the package booktabs, the best value of every column in bold.

    Args:
        rows: The first column is text, the others are numbers with four significant digits; what is absent or None
            is a dash.
        besides: Indices of rows that are set apart by a rule and do not compete, such as the untouched inputs'.

    Returns:
        Lines from ``\begin{tabular}`` to ``\end{tabular}``.
    """
    names = columns(rows)
    best = {name: best_rows(rows, name, besides) for name in names}
    lines = [
        f"% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}\n\\toprule",
        " & ".join(escape(label(name)) + _ARROWS[direction(name)] for name in names) + r" \\",
        r"\midrule",
    ]
    order = sorted(range(len(rows)), key=lambda index: index not in besides)  # stable: the reference first
    for place, index in enumerate(order):
        cells = [_latex_cell(rows[index].get(name), index in best[name]) for name in names]
        rule = place + 1 == len(besides) < len(rows)
        lines.append(" & ".join(cells) + r" \\" + "\n\\midrule" * rule)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_cell(value: Any, best: bool) -> str:
    if value is None:
        return "--"
    text = format_value(value)
    if not is_number(value):
        return escape(text)
    power = re.fullmatch(r"(.+)e([+-]\d+)", text)
    text = rf"{power[1]} \times 10^{{{int(power[2])}}}" if power else text
    return rf"$\mathbf{{{text}}}$" if best else f"${text}$"
