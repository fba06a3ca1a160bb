"""Fetch a packed folder of pictures over HTTP, such that being killed at any moment costs nothing but time.

What lies in the folder for a data set called ``maps`` (of an address that ends so, ``.zip`` instead of ``.tar.gz``):

    maps/                      all of it or nothing, since it is renamed into place
    maps.sha256                checksum of the archive that it came from, as sha256sum writes it
    maps.tar.gz                the archive: downloaded, or put there by the user, who then needs no internet
    maps.tar.gz.partial        what has arrived of it
    maps.tar.gz.partial.json   which file of which server that is a part of
    maps.tar.gz.rejected       an archive that failed a check
    .maps.unpacking-*          a folder that is being filled
    .maps.lock                 held while one program works on all this

What a server sends is bounded in size and in time, however slowly it comes.
"""

import glob
import json
import math
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from lit_ghibli import __version__
from lit_ghibli.checksums import sha256_of
from lit_ghibli.data.archives import ArchiveError, limit, megabytes, unpack
from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import write_text
from lit_ghibli.locks import Taken, is_free, take

Report = Callable[[int, int | None], None]

_CHUNK = 1 << 16  # bytes
_SLOWEST = 1000  # bytes a second, over the time after which a server counts as silent


class DownloadError(UserError):
    """A data set cannot be fetched."""


class _TransferError(Exception):
    """The network or the server failed."""


class _TooLargeError(Exception):
    """The server sends more than is wanted."""


@dataclass(frozen=True)
class Fetched:
    """A data set on disk.

    Attributes:
        folder: Where its files are.
        sha256: Checksum of the archive that they came from; None if someone else put them there.
        fresh: Whether they were unpacked just now.
    """

    folder: Path
    sha256: str | None
    fresh: bool


@dataclass(frozen=True)
class _Origin:
    """The file that a partial download is a part of."""

    url: str
    length: int | None  # bytes
    validator: str | None  # differs whenever the file does


def fetch(
    name: str,
    url: str,
    folder: Path,
    *,
    sha256: str | None,
    max_bytes: int,
    timeout: float,
    max_seconds: float = math.inf,
    report: Report = lambda done, total: None,
) -> Fetched:
    """Download and unpack a data set into ``folder/name``, as far as that has not been done already.

    Args:
        name: What the folder and, with ``.tar.gz`` or ``.zip``, the archive are called.
        url: Address of the archive, whose ending is the archive's; not asked where that exists in ``folder``.
        folder: Where all files go; made if missing.
        sha256: What the archive's checksum must be. None accepts that of an earlier fetch, and any at the first.
        max_bytes: Largest size of the archive, packed and unpacked.
        timeout: Seconds after which a server counts as silent that has not answered, or that sends next to nothing.
        max_seconds: Longest time for the download.
        report: Called with the bytes that have arrived and the bytes in all (None where the server does not say).

    Raises:
        DownloadError: No connection, no such file, a wrong checksum, a damaged or unsafe archive, no room, or
            another program is fetching the same.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise DownloadError(f"sha256={sha256} is no checksum; 64 hexadecimal digits are needed")
    ending = ".zip" if re.split("[?#]", url)[0].lower().endswith(".zip") else ".tar.gz"
    target, archive, record = (folder / f"{name}{end}" for end in ("", ending, ".sha256"))
    expected = sha256.lower() if sha256 else None
    for path, as_it_should_be in ((target, target.is_dir()), (archive, archive.is_file())):
        if path.exists() and not as_it_should_be:
            raise DownloadError(f"{path} is in the way: move it to another place, or choose another folder with --out")
    try:
        if there := target.is_dir() and any(target.iterdir()):
            _check_source(target, record, expected)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(_lock_of(target)):
                put_by_user = archive.exists()
                if not put_by_user:
                    limits = {"max_bytes": max_bytes, "timeout": timeout, "max_seconds": max_seconds}
                    download(url, archive, **limits, report=report)
                _install(archive, target, record, expected, max_bytes)
                if not put_by_user:
                    archive.unlink()
        _sweep(target, archive)
    except OSError as error:
        raise DownloadError(
            f"cannot read or write {error.filename or folder} ({error.strerror or error}); mend that, "
            "or choose another folder with --out"
        ) from error
    return Fetched(target, _recorded(record), fresh=not there)


def download(url: str, path: Path, *, max_bytes: int, timeout: float, max_seconds: float, report: Report) -> None:
    """Receive ``url`` into ``path``, going on where an earlier call was stopped if the file is still the same.

    Raises:
        DownloadError: The address is no HTTP address, the transfer failed, took too long or is of too much, or the
            disk has no room for it.
        OSError: Something cannot be written.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise DownloadError(f"url={url}: an address that begins with http:// or https:// is needed")
    partial, note = _append(path, ".partial"), _append(path, ".partial.json")
    origin, done = _unfinished(url, partial, note)
    try:
        if origin is None or done != origin.length:
            response, start = _connect(url, origin, done, timeout)
            with response:
                if start == 0:
                    origin = _begin(url, response, partial, note)
                if (origin.length or 0) > max_bytes:
                    raise _TooLargeError(f"{megabytes(origin.length)} are more than {limit(max_bytes)}")
                if origin.length is not None:
                    # The pictures inside are compressed already: unpacked they take about as much again.
                    check_room(path.parent, 2 * origin.length - start)
                chunks = _chunks(response, timeout, max_seconds)
                _receive(chunks, partial, start, origin.length, max_bytes, report)
    except _TooLargeError as error:
        partial.unlink(missing_ok=True)
        raise DownloadError(f"cannot download {url}: {error}; choose another address with url=...") from error
    except _TransferError as error:
        said = " ".join(str(error).split())
        raise DownloadError(
            f"cannot download {url}: {said}; try again (what has arrived is kept), choose another address with "
            f"url=..., or download the file by hand, put it at {path} and run this again"
        ) from error
    partial.replace(path)
    note.unlink(missing_ok=True)


