"""Who writes into a run's folder: one process at a time, on whatever machine, which owns its ``run.lock``."""

import atexit
import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from lit_ghibli import cluster, locks
from lit_ghibli.callbacks import record_file
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import check_plain

FILE = locks.RUN
_FIRST = 65_536  # bytes of a run's configuration, at most
_WRITTEN = (".csv", ".lock", ".log")  # files of a run that are opened rather than replaced


class FolderTaken(UserError):
    """A folder in which another run is, or is being made."""


class _Held(NamedTuple):
    """A lock that this process holds, in a folder that it has made or not."""

    lock: locks.Lock
    made: bool


_held: dict[Path, _Held] = {}  # by folder


@contextlib.contextmanager
def owning(folder: str | Path) -> Iterator[bool]:
    """Own a run's folder until the end of the block, in the first of the run's processes, which is told so.

    Raises:
        UserError: As from :func:`acquire`.
    """
    first = is_first()
    if first:
        acquire(folder)
    try:
        yield first
    finally:
        release(folder)


def claim(folder: str | Path, *, numbered: bool = False) -> Path:
    """Own a folder for a new run from now on, before anything is written into it.

    Args:
        folder: Is made where there is none.
        numbered: Take another, with a number at the end of its name, where there is a run already.

    Returns:
        The folder that was taken.

    Raises:
        FolderTaken: There is a run already.
    """
    folder = Path(folder)
    names = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    for name in chain([folder], names):
        try:
            acquire(name, watched=not numbered)
            check_new(name)
        except FolderTaken:
            release(name)
            if not numbered:
                raise
        else:
            return name
    raise AssertionError("numbers have no end")


def acquire(folder: str | Path, *, watched: bool = True) -> None:
    """Own a folder from now on, which is made where there is none; a process that does already goes on to.

    Args:
        folder: The run's.
        watched: Whether an owner on another machine is watched until it gives a sign of life, or is gone.

    Raises:
        FolderTaken: Another process owns it.
        UserError: Nothing can be written there.
    """
    folder = Path(folder).absolute()
    if folder in _held:
        return
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for inside in folder.iterdir():
            if inside.suffix in _WRITTEN:
                check_plain(inside)
                if inside.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(inside))
        with tempfile.TemporaryFile(dir=folder) as probe:  # of what Hydra writes first, which would end in a traceback
            probe.write(bytes(_FIRST))
        lock = locks.take(folder / FILE, _watching(folder) if watched else None)
    except locks.Taken as error:
        raise FolderTaken(f"{folder}: {error} is at work here: wait for it, or give another folder") from error
    except OSError as error:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        where = f"{error.filename}: " if Path(error.filename or "").suffix in _WRITTEN else ""
        raise UserError(f"{folder}: a run cannot be written there ({where}{error.strerror})") from error
    _held[folder] = _Held(lock, made)


def is_first() -> bool:
    """Whether this process writes the run's files: not one that Lightning, srun or torchrun has started beside it."""
    return cluster.is_first_process() and os.environ.get("LOCAL_RANK", "0") == "0"


def check_new(folder: str | Path) -> None:
    """Refuse to begin anew where a run has left what it learned.

    Raises:
        FolderTaken: There are checkpoints, or the run's record says that it was finished.
    """
    folder = Path(folder)
    with contextlib.suppress(record_file.RecordError):
        if record_file.read_record(folder)["attempts"][-1].get("state") == "finished":
            raise _holds_a_run(folder)
    if any(folder.glob("checkpoints/*.ckpt")):
        raise _holds_a_run(folder)


def check(folder: str | Path) -> None:
    """Refuse to write into a folder that this process owned, and that somebody else has taken over.

    Raises:
        FolderTaken: Somebody else has.
    """
    if (held := _held.get(Path(folder).absolute())) is not None:
        try:
            held.lock.check()
        except locks.Taken as error:
            raise FolderTaken(f"{folder}: taken over by {error} while this process gave no sign of life") from error


def release(folder: str | Path) -> None:
    """Own a folder no longer, if this process does, and remove it if it was made for a run that never began."""
    folder = Path(folder).absolute()
    if (held := _held.pop(folder, None)) is not None:
        if held.made and not (folder / record_file.FILE).exists() and held.lock.is_held():
            shutil.rmtree(folder, ignore_errors=True)  # refused: what Hydra has noted is of no run
        held.lock.release()


@atexit.register
def _release_all() -> None:
    for folder in list(_held):
        release(folder)


def _watching(folder: Path) -> Callable[[str], None]:
    return lambda who: say(f"{folder}: looking whether {who} is still at work here")


def _holds_a_run(folder: Path) -> FolderTaken:
    return FolderTaken(f"{folder} holds a run: go on with it by resume={folder}, or give another folder")
