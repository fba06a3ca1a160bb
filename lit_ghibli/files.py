"""Files that are replaced as a whole, so that a reader sees the old one or the new one; and files that lock."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A free path beside ``path``: what the block leaves there takes its place, unless the block raises."""
    path = Path(path)
    # Random, since processes on other machines have our number; short, since a name has at most 255 bytes.
    partial = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def write_atomically(path: str | Path, mode: str = "w", **options: Any) -> Iterator[IO]:
    """Open a file that replaces ``path`` at the end of the block, also after a power cut, unless the block raises.

    Args:
        path: Its folder is made where there is none.
        mode: ``w`` or ``wb``, as of `open`.
        options: Of `open`, such as ``encoding``.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, open(partial, mode, **options) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def remove_partials(folder: Path) -> None:
    """Remove what killed processes were writing into ``folder``, into which no other one writes now."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def lock_file(path: Path) -> IO[str] | None:
    """Open a file that one program, with those that inherit the open file from it, may hold at a time.

    Args:
        path: Is made where it does not exist.

    Returns:
        The open file, which holds the lock until it is closed; None where somebody else holds it.
    """
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (it is the caller's to close)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def config_dir() -> str:
    """The folder of configurations: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")
