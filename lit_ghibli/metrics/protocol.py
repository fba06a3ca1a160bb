"""The stamp that tells how a number came to be, and whether it may stand beside another."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lit_ghibli.errors import UserError

VERSION = 2  # of the metrics: to be raised when the same pictures give other numbers

# What must agree for numbers to be comparable. A stamp says more: the checkpoint, and the version of the suite.
COMPARED = (
    "protocol_version",
    "split",
    "image_size",
    "n_real",
    "n_fake",
    "n_pairs",
    "real_set",
    "target_set",
    "photo_set",
    "extractor",
    "extractor_weights",
    "extractor_resize",
    "lpips_backbone",
    "lpips_weights",
    "metric_seed",
)
_DIGITS = 8


def digest(stamp: Mapping[str, Any]) -> str:
    """Short hash of what must agree for numbers to be comparable: eight hexadecimal digits.

    Args:
        stamp: Holds the fields of `COMPARED`; a missing one counts as None, others are not looked at.
    """
    compared = json.dumps([[field, stamp.get(field)] for field in COMPARED])
    return hashlib.sha256(compared.encode()).hexdigest()[:_DIGITS]


def check_one_protocol(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse rows whose numbers must not stand in one column.

    Args:
        rows: Rows of a table that each hold their stamp among other things, as ``evaluate`` writes them.

    Raises:
        UserError: A row has no stamp, or two differ; the message names the fields and their values.
    """
    for number, row in enumerate(rows, start=1):
        if "protocol_version" not in row:
            raise UserError(f"row {number} ({_title(row)}) does not say how it was measured: evaluate it again")
    differing = [field for field in COMPARED if len({json.dumps(row.get(field)) for row in rows}) > 1]
    if differing:
        lines = [f"  {_title(row)}: " + ", ".join(f"{name}={row.get(name)}" for name in differing) for row in rows]
        raise UserError(
            f"numbers of different protocols cannot stand in one column; they differ in {', '.join(differing)}:",
            *lines,
            "measure all of them alike: on the same held-out pictures, at the same size, with the same metrics",
        )


def measured_apart(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Which rows must not stand in one column with the others, and what differs.

    Args:
        rows: As for :func:`check_one_protocol`.

    Returns:
        By their number, from 0, those of another protocol than most rows have, or, of two that equally many have, than
        the one that comes first; and those without a stamp.
    """
    protocols = [tuple(json.dumps(row.get(field)) for field in COMPARED) for row in rows]
    counts = Counter(each for each, row in zip(protocols, rows, strict=True) if "protocol_version" in row)
    usual = max(counts, key=counts.__getitem__, default=None)
    apart = {}
    for number, (row, own) in enumerate(zip(rows, protocols, strict=True)):
        if "protocol_version" not in row:
            apart[number] = "does not say how it was measured"
        elif own != usual:
            differing = zip(COMPARED, own, usual, strict=True)
            apart[number] = ", ".join(
                f"{name}={one}, elsewhere {other}" for name, one, other in differing if one != other
            )
    return apart


def _title(row: Mapping[str, Any]) -> str:
    words = [str(row[key]) for key in ("name", "pictures", "checkpoint") if row.get(key)]
    return ", ".join(words) or "without a name"
