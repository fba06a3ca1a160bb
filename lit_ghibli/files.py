"""Files that are replaced as a whole, so that a reader sees the old one or the new one."""

import contextlib
import errno
import fcntl
import io
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lit_ghibli.errors import one_line

if TYPE_CHECKING:  # so that --help answers at once
    from PIL.Image import Image


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
        mode: ``w`` or ``wb``, as of `open`; text is UTF-8, and what a name may hold besides is escaped.
        options: Of `open`, such as ``newline``.

    Raises:
        OSError: With the name of ``path``, also where only its last byte could not be written.
    """
    path = Path(path)
    if "b" not in mode:
        options = {"encoding": "utf-8", "errors": "backslashreplace", **options}
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path), replacing(path) as partial, _open_locked(partial, mode, options) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Give what the operating system refuses in writing the name of the file, which it has only at opening."""
    try:
        yield
    except OSError as error:
        if error.errno and (error.filename is None or str(error.filename).endswith(".partial")):
            error.filename = str(path)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all; see :func:`write_atomically`."""
    with write_atomically(path) as file:
        file.write(text)


def write_picture(picture: "Image", path: str | Path, **options: Any) -> None:
    """Write a picture's file whole or not at all; see :func:`write_atomically`.

    Args:
        picture: Of Pillow's, in a mode that its format has.
        path: Its extension decides the format.
        options: Of Pillow's writer of that format.
    """
    # Into memory first: Pillow's own writing to files takes a part of the last bytes for all of them.
    content = io.BytesIO()
    content.name = str(path)  # by which Pillow finds the format
    picture.save(content, **options)
    with write_atomically(path, "wb") as file:
        file.write(content.getbuffer())


def remove_partials(folder: Path) -> None:
    """Remove what killed processes were writing into ``folder``, and not what :func:`write_atomically` writes now."""
    for partial in folder.glob(f".*.{'[0-9a-f]' * 12}.partial"):
        with contextlib.suppress(OSError), partial.open("rb") as file:  # gone by now, or held by its writer
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()


def _open_locked(path: Path, mode: str, options: dict[str, Any]) -> IO:
    """Open a file for writing that `remove_partials` leaves alone until it is closed, or its writer is dead."""
    while True:
        file = open(path, mode, **options)  # noqa: SIM115 (it is the caller's to close)
        # Not `lit_ghibli.locks`, for thousands of files that take milliseconds each; on file systems of networks that
        # have no such locks, what killed processes have left stays.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # removed between the two


def check_plain(path: Path) -> None:
    """Refuse a pipe or a socket, which would be waited for; anything else, and what is not there, is let through.

    Raises:
        OSError: It is one.
    """
    mode = path.stat().st_mode if os.path.exists(path) else 0
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket"
        raise OSError(errno.EINVAL, f"no plain file but a {kind}: move it away", str(path))


def explain(error: OSError) -> str:
    """What the operating system refuses, in a line: the file, and why."""
    room = "; make room, or choose another place" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    nameless = "standard output, or a file" if room or error.errno in (errno.EPIPE, errno.EIO) else ""
    reason = f"{error.strerror[:1].lower()}{error.strerror[1:]}{room}" if error.strerror else str(error)
    return ": ".join(filter(None, (one_line(error.filename or nameless), reason)))


def config_dir() -> str:
    """The folder of configurations: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


def default_cache_dir() -> Path:
    """The folder of what may be made again: ``$LIT_GHIBLI_CACHE``, or ``~/.cache/lit_ghibli``."""
    return Path(os.environ.get("LIT_GHIBLI_CACHE") or "~/.cache/lit_ghibli").expanduser()
