"""The record of a run, ``record.json`` in its folder: all that somebody needs to do it again, and how it went.

It holds the resolved ``config``; ``links``, those of its values that follow others, as they were written; the
``seed``; and ``attempts``, one for the start and one for each time that the run was resumed, with its command and
overrides, versions, code, machine, data, the file of a generator's first ``weights``, and state (``running``,
``finished``, ``interrupted``, ``failed``, or ``killed``, as the next attempt finds out).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError
from lit_ghibli.overrides import flatten

FILE = "record.json"  # in the folder of a run that has begun
PLACE = ("run_dir", "resume", "launcher", "trust")  # parts of a configuration that do not say what a run is
_ATTEMPT = {
    "state?": str,
    "changed?": dict[str, tuple[Any, Any]],
    "overrides?": list[str],
    "signature?": str | None,
}
_SCHEMA = {"config": dict[str, Any], "links": dict[str, str], "attempts": list[_ATTEMPT]}
_COMPARED = ("versions", "code", "machine", "data", "weights")


class RecordError(UserError):
    """A record that is missing, damaged, or of another program."""


def read_record(run: str | Path) -> dict[str, Any]:
    """The record of the run in this folder.

    Raises:
        RecordError: There is none, or it is none of ours.
    """
    path = Path(run) / FILE
    if not path.is_file():
        raise RecordError(f"{run}: no run that `lit-ghibli train` has recorded, since it has no {FILE}")
    try:
        record = read_json(path, _SCHEMA)
    except DocumentError as error:
        raise RecordError(f"{error}: no record of a run") from error
    if not record["attempts"]:
        raise RecordError(f"{path}: no record of a run: it lists no attempt")
    from lit_ghibli import checkpoints  # here, so that a folder is claimed before torch is there

    known = flatten(config := checkpoints.as_today(record["config"]))
    gone = flatten(record["config"]).keys() - known.keys()
    return {**record, "config": config, "links": {k: link for k, link in record["links"].items() if k not in gone}}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Versions, code, machine and data that two attempts do not share: what each was, and what it is now."""
    return compare(*({part: attempt.get(part) for part in _COMPARED} for attempt in (before, now)))


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Values of nested mappings that differ, by their dotted keys; None where there is none."""
    old, new = flatten(before), flatten(now)
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}
