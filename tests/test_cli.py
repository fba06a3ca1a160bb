"""Which command is run for what was typed."""

import sys
from pathlib import Path

import pytest

from lit_ghibli import cli as entry


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        (["data", "fetch", "maps"], "data fetch", ["maps"]),
        (["data", "fetch"], "data fetch", []),
        (["data", "check", "data.root=x"], "data check", ["data.root=x"]),
        (["estimate", "trainer=cpu"], "estimate", ["trainer=cpu"]),
        (["train", "fetch"], "train", ["fetch"]),
        (["scenes", "--help"], "scenes", ["--help"]),
        (["pseudo-pair", "out=x"], "pseudo-pair", ["out=x"]),
    ],
)
def test_commands_of_one_and_two_words(words, command, rest):
    assert entry.split_command(words) == (command, rest)


def test_every_command_is_a_module():
    for command in entry.COMMANDS:
        module = command.replace(" ", "_").replace("-", "_")
        assert (Path(entry.__file__).parent / "commands" / f"{module}.py").is_file()


def test_a_dash_in_a_command_is_an_underscore_in_its_module(monkeypatch):
    started = []
    monkeypatch.setattr(sys, "argv", ["lit-ghibli", "pseudo-pair", "out=x"])
    monkeypatch.setattr(entry.runpy, "run_module", lambda module, **options: started.append(module))
    entry.main()
    assert started == ["lit_ghibli.commands.pseudo_pair"]
    assert sys.argv[1:] == ["out=x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "foo", "maps"], "lit-ghibli: there is no command 'data foo'; data has: fetch, weigh"),
        (["data", "out=x"], "lit-ghibli: there is no command 'data out=x'; data has: fetch, weigh"),
        (["data"], "lit-ghibli: 'data' is half a command; data has: fetch, weigh"),
        (["fetch"], "lit-ghibli: there is no command 'fetch'\n\n"),
        (["dat"], "lit-ghibli: there is no command 'dat'\n\n"),
    ],
)
def test_unknown_commands_say_which_there_are(monkeypatch, words, message):
    commands = {"train": "x", "data fetch": "y", "data weigh": "z"}
    monkeypatch.setattr(entry, "COMMANDS", commands)
    with pytest.raises(SystemExit) as error:
        entry.split_command(words)
    assert str(error.value) == message + (entry.usage() if message.endswith("\n\n") else "")


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"], ["data", "--help"], ["data", "help"]])
def test_help_lists_every_command(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["lit-ghibli", *words])
    entry.main()
    lines = capsys.readouterr().out.splitlines()
    for command, description in entry.COMMANDS.items():
        assert any(line.split() == f"{command} {description}".split() for line in lines)
