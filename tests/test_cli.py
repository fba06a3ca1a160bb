"""Which command is run for what was typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from lit_ghibli import __version__
from lit_ghibli import cli as entry
from lit_ghibli.commands import Command


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
        (["zzz"], "lit-ghibli: there is no command 'zzz': `lit-ghibli --help` lists all"),
        (["trian"], "lit-ghibli: there is no command 'trian'; did you mean train?"),
        (["data-fetch"], "lit-ghibli: there is no command 'data-fetch'; did you mean data fetch?"),
    ],
)
def test_unknown_commands_say_which_there_are(monkeypatch, words, message):
    commands = {name: Command("x") for name in ("train", "data fetch", "data weigh")}
    monkeypatch.setattr(entry, "COMMANDS", commands)
    with pytest.raises(SystemExit) as error:
        entry.split_command(words)
    assert str(error.value) == message


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"], ["data", "--help"], ["data", "help"]])
def test_help_lists_every_command(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["lit-ghibli", *words])
    entry.main()
    lines = capsys.readouterr().out.splitlines()
    for command, description in entry.COMMANDS.items():
        assert any(line.split() == f"{command} {description.summary}".split() for line in lines)


@pytest.mark.parametrize("words", [["--version"], ["stylize", "--version"], ["data", "fetch", "--version"]])
def test_every_command_knows_the_version(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["lit-ghibli", *words])
    entry.main()
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_of_a_command_is_asked_for_in_two_ways(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lit-ghibli", "help", "data", "fetch"])
    monkeypatch.setattr(entry.runpy, "run_module", lambda module, **options: None)
    entry.main()
    assert sys.argv[1:] == ["--help"]


def test_the_overview_imports_neither_hydra_nor_torch(cli, tmp_path):
    program = (
        "import sys; from lit_ghibli import cli; cli.main(); print({'hydra', 'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_a_wrong_word_ends_a_process_before_anything_is_done(cli, tmp_path):
    done = cli("scenes", "--out", "x", "--count", "many", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["lit-ghibli scenes: count must be a whole number of at least 1; got 'many'"]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["completion", "bash"]])
def test_a_standard_output_that_takes_no_more_is_a_line(words):
    with open("/dev/full", "w") as full:
        program = [sys.executable, "-m", "lit_ghibli", *words]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "standard output" in line
    assert "no space left on device" in line