def check_room(folder: Path, needed: int) -> None:
    """Check that a folder's disk has ``needed`` bytes free.

    Raises:
        DownloadError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"not enough space in {folder}: the archive and what is in it need {megabytes(needed)}, and "
            f"{megabytes(free)} are free; make room, or choose another folder with --out"
        )


def _install(archive: Path, target: Path, record: Path, sha256: str | None, max_bytes: int) -> None:
    """Check an archive, unpack it beside ``target`` and rename that, noting the checksum in ``record``."""
    received = sha256_of(archive)
    expected = sha256 or _recorded(record)
    if expected not in (None, received):
        source = "" if sha256 else f" (as {record} says of an earlier fetch; delete that file to accept another)"
        raise _reject(archive, f"its sha256 is {received}, expected was {expected}{source}")
    filling = target.with_name(f".{target.name}.unpacking-{uuid.uuid4().hex}")
    filling.mkdir()
    try:
        unpack(archive, filling, max_bytes)
        inside = list(filling.iterdir())
        write_text(record, f"{received}  {archive.name}\n")
        # maps.tar.gz holds one folder, maps/, which is the data set
        (inside[0] if len(inside) == 1 and inside[0].is_dir() else filling).rename(target)
    except ArchiveError as error:
        raise _reject(archive, f"no good archive: {error}") from error
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def _reject(archive: Path, reason: str) -> DownloadError:
    """Put an archive out of the way and return the error that says why."""
    rejected = _append(archive, ".rejected")
    archive.replace(rejected)
    return DownloadError(
        f"{archive}: {reason}; it was renamed to {rejected.name}: run this again to download it anew, "
        "or put a good archive in its place first"
    )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other programs from fetching the same at the same time.

    Raises:
        DownloadError: One is doing so.
    """
    try:
        held = take(lock, lambda who: say(f"{lock.parent}: looking whether {who} still fetches this"))
    except Taken as error:
        raise DownloadError(f"{lock.parent}: {error} fetches this: wait for it") from error
    with held:
        yield


def _check_source(target: Path, record: Path, sha256: str | None) -> None:
    """Refuse a complete data set that is known to come from another archive than the one asked for."""
    if sha256 and _recorded(record) not in (None, sha256):
        raise DownloadError(
            f"{target} came from an archive with sha256 {_recorded(record)}, and {sha256} is asked for; "
            f"remove {target} and {record} to fetch it again"
        )


def _recorded(record: Path) -> str | None:
    """The checksum noted at an earlier fetch, if there was one."""
    found = re.match("[0-9a-f]{64}", record.read_text(errors="replace")) if record.is_file() else None
    return found and found[0]


def _sweep(target: Path, archive: Path) -> None:
    """Remove what calls that were killed have left."""
    for leftover in target.parent.glob(f"{glob.escape(archive.name)}.partial*"):
        leftover.unlink()
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.unpacking-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if is_free(lock := _lock_of(target)):
        lock.unlink(missing_ok=True)


