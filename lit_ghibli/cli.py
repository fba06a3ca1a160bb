"""`lit-ghibli COMMAND [arguments]`."""

import runpy
import sys

from lit_ghibli import __version__

COMMANDS = {
    "train": "train a method, or go on with a run",
    "stylize": "turn photographs into the style of a trained run",
    "evaluate": "measure a checkpoint on held-out pictures",
    "scenes": "write rendered landscapes as files, to try things with",
}


def usage() -> str:
    """The overview that `lit-ghibli --help` prints."""
    commands = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    return (
        f"lit_ghibli {__version__}: photographs into Studio Ghibli and anime pictures\n\n"
        f"usage: lit-ghibli COMMAND [key=value ...]\n\n{commands}\n\n"
        "`lit-ghibli COMMAND --help` lists what a command takes."
    )


def main() -> None:
    """Run a command as the module `lit_ghibli.commands.COMMAND`."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help", "help"):
        print(usage())
        return
    command = sys.argv.pop(1)
    if command == "--version":
        print(__version__)
        return
    if command not in COMMANDS:
        sys.exit(f"lit-ghibli: there is no command '{command}'\n\n{usage()}")
    # As __main__, so that the further processes of a DDP run are started as `python -m` of the same command.
    runpy.run_module(f"lit_ghibli.commands.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
