"""Where a command writes: looked at before its work, so that nothing is computed that then has no place."""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lit_ghibli.data.image_folders import is_read
from lit_ghibli.errors import UserError
from lit_ghibli.files import explain


def output_folder(out: str | Path, reads: Iterable[Path] = ()) -> Path:
    """The folder that was given for what a command writes; it is made later.

    Args:
        out: As it was typed.
        reads: Folders whose pictures are read, with all below them.

    Raises:
        UserError: It is a file, nothing can be written there, or the next run would read what is.
    """
    folder = Path(out).expanduser()
    check_writable(folder)
    refuse_among_data(folder, reads, "choose another folder with --out")
    return folder


def refuse_among_data(folder: Path, reads: Iterable[Path], instead: str) -> None:
    """Refuse to write pictures where they would be read as data.

    Args:
        folder: Where they would be written.
        reads: Folders whose pictures are read, with all below them.
        instead: What to do.

    Raises:
        UserError: It is in one of them.
    """
    for read in reads:
        if is_read(folder, read):
            raise UserError(
                f"{folder} is in {read}, whose pictures are data: those written there would be, too, in the next run; "
                f"{instead}"
            )


def check_writable(folder: Path) -> None:
    """Refuse a folder in which nothing can be made.

    Raises:
        UserError: It, or what it would have to be made in, is a file or takes no files.
    """
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    if place.is_file():
        raise UserError(f"{place} is a file: choose a folder with --out")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        error.filename = str(place)
        where = f"{folder} cannot be made in" if place != folder else "nothing can be written in"
        raise UserError(f"{where} {explain(error)}; choose another folder with --out") from error


def write_output(content: bytes) -> None:
    """Write what standard output is to hold, and nothing else.

    Raises:
        UserError: Its reader has left.
    """
    try:
        sys.__stdout__.buffer.write(content)
        sys.__stdout__.flush()
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # Python flushes once more at its end
        raise UserError("standard output was closed before the picture was written") from error
