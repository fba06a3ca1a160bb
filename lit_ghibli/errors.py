"""The one base class of errors that a user causes and can mend, and what was probably meant."""

import re
from collections.abc import Iterable

_ESCAPED = {"\n": "\\n", "\t": "\\t"}


class UserError(ValueError):
    """Something that the user gave cannot be used; the message says what, where, and what to do.

    The commands print the message alone, without a traceback. Each argument is one line of it.
    """

    def __str__(self) -> str:
        """The message, which may quote names, files and servers: none of them breaks a line or moves a terminal."""
        return "\n".join(map(one_line, self.args))

    @property
    def lines(self) -> list[str]:
        """The message line by line, for another that quotes it."""
        return str(self).split("\n")


def printable(text: str) -> str:
    """A text with escape codes, other control characters and what no encoding has written as Python escapes them.

    Bytes of a file's name that the locale does not know are read as UTF-8, which they mostly are.
    """
    text = re.sub("[\udc80-\udcff]+", lambda found: _decode(found[0]), text)
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def one_line(text: object) -> str:
    """A text from outside, such as a file's name, which may hold line breaks too, as :func:`printable` writes it."""
    return "".join(letter if letter.isprintable() else _ESCAPED.get(letter, letter) for letter in printable(str(text)))


def say(*lines: object) -> None:
    """Print lines, in which names of files and the like break none and move no terminal."""
    print(*map(one_line, lines), sep="\n", flush=True)


def _decode(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known: those like it, or whose last part is; or nothing."""
    import difflib  # here, so that --help answers at once

    last = {name: name.rpartition(".")[2] for name in known}
    near = difflib.get_close_matches(word, last, n=3, cutoff=0.7)
    near = near or [name for name in last if difflib.get_close_matches(word, [last[name]], cutoff=0.75)][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""
