"""What the file of a picture says that has made it, so that one of another style does not count as done."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError

_PROGRAM = "lit_ghibli"


def made_by(words: Mapping[str, Any], files: Sequence[Path], more: Any = None) -> str:
    """A line for a picture's file: settings, and the beginning of a checksum of all that makes the picture.

    Args:
        words: Settings by name; those that are None are left out.
        files: Of weights and style pictures.
        more: Of JSON, which is too long to be said.
    """
    said = [f"{key}={value:g}" if type(value) in (int, float) else f"{key}={value}" for key, value in words.items()]
    said = [word for word in said if not word.endswith("=None")]
    content = json.dumps([said, [sha256_of(file) for file in files], more])
    line = shlex.join([_PROGRAM, *said, hashlib.sha256(content.encode()).hexdigest()[:12]])
    return line.encode("ascii", "backslashreplace").decode()


def refuse_others(noted: Mapping[Path, str], now: str) -> None:
    """Refuse to take pictures as done that something else has made; those that say nothing of it are taken.

    Args:
        noted: What their files say.
        now: What would make them now.

    Raises:
        UserError: Naming one of them, and in what they differ.
    """
    others = {path: line for path, line in noted.items() if line.startswith(f"{_PROGRAM} ") and line != now}
    if not others:
        return
    path, line = next(iter(others.items()))
    before, after = (shlex.split(each)[1:-1] for each in (line, now))
    was = " ".join(word for word in before if word not in after) or "other weights or settings"
    changed = " ".join(word for word in after if word not in before)
    count = f"{len(others)} pictures that are there, such as {path}, were" if len(others) > 1 else f"{path} was"
    raise UserError(
        f"{count} made with {was}{f', not with {changed}' if changed else ''}: overwrite=true makes all anew; else "
        "choose another place with --out"
    )
