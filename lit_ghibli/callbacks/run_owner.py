"""Who writes into a run's folder: one process at a time, on whatever machine.

``run.lock`` names the owner. It is created, which of several processes only one can do, also on folders that machines
share and that know no other locks, and its owner renews its time as a sign of life. An owner is gone whose process is
no longer there, on this machine; that has given no sign of life for a while, on another; or that a scheduler has ended
and started again as this process.
"""

import atexit
import contextlib
import json
import os
import platform
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import chain, count
from pathlib import Path
from typing import Any

from lit_ghibli import cluster
from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError

FILE = "run.lock"
RECORD = "record.json"  # of a run that has begun

_BEAT = 20.0  # seconds from one sign of life to the next
_SILENCE = 180.0  # seconds after which an owner on another machine is taken for gone
_SCHEMA = {"host": str, "machine": str, "process": int, "began": str, "job": str | None, "since": str}


class FolderTaken(UserError):
    """A folder in which another run is, or is being made."""


class _Lock:
    """A lock that this process holds, in a folder that it has made or not, and the thread of its signs of life."""

    def __init__(self, path: Path, owner: dict[str, Any], made: bool) -> None:
        self.path, self.owner, self.made = path, owner, made
        self._over = threading.Event()
        threading.Thread(target=self._live, daemon=True).start()

    def check(self) -> None:
        """Refuse to go on where somebody else has taken the folder, as while this machine slept."""
        if (owner := _owner_of(self.path)) is None:  # a person has removed it
            _create(self.path, self.owner)
        elif owner != self.owner:
            raise FolderTaken(
                f"{self.path.parent}: taken over by {_name(owner)} while this process gave no sign of life"
            )

    def release(self) -> None:
        self._over.set()
        if _owner_of(self.path) == self.owner:
            if self.made and not self.path.with_name(RECORD).exists():  # refused: what Hydra has noted is of no run
                shutil.rmtree(self.path.parent, ignore_errors=True)
            self.path.unlink(missing_ok=True)

    def _live(self) -> None:
        while not self._over.wait(_BEAT):
            with contextlib.suppress(OSError):
                if _owner_of(self.path) == self.owner:
                    os.utime(self.path)


_held: dict[Path, _Lock] = {}  # by folder


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
            acquire(name)
            check_new(name)
        except FolderTaken:
            release(name)
            if not numbered:
                raise
        else:
            return name
    raise AssertionError("numbers have no end")


def acquire(folder: str | Path) -> None:
    """Own a folder from now on, which is made where there is none; a process that does already goes on to.

    Raises:
        FolderTaken: Another process owns it.
        UserError: Nothing can be written there.
    """
    folder = Path(folder).absolute()
    if folder in _held:
        return
    path, mine = folder / FILE, _this_process()
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _take(path, mine)
    except OSError as error:
        raise UserError(f"{folder}: a run cannot be written there ({error.strerror})") from error
    _held[folder] = _Lock(path, mine, made)


def is_first() -> bool:
    """Whether this process writes the run's files: not one that Lightning, srun or torchrun has started beside it."""
    return cluster.is_first_process() and os.environ.get("LOCAL_RANK", "0") == "0"


def check_new(folder: str | Path) -> None:
    """Refuse to begin anew where a run has left what it learned.

    Raises:
        FolderTaken: There are checkpoints, or the run's record says that it was finished.
    """
    from lit_ghibli.callbacks.run_record import RecordError, read_record  # which imports this module

    folder = Path(folder)
    with contextlib.suppress(RecordError):
        if read_record(folder)["attempts"][-1].get("state") == "finished":
            raise _holds_a_run(folder)
    if any(folder.glob("checkpoints/*.ckpt")):
        raise _holds_a_run(folder)


def check(folder: str | Path) -> None:
    """Refuse to write into a folder that this process owned, and that somebody else has taken over.

    Raises:
        FolderTaken: Somebody else has.
    """
    if (lock := _held.get(Path(folder).absolute())) is not None:
        lock.check()


def release(folder: str | Path) -> None:
    """Own a folder no longer, if this process does, and remove it if it was made for a run that never began."""
    if (lock := _held.pop(Path(folder).absolute(), None)) is not None:
        lock.release()


@atexit.register
def _release_all() -> None:
    for folder in list(_held):
        release(folder)


def _take(path: Path, mine: dict[str, Any]) -> None:
    while not _create(path, mine):
        owner = _owner_of(path)
        if owner is not None and not _is_gone(owner, path):
            elsewhere = owner.get("machine") != mine["machine"]
            later = f"; {_SILENCE:.0f} seconds after its last sign of life, the folder is free" if elsewhere else ""
            raise FolderTaken(
                f"{path.parent}: {_name(owner)} is at work here: wait for it, or give another folder{later}"
            )
        if owner is not None:
            _remove(path, owner)


def _create(path: Path, owner: dict[str, Any]) -> bool:
    """Make the lock; False where there is one."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with open(number, "w", encoding="utf-8") as file:
        file.write(json.dumps(owner) + "\n")
    return True


def _owner_of(path: Path) -> dict[str, Any] | None:
    """What a lock says; nothing if it is damaged, or just being made; None where there is none."""
    try:
        return read_json(path, _SCHEMA)
    except DocumentError:
        return {} if path.exists() else None


def _remove(path: Path, owner: dict[str, Any]) -> None:
    """Remove the lock of an owner that is gone, unless another process has done so and made its own."""
    aside = path.with_name(f".{FILE}.{secrets.token_hex(6)}.partial")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if _owner_of(aside) == owner:
            aside.unlink()
        else:
            os.rename(aside, path)


def _is_gone(owner: dict[str, Any], path: Path) -> bool:
    if owner.get("machine") == _machine():
        return _began(owner["process"]) != owner["began"]
    if owner.get("job") is not None and owner["job"] == cluster.job() and cluster.may_be_requeued():
        return True
    with tempfile.TemporaryFile(dir=path.parent) as probe:  # whose time is of the clock that the lock's is of
        try:
            return os.fstat(probe.fileno()).st_mtime - path.stat().st_mtime > _SILENCE
        except FileNotFoundError:  # given up in this moment
            return False


def _this_process() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "machine": _machine(),
        "process": os.getpid(),
        "began": _began(os.getpid()),
        "job": cluster.job(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _machine() -> str:
    """What processes share whose numbers mean the same: a machine since it was started, or a container on it."""
    known = [platform.node()]
    with contextlib.suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        known.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(known)


def _began(process: int) -> str:
    """When a process was started, by the machine's own count; of a system that does not say so, that it runs.

    Empty of processes that do not run.
    """
    try:
        state, *values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else values[18]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:  # somebody else's
        pass
    return "running"


def _name(owner: dict[str, Any]) -> str:
    if not owner:
        return f"another process ({FILE} does not say which)"
    return f"process {owner['process']} on {owner['host']}, since {owner['since']},"


def _holds_a_run(folder: Path) -> FolderTaken:
    return FolderTaken(f"{folder} holds a run: go on with it by resume={folder}, or give another folder")
