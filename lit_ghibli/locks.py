"""One process at a time, on whatever machine: a file that only one of several processes can create.

It names its owner, who renews it as a sign of life. No locks of the file system's are needed, and no clock of one
machine is compared with another's. An owner is gone whose process, and the one that it has started, are no longer
there, on this machine; whose file has not changed for a while of the observer's own clock, on another; or that a
scheduler has ended and started again as this process.
"""

import contextlib
import errno
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lit_ghibli import cluster
from lit_ghibli.documents import conform, parse_json
from lit_ghibli.files import check_plain, named

RUN = "run.lock"  # of a run's folder
BEAT = 20.0  # seconds from one sign of life to the next
SILENCE = 180.0  # seconds of being watched after which an owner on another machine is taken for gone

_LOOK = 1.0  # seconds from one look at a lock to the next
_ROOM = 1024  # bytes of a lock, so that a longer text replaces a shorter one in one write
_SCHEMA = {
    "host": str,
    "machine": str,
    "process": int,
    "began": str,
    "child?": int | None,
    "child_began?": str | None,
    "job": str | None,
    "since": str,
}
_clock, _sleep = time.monotonic, time.sleep


class Taken(Exception):
    """Another process owns a lock; ``str`` of it says which.

    Args:
        owner: What the lock says; nothing if it is damaged, or just being made.
        name: Of the lock's file.
    """

    def __init__(self, owner: dict[str, Any], name: str) -> None:
        super().__init__(
            f"process {owner['process']} on {owner['host']}, since {owner['since']},"
            if owner
            else f"another process ({name} does not say which)"
        )


class Lock:
    """A lock that this process holds, and the thread that gives its signs of life."""

    def __init__(self, path: Path, file: int, owner: dict[str, Any]) -> None:
        self.path, self.owner, self._file = path, owner, file
        self._over, self._mutex = threading.Event(), threading.Lock()
        threading.Thread(target=self._live, daemon=True).start()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def holds_for(self, child: int | None) -> None:
        """Let the lock last as long as a process that this one has started, too."""
        self.owner |= {"child": child, "child_began": None if child is None else began(child)}
        with self._mutex:
            _write(self._file, self.owner)

    def check(self) -> None:
        """Make sure that this process still owns the lock, which it makes again where a person has removed it.

        Raises:
            Taken: Somebody else has taken it over, as while this machine slept.
        """
        owner = owner_of(self.path)
        if owner is None and (file := _create(self.path, self.owner)) is not None:
            with self._mutex:
                os.close(self._file)
                self._file = file
        elif owner != self.owner:
            raise Taken(owner or {}, self.path.name)

    def is_held(self) -> bool:
        """Whether nobody has removed the lock, or taken it over."""
        return owner_of(self.path) == self.owner

    def release(self) -> None:
        """Own it no longer."""
        with self._mutex:
            if self._over.is_set():
                return
            self._over.set()
            os.close(self._file)
        if self.is_held():
            self.path.unlink(missing_ok=True)

    def _live(self) -> None:
        # Through the open file: what another process has put in its place gets no signs of our life.
        while not self._over.wait(BEAT):
            with self._mutex, contextlib.suppress(OSError):
                if not self._over.is_set():
                    os.utime(self._file)


def take(path: Path, watching: Callable[[str], None] | None, ending: Callable[[], bool] = lambda: False) -> Lock:
    """Own a lock from now on.

    Args:
        path: Its file, in a folder that there is.
        watching: Is told of an owner on another machine, which is watched until it gives a sign of life, or is gone;
            None takes it for alive at once.
        ending: Whether to stop watching.

    Raises:
        Taken: Another process owns it.
        OSError: No file can be made there, or a pipe has its place.
    """
    mine, watched, since = this_process(), None, 0.0
    while (file := _create(path, mine)) is None:
        if (seen := _look(path)) is None:
            continue
        owner = _parsed(seen[0])
        if _is_gone(owner) or (seen == watched and _clock() - since > SILENCE):
            _remove(path, seen[0])
        elif owner.get("machine") == mine["machine"] or watching is None or ending() or watched not in (None, seen):
            raise Taken(owner, path.name)
        else:
            if watched is None:
                watching(str(Taken(owner, path.name)))
                watched, since = seen, _clock()
            _sleep(_LOOK)
    return Lock(path, file, mine)


def wait_for(path: Path, ending: Callable[[], bool], say: Callable[[str], None]) -> Lock | None:
    """Own a lock as soon as others do not; None where that has not come to be before the end.

    Args:
        path: As for :func:`take`.
        ending: Whether not to wait any longer.
        say: Is told who is waited for, once of each.
    """
    told: set[str] = set()

    def tell(who: str) -> None:
        if who not in told:
            told.add(who)
            say(who)

    while not ending():
        try:
            return take(path, tell, ending)
        except Taken as error:
            tell(str(error))
            _sleep(_LOOK)
    return None


def is_free(path: Path) -> bool:
    """Whether a lock has no owner, as far as that is to be known at once."""
    return (seen := _look(path)) is None or _is_gone(_parsed(seen[0]))


def owner_of(path: Path) -> dict[str, Any] | None:
    """What a lock says of its owner; nothing if it is damaged, or just being made; None where there is none."""
    return None if (seen := _look(path)) is None else _parsed(seen[0])


def this_process() -> dict[str, Any]:
    """What a lock of this process says."""
    return {
        "host": platform.node(),
        "machine": machine(),
        "process": os.getpid(),
        "began": began(os.getpid()),
        "child": None,
        "child_began": None,
        "job": cluster.job(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def machine() -> str:
    """What processes share whose numbers mean the same: a machine since it was started, or a container on it."""
    known = [platform.node()]
    with contextlib.suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        known.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(known)


def began(process: int) -> str:
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


def _create(path: Path, owner: dict[str, Any]) -> int | None:
    """Make the lock, and return its open file; None where there is one. On a full disk nothing is left of it."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return None
    try:
        with named(path):
            _write(file, owner)
    except OSError:
        os.close(file)
        path.unlink(missing_ok=True)  # it would be taken for somebody's who does not say who
        raise
    return file


def _write(file: int, owner: dict[str, Any]) -> None:
    content = json.dumps(owner).ljust(_ROOM).encode()
    if os.pwrite(file, content, 0) < len(content):  # the room was for a part alone
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file)  # so that other machines see it


def _look(path: Path) -> tuple[bytes, int, int] | None:
    """What a lock holds, and what changes with every sign of life; None where there is none."""
    check_plain(path)
    try:
        with open(path, "rb") as file:  # opened anew, since a file's state that is remembered may be old on networks
            status = os.fstat(file.fileno())
            return file.read(), status.st_mtime_ns, status.st_ino
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        return conform(parse_json(content), _SCHEMA)
    except ValueError:
        return {}


def _is_gone(owner: dict[str, Any]) -> bool:
    if owner.get("machine") == machine():
        return all(
            process is None or began(process) != since
            for process, since in (
                (owner["process"], owner["began"]),
                (owner.get("child"), owner.get("child_began")),
            )
        )
    return owner.get("job") is not None and owner["job"] == cluster.job() and cluster.may_be_requeued()


def _remove(path: Path, content: bytes) -> None:
    """Remove the lock of an owner that is gone, unless another process has done so and made its own."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        os.rename(path, aside)
        try:
            if aside.read_bytes() != content:
                os.link(aside, path)
        finally:
            aside.unlink()