def _lock_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _unfinished(url: str, partial: Path, note: Path) -> tuple[_Origin | None, int]:
    """What an earlier call has received of ``url``: of which file, and how many bytes."""
    try:
        origin = read_json(note, _Origin)
        done = partial.stat().st_size
    except (FileNotFoundError, DocumentError):  # nothing, or killed while the note was written
        return None, 0
    # Without a length nobody could tell a complete file from a part.
    return (origin, done) if origin.url == url and origin.length and 0 < done <= origin.length else (None, 0)


def _begin(url: str, response: HTTPResponse, partial: Path, note: Path) -> _Origin:
    """Note which file the response holds, after removing what has arrived of another."""
    partial.unlink(missing_ok=True)  # first, so that a note never stands beside bytes of another file
    length = response.headers.get("Content-Length", "")
    origin = _Origin(url, int(length) if length.isdecimal() else None, _validator(response.headers))
    write_text(note, json.dumps(asdict(origin)))
    return origin


def _connect(url: str, origin: _Origin | None, done: int, timeout: float) -> tuple[HTTPResponse, int]:
    """Ask for the bytes after ``done``, or for all where the server has no ranges or another file by now.

    Returns:
        The response, and the number of bytes before its first one.
    """
    if origin is not None:
        condition = {"If-Range": origin.validator} if origin.validator else {}
        response = _open(url, {"Range": f"bytes={done}-", **condition}, timeout)
        rest = f"bytes {done}-{origin.length - 1}/{origin.length}"
        same = _validator(response.headers) in (None, origin.validator)
        if response.status == 206 and response.headers.get("Content-Range", "").strip() == rest and same:
            return response, done
        if response.status == 200:
            return response, 0
        response.close()
    return _open(url, {}, timeout), 0


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    request_headers = {"User-Agent": f"lit-ghibli/{__version__}", **headers}
    try:
        return _within(timeout, lambda: urlopen(Request(url, headers=request_headers), timeout=timeout))
    except HTTPError as error:
        if error.code == 416 and "Range" in headers:  # the file is shorter now: the caller asks for all of it
            return error
        error.close()
        raise _TransferError(f"the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:  # ValueError: an address that cannot be parsed
        raise _TransferError(_describe(error, timeout)) from error


def _chunks(response: HTTPResponse, timeout: float, max_seconds: float) -> Iterator[bytes]:
    """What arrives, until it ends.

    Raises:
        _TransferError: Nothing does, next to nothing, or for too long.
    """
    began = last = time.monotonic()
    since_last = 0
    try:
        # Without waiting for more than has come: to fill a buffer, a byte a second would be waited for.
        while chunk := _within(timeout, lambda: response.read1(_CHUNK)):
            yield chunk
            now, since_last = time.monotonic(), since_last + len(chunk)
            if now - began > max_seconds:
                raise _TransferError(f"it takes longer than the {max_seconds:g} s of max_hours")
            if now - last > timeout:
                if since_last < _SLOWEST * timeout:
                    raise _TransferError(f"the server sends less than {_SLOWEST} bytes a second")
                last, since_last = now, 0
    except (OSError, HTTPException) as error:
        raise _TransferError(_describe(error, timeout)) from error


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """What a function gives, if it does so in time: a socket's own limit begins anew with every byte.

    Raises:
        TimeoutError: It does not, and is left to itself.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def _receive(
    chunks: Iterator[bytes], partial: Path, start: int, length: int | None, max_bytes: int, report: Report
) -> None:
    """Write what arrives after the first ``start`` bytes.

    Raises:
        _TransferError: It ends too early.
        _TooLargeError: It does not end.
    """
    done = start
    report(done, length)
    with partial.open("r+b" if start else "wb") as file:
        file.seek(start)
        for chunk in chunks:
            file.write(chunk)
            done += len(chunk)
            if done > max_bytes:
                raise _TooLargeError(f"it sends more than {limit(max_bytes)}")
            report(done, length)
    if length is not None and done != length:
        raise _TransferError(f"the connection ended after {megabytes(done)} of {megabytes(length)}")


def _validator(headers: HTTPMessage) -> str | None:
    """What If-Range may be asked with: a strong entity tag, or else the date of the last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _describe(error: Exception, timeout: float) -> str:
    cause = getattr(error, "reason", error)  # urllib wraps what the socket raised
    if isinstance(cause, socket.gaierror):
        return f"the server's name is not found, so there may be no internet here ({cause})"
    if isinstance(cause, TimeoutError):
        return f"the server is silent for {timeout:g} s"
    if isinstance(cause, ConnectionRefusedError):
        return "the server refuses the connection"
    return str(cause) or type(cause).__name__


def _append(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
