"""`lit-ghibli COMMAND [arguments]`, where a command is one word or two."""

import runpy
import sys

from lit_ghibli import __version__

COMMANDS = {
    "train": "train a method, or go on with a run",
    "rerun": "repeat a run from its record, and compare the metrics",
    "estimate": "try a few steps of a training, and forecast its time and memory",
    "stylize": "turn photographs into the style of a trained run",
    "nst": "paint a picture's content in the style of others, by optimisation",
    "evaluate": "measure a checkpoint on held-out pictures",
    "compare": "put runs and folders of pictures side by side, on one page",
    "sweep": "run a study: a grid or a search of trainings, with tables, plots and pictures at its end",
    "wandb-trial": "train with the values that the agent of a Weights & Biases sweep asks for",
    "profile": "measure time, memory and operations of a forward pass",
    "mos build": "make a page on which people rate the pictures of several methods, blind",
    "mos score": "turn such people's answers into mean opinion scores",
    "pseudo-pair": "pair photographs with what a run makes of them, and keep the good pairs",
    "scenes": "write rendered landscapes as files, to try things with",
    "data fetch": "download a published data set",
    "data check": "look for bad, doubled, leaked and unequal pictures in the folders of a training",
}
_HELP = ("-h", "--help", "help")


def usage() -> str:
    """The overview that `lit-ghibli --help` prints."""
    width = max(map(len, COMMANDS)) + 1
    commands = "\n".join(f"  {name:<{width}} {what}" for name, what in COMMANDS.items())
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
        sys.exit(f"lit-ghibli: there is no command '{first}'\n\n{usage()}")
    if not rest:
        sys.exit(f"lit-ghibli: '{first}' is half a command; {first} has: {seconds}")
    sys.exit(f"lit-ghibli: there is no command '{first} {rest[0]}'; {first} has: {seconds}")


def main() -> None:
    """Run a command: `data fetch` is the module `lit_ghibli.commands.data_fetch`, and dashes are underscores, too."""
    words = sys.argv[1:]
    groups = {command.split()[0] for command in COMMANDS if " " in command}
    if not words or words[0] in _HELP or (words[0] in groups and words[1:] and words[1] in _HELP):
        print(usage())
        return
    if words[0] == "--version":
        print(__version__)
        return
    command, sys.argv[1:] = split_command(words)
    # As __main__, so that the further processes of a DDP run are started as `python -m` of the same command.
    module = command.replace(" ", "_").replace("-", "_")
    runpy.run_module(f"lit_ghibli.commands.{module}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
