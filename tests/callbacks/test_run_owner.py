"""A run's folder has one owner at a time, whatever becomes of owners, on whatever machine."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lit_ghibli import checkpoints, locks
from lit_ghibli.callbacks import record_file, run_owner
from lit_ghibli.callbacks.run_owner import FILE, FolderTaken
from lit_ghibli.errors import UserError

HOLD = """
import sys
from lit_ghibli.callbacks.run_owner import acquire
acquire({!r})
print(1, flush=True)
sys.stdin.read()
"""
KILLED = """
import os, pathlib
from lit_ghibli.locks import take
take(pathlib.Path({!r}), None)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def _give_back():
    yield
    run_owner._release_all()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The lock of another process of this machine that runs, and after the tests the process is asked to end."""
    folder = tmp_path_factory.mktemp("other")
    words = [sys.executable, "-c", HOLD.format(str(folder))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield folder, process.pid
        process.stdin.close()
        process.wait()
    assert not (folder / FILE).exists(), "an owner that ends gives its folder back"


def test_a_folder_in_which_another_process_works_is_refused(other):
    folder, process = other
    with pytest.raises(FolderTaken, match=rf"process {process} on .* is at work here: wait for it, or give another"):
        run_owner.acquire(folder)
    assert json.loads((folder / FILE).read_text())["process"] == process


def test_the_owner_goes_on_to_own_it_and_gives_it_back(tmp_path):
    with run_owner.owning(tmp_path) as first:
        assert first
        run_owner.acquire(tmp_path)
        assert json.loads((tmp_path / FILE).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_owned_is_free(tmp_path):
    words = [sys.executable, "-c", KILLED.format(str(tmp_path / FILE))]  # without torch, whose import takes seconds
    killed = subprocess.run(words, capture_output=True, check=False)
    assert killed.returncode == -9
    assert (tmp_path / FILE).exists()
    run_owner.acquire(tmp_path)


def lock_of(folder: Path) -> dict:
    """A lock of a process on another machine."""
    said = {**locks.this_process(), "host": "far", "machine": "far 1", "process": 7, "job": None}
    (folder / FILE).write_text(json.dumps(said))
    return said


def test_an_owner_that_was_taken_for_gone_writes_no_more(tmp_path):
    run_owner.acquire(tmp_path)
    run_owner.check(tmp_path)
    (tmp_path / FILE).unlink()  # by a person
    run_owner.check(tmp_path)
    assert (tmp_path / FILE).exists()
    taken = lock_of(tmp_path)
    with pytest.raises(FolderTaken, match=r"taken over by process 7 on far, since .*, while this process gave no sign"):
        run_owner.check(tmp_path)
    run_owner.release(tmp_path)
    assert json.loads((tmp_path / FILE).read_text()) == taken


def test_further_processes_of_a_run_leave_it_to_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    lock_of(tmp_path)
    with run_owner.owning(tmp_path) as first:
        assert not first


def finish(folder: Path, state: str) -> None:
    folder.mkdir(exist_ok=True)
    record = {"config": {}, "links": {}, "attempts": [{"state": state}]}
    (folder / record_file.FILE).write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["train.log", "metrics.csv", "run.lock"])
def test_a_folder_in_the_place_of_what_a_run_writes_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"a run cannot be written there \(.*{name}: Is a directory\)"):
        run_owner.acquire(tmp_path)


def test_a_new_run_takes_no_folder_of_another(tmp_path):
    run = tmp_path / "run"
    assert run_owner.claim(run) == run
    assert run_owner.claim(run, numbered=True) == run, "nothing is there yet but its owner"
    run_owner.release(run)
    finish(run, "failed")  # before there was anything to keep
    assert run_owner.claim(run) == run
    run_owner.release(run)
    finish(run, "finished")
    with pytest.raises(FolderTaken, match=f"{run} holds a run: go on with it by resume={run}, or give another folder"):
        run_owner.claim(run)
    assert not (run / FILE).exists()
    (tmp_path / "run_2").mkdir()
    lock_of(tmp_path / "run_2")
    checkpoints.save({"state_dict": {}}, tmp_path / "run_3" / "checkpoints" / "best.ckpt")
    assert run_owner.claim(run, numbered=True) == tmp_path / "run_4"


@pytest.mark.parametrize(("there", "began", "kept"), [(False, False, False), (False, True, True), (True, False, True)])
def test_a_folder_that_was_made_for_a_run_that_never_began_is_removed(tmp_path, there, began, kept):
    run = tmp_path / "run"
    if there:
        run.mkdir()
    run_owner.claim(run)
    (run / ".hydra").mkdir()
    if began:
        finish(run, "failed")
    with pytest.raises(KeyboardInterrupt), run_owner.owning(run):
        raise KeyboardInterrupt
    assert run.exists() == (run / ".hydra").exists() == kept
    assert not (run / FILE).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/run: a run cannot be written there \(Not a directory\)"):
        run_owner.acquire(tmp_path / "file" / "run")


@pytest.mark.slow
def test_of_two_resumes_at_once_one_goes_on_and_the_other_is_refused(tmp_path, tiny):
    """As two people, or a person and a scheduler, would: two programs that begin in the same moment."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    program = [sys.executable, "-m", "lit_ghibli", "train"]
    options = {"cwd": tmp_path, "env": environment, "text": True}
    begun = subprocess.run([*program, *tiny, "method.epochs=1", "hydra.run.dir=run"], **options, capture_output=True)
    assert begun.returncode == 0, begun.stderr
    resume = [*program, "resume=run", "method.epochs=3"]
    both = [subprocess.Popen(resume, **options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    refused = said[[process.returncode for process in both].index(1)]
    assert "is at work here: wait for it, or give another folder" in refused
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = [(row["step"], *(name for name in row if row[name])) for row in csv.DictReader(file)]
    assert len(set(rows)) == len(rows), "nothing is written twice"
    assert sorted(path.stem for path in (tmp_path / "run" / "checkpoints").glob("epoch_*")) == [
        f"epoch_{number:04d}" for number in (1, 2, 3)
    ]
    assert not (tmp_path / "run" / FILE).exists()
