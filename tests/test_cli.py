"""Which command is run for what was typed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lit_ghibli import __version__
from lit_ghibli import cli as entry
from lit_ghibli.commands import Command
from lit_ghibli.errors import printable


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


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["--help"], ["hydra", "torch", "numpy"]),
        (["stylize", "--help"], ["torch"]),
        (["sweep", "--help"], ["torch", "optuna", "submitit"]),  # so is --status
    ],
)
def test_help_imports_little(words, left_out):
    told = f"print(set({left_out}) & set(sys.modules))"
    program = f"import atexit, sys; from lit_ghibli import cli; atexit.register(lambda: {told}); cli.main()"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_a_wrong_word_ends_a_process_before_anything_is_done(cli, tmp_path):
    done = cli("scenes", "--out", "x", "--count", "many", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["lit-ghibli scenes: count must be a whole number of at least 1; got 'many'"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", rb"gr\xfcn \u753b \xe9.png \x1b[31m \ud800"),  # the bytes of names were read in an ASCII locale
        ("latin-1", rb"gr%sn \u753b \xe9.png \x1b[31m \ud800" % b"\xfc"),
        ("utf-8", rb"gr%sn %s \xe9.png \x1b[31m \ud800" % ("ü".encode(), "画".encode())),
    ],
)
def test_names_are_shown_as_far_as_the_terminal_can(encoding, written):
    name = ("grün 画 ".encode() + b"\xe9.png").decode("ascii", "surrogateescape")
    assert printable(f"{name} \x1b[31m \ud800").encode(encoding, "escaped") == written
    assert name.encode(encoding, "escaped") == written.split(rb" \x1b")[0]


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


@pytest.mark.parametrize("command", entry.COMMANDS)
def test_an_interrupt_is_a_line_in_every_command_whenever_it_comes(monkeypatch, command):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["lit-ghibli", *command.split()])
    monkeypatch.setattr(entry.runpy, "run_module", interrupted)
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == "\nstopped" + "; the same command goes on" * entry.COMMANDS[command].goes_on


def test_a_working_folder_that_is_gone_is_told(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "argv", ["lit-ghibli", "scenes", "out=x"])
    with pytest.raises(SystemExit, match="the folder in which this was typed has been removed"):
        entry.main()


@pytest.mark.slow
def test_an_interrupt_of_a_measuring_process_is_its_parents_line(tmp_path):
    words = ["profile", "checkpoint=meadow", "size=64", "repeats=[1000000]", "device=cpu"]
    command = [sys.executable, "-m", "lit_ghibli", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "measuring meadow\n"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (1, "stopped")
