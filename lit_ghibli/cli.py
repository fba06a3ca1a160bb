"""`lit-ghibli COMMAND [arguments]`, where a command is one word or two."""

import codecs
import contextlib
import os
import runpy
import sys
from collections.abc import Iterator

from lit_ghibli import __version__
from lit_ghibli.commands import COMMANDS, interrupt_told, module_of
from lit_ghibli.errors import did_you_mean, printable
from lit_ghibli.files import explain

_HELP = ("-h", "--help", "help")


def usage() -> str:
    """The overview that `lit-ghibli --help` prints."""
    width = max(map(len, COMMANDS)) + 1
    commands = "\n".join(f"  {name:<{width}} {command.summary}" for name, command in COMMANDS.items())
    return (
        f"lit_ghibli {__version__}: photographs into Studio Ghibli and anime pictures\n\n"
        f"usage: lit-ghibli COMMAND [key=value ...]\n\n{commands}\n\n"
        "`lit-ghibli COMMAND --help` lists what a command takes."
    )


def split_command(words: list[str]) -> tuple[str, list[str]]:
    """Split what was typed into a command and its arguments.

    Raises:
        SystemExit: There is no such command; the message says which there are.
    """
    for length in (2, 1):
        if (command := " ".join(words[:length])) in COMMANDS:
            return command, words[length:]
    first, *rest = words
    seconds = ", ".join(command.removeprefix(f"{first} ") for command in COMMANDS if command.startswith(f"{first} "))
    if not seconds:
        near = did_you_mean(" ".join(words[:2]), COMMANDS) or did_you_mean(first, COMMANDS)
        sys.exit(f"lit-ghibli: there is no command '{first}'{near or ': `lit-ghibli --help` lists all'}")
    if not rest:
        sys.exit(f"lit-ghibli: '{first}' is half a command; {first} has: {seconds}")
    sys.exit(f"lit-ghibli: there is no command '{first} {rest[0]}'; {first} has: {seconds}")


def _escape(error: UnicodeError) -> tuple[bytes, int]:
    """What stands for characters that an encoding does not have; for `codecs.register_error`."""
    text = printable(error.object[error.start : error.end])
    return text.encode(error.encoding, "backslashreplace"), error.end


codecs.register_error("escaped", _escape)


@contextlib.contextmanager
def _output_told() -> Iterator[None]:
    """Make a standard output that takes no more a line, also where that shows only when all is written."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="escaped")  # names of files may hold what no terminal shows
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # Python flushes once more at its end
        sys.exit(f"lit-ghibli: {explain(error)}")


@_output_told()
def main() -> None:
    """Run a command: `data fetch` is the module `lit_ghibli.commands.data_fetch`, and dashes are underscores, too."""
    words = sys.argv[1:]
    groups = {command.split()[0] for command in COMMANDS if " " in command}
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in _HELP or (words[0] in groups and words[1:] and words[1] in _HELP):
        print(usage())
        return
    if words[0] == "--version":
        print(__version__)
        return
    command, sys.argv[1:] = split_command(words)
    if "--version" in sys.argv[1:]:
        print(__version__)
        return
    try:
        os.getcwd()
    except FileNotFoundError:
        sys.exit("lit-ghibli: the folder in which this was typed has been removed; cd into another one")
    with interrupt_told(command):
        # As __main__, so that the further processes of a DDP run are started as `python -m` of the same command.
        runpy.run_module(f"lit_ghibli.commands.{module_of(command)}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
