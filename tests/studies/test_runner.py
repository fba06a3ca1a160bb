import itertools
import os
import signal
import threading

import pytest

from lit_ghibli.studies.ledger import Entry, Ledger
from lit_ghibli.studies.runner import LOG, Runner, Step, progress

VERSION = Step("say", ["--version"])
WRONG = Step("wrong", ["data"])


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        for key in "abc":
            ledger.entries[key] = Entry(key, {}, [], f"cells/{key}")
        yield ledger


def run(ledger, steps, collect=lambda entry, folder: None, jobs=1):
    """Run a, b and c; the keys in the order in which they ended."""
    ended, keys = [], iter("abc")
    runner = Runner(ledger, lambda entry, folder: steps[entry.name], collect, jobs)
    runner.run(lambda: next(keys, None), ended.append)
    return ended


def test_steps_run_in_processes_of_their_own_and_results_are_collected(ledger):
    steps = {"a": [VERSION, VERSION._replace(name="again")], "b": [VERSION], "c": []}

    def collect(entry, folder):
        entry.metrics = {"lines": len((folder / LOG).read_text().splitlines()) if folder.joinpath(LOG).exists() else 0}

    ledger.entries["c"].state = "running"  # killed between its last step and its results
    assert run(ledger, steps, collect) == ["a", "b", "c"]
    assert {key: entry.state for key, entry in ledger.entries.items()} == dict.fromkeys("abc", "done")
    assert [entry.metrics["lines"] for entry in ledger.entries.values()] == [4, 2, 0]  # what is run, and what it says
    assert ledger.entries["a"].finished == ["say", "again"]
    assert all(entry.seconds.keys() == set(entry.finished) for entry in ledger.entries.values())
    assert ledger.path.read_text().count('"state": "done"') == 3


def test_a_failed_step_ends_its_cell_alone_and_leaves_its_last_lines(ledger):
    steps = {"a": [WRONG, VERSION], "b": [VERSION], "c": [VERSION]}
    assert sorted(run(ledger, steps, jobs=2)) == ["a", "b", "c"]
    failed = ledger.entries["a"]
    assert (failed.state, failed.finished) == ("failed", [])
    assert any("is half a command" in line for line in failed.error)
    assert failed.error[-1] == "exit status 1"
    assert {ledger.entries[key].state for key in "bc"} == {"done"}


def test_a_stop_reaches_what_runs_and_begins_nothing_new(ledger):
    main = threading.main_thread().ident

    def plan(entry, folder):
        signal.pthread_kill(main, signal.SIGTERM)  # as if somebody stopped the sweep now
        yield Step("train", ["train", "--help"])  # which takes seconds

    keys = iter("abc")
    before = signal.getsignal(signal.SIGTERM)
    runner = Runner(ledger, plan, lambda *_: None, jobs=1)
    runner.run(lambda: next(keys, None), lambda key: None)
    assert runner.stopped
    assert {key: entry.state for key, entry in ledger.entries.items()} == {
        "a": "interrupted",
        "b": "waiting",
        "c": "waiting",
    }
    assert signal.getsignal(signal.SIGTERM) == before


def test_time_until_the_last_checkpoint_counts_of_what_a_killed_sweep_had_begun(ledger):
    entry = ledger.entries["a"]
    entry.state, entry.under_way = "running", ("train", 1_000_000.0)
    saved = ledger.folder / entry.folder / "checkpoints" / "last.ckpt"
    saved.parent.mkdir(parents=True)
    saved.touch()
    os.utime(saved, (1_000_030.0, 1_000_030.0))
    run(ledger, {"a": [], "b": [], "c": []})
    assert entry.seconds == {"train": 30.0}
    assert entry.under_way is None


def program(folder):
    """Run what is left of two cells; what the ledger then holds."""
    with Ledger(folder) as ledger:
        for key in "ab":
            ledger.entries.setdefault(key, Entry(key, {}, [], f"cells/{key}"))
        left = iter([key for key in "ab" if ledger.entries[key].state != "done"])

        def plan(entry, folder):
            if "say" not in entry.finished:
                yield VERSION

        def collect(entry, folder):
            entry.metrics = {"steps": float(len(entry.finished))}

        Runner(ledger, plan, collect, jobs=1).run(lambda: next(left, None), lambda key: None)
        return {key: (entry.state, entry.finished, entry.metrics) for key, entry in ledger.entries.items()}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("number", range(6))  # three writes of the ledger for each cell
def test_ended_at_any_write_of_the_ledger_it_goes_on_to_the_same_end(tmp_path, monkeypatch, number, written):
    numbers, replace = itertools.count(), os.replace

    def dying(*paths):
        if next(numbers) == number:
            if written:
                replace(*paths)
            raise InterruptedError
        replace(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dying)
        with pytest.raises(InterruptedError):
            program(tmp_path)
    ended = ("done", ["say"], {"steps": 1.0})
    assert program(tmp_path) == {"a": ended, "b": ended}


def test_a_mistake_in_collecting_is_raised_where_people_see_it(ledger):
    def collect(entry, folder):
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        run(ledger, {"a": [VERSION], "b": [], "c": []}, collect)


def test_what_is_left_takes_as_long_as_the_mean_of_what_is_done():
    done = Entry("a", {}, [], "a", state="done", seconds={"train": 100.0, "evaluate": 20.0}, metrics={"loss": 0.5})
    failed = Entry("b", {}, [], "b", state="failed")
    assert progress(done, [done], 5, 2) == "[1/5] a: done in 0:02:00 | loss=0.5 | about 0:04:00 to go"
    assert progress(failed, [failed], 5, 2) == "[1/5] b: failed in 0:00:00"
    assert progress(done, [done], 1, 2) == "[1/1] a: done in 0:02:00 | loss=0.5"
