"""What the columns of a table of results mean: how they are called in print, which way is better, and who is best."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from lit_ghibli.reports.tables import Row

_LOWER = ("mse", "l1", "swd", "fid", "kid", "lpips", "peak_mib", "parameters_m", "tflop", "evaluations")
_LOWER += ("seconds", "host_peak_mib", "content", "style")
_LOWER_KINDS = ("seconds_", "frechet_", "kernel_", "perceptual_")  # how further names begin
_NO_DIRECTION = ("_std", "_sd", "_low", "_high")  # how names end that say how certain another column is
_HIGHER = ("ssim", "ms_ssim", "psnr", "mos", "images_per_second")
_LABELS = {
    "name": "Method",
    "l1": "L1",
    "psnr": "PSNR (dB)",
    "parameters_m": "Parameters (M)",
    "peak_mib": "Peak memory (MiB)",
    "tflop": "TFLOP",
    "evaluations": "ODE evaluations",
    "near_duplicates": "Near-duplicates",
    "resized": "Resized",
    "seconds_per_picture": "Seconds per picture",
    "seconds_per_iteration": "Seconds per iteration",
    "images_per_second": "Images per second",
    "host_peak_mib": "Peak memory (MiB)",
    "seconds": "Seconds of training",
}


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
