"""Cells as jobs of a scheduler that does what the test says; and what the jobs themselves do."""

import contextlib
import os
import pickle
import signal
import threading
import time
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from submitit.core.utils import cloudpickle_dump

from lit_ghibli.errors import UserError
from lit_ghibli.studies import cell_job
from lit_ghibli.studies.cells import SearchSource
from lit_ghibli.studies.launcher import Launcher
from lit_ghibli.studies.ledger import CellLedger, Entry, Ledger
from lit_ghibli.studies.runner import Step
from lit_ghibli.studies.schedulers import Scheduler, Slurm
from lit_ghibli.studies.study import Study

CKPT = "checkpoints/last.ckpt"


class Fake(Scheduler):
    """Each time that it is asked, it ends the oldest job, in the next of the ways that it was told, or well.

    A way is a function of the job's task, which returns the scheduler's word for the end.
    """

    name, seconds = "fake", 0.0

    def __init__(self, *ways, ahead=0):
        self.ways, self.ahead, self.running, self.submitted, self.cancelled, self.most = (
            list(ways),
            ahead,
            {},
            [],
            [],
            0,
        )

    def submit(self, tasks):
        names = [f"fake {len(self.submitted) + number}" for number in range(len(tasks))]
        self.submitted += [task.key for task in tasks]
        for name, task in zip(names, tasks, strict=True):
            self.running[name] = pickle.loads(pickle.dumps(task))
            self.running[name].entry.job = name
        self.most = max(self.most, len(self.running))
        return names

    def ended(self, jobs):
        job = next(iter(self.running))
        word = (self.ways.pop(0) if self.ways else well)(self.running[job])
        if word is None:
            return {}
        self.running.pop(job)
        return {job: word}

    def cancel(self, jobs):
        self.cancelled += jobs
        self.ways = [killed] * len(jobs)

    def gave_up(self, job):
        return False

    def last_lines(self, job):
        return ["Traceback"]


def write(task, **changes):
    ledger = CellLedger(task.folder, task.key, task.entry)
    for name, value in changes.items():
        setattr(task.entry, name, value)
    ledger.save()
    return "COMPLETED"


def well(task):
    assert list(task.plan(task.entry, task.folder)) == []
    return write(task, state="done", finished=["train"], seconds={"train": 2.0})


def badly(task):
    return write(task, state="failed", error=["exit status 1"])


def killed(task):
    return ""


def saving(task):
    path = task.folder / task.entry.folder / CKPT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, ns=(len(task.key), time.time_ns()))
    return "NODE_FAIL"


def by_hand(task):
    write(task, state="running")
    return "CANCELLED"


def without_memory(task):
    return "OUT_OF_MEMORY"


def still_running(task):
    return None


def die(task):
    raise InterruptedError("as if the program were killed")


def stop(task):
    write(task, state="running")
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        for key in "abcd":
            ledger.entries[key] = Entry(key, {}, [], f"cells/{key}")
            (tmp_path / "cells" / key).mkdir(parents=True)
        yield ledger


def nothing(entry, folder):
    return []


def launch(ledger, scheduler, jobs=2, keys="abcd"):
    """Run the cells that are left; how often each was reported."""
    reported, left = [], iter([key for key in keys if not ledger.entries[key].ended])
    launcher = Launcher(ledger, lambda entry: nothing, lambda *_: None, jobs, scheduler, ahead=True)
    try:
        launcher.run(lambda: next(left, None), reported.append)
    finally:
        launch.stopped = launcher.stopped
    return Counter(reported)


def states(ledger):
    return "".join(entry.state[0] for entry in ledger.entries.values())  # d, f, i, w, r


@pytest.mark.parametrize(
    ("ways", "expected", "submitted"),
    [
        ([], "dddd", "abcd"),
        ([still_running, well, still_running], "dddd", "abcd"),
        ([badly], "fddd", "abcd"),
        ([killed], "dddd", "abacd"),  # what was cut off comes first
        ([without_memory, by_hand], "fidd", "abcd"),
    ],
)
def test_what_becomes_of_cells_whose_jobs_end(ledger, ways, expected, submitted):
    scheduler = Fake(*ways)
    assert launch(ledger, scheduler) == Counter("abcd")
    assert states(ledger) == expected
    assert "".join(scheduler.submitted) == submitted
    assert scheduler.most == 2
    assert all((entry.job, entry.attempt) == (None, "") for entry in ledger.entries.values())


def test_jobs_that_leave_nothing_new_are_not_submitted_for_ever(ledger):
    scheduler = Fake(killed, killed, killed, well)
    assert launch(ledger, scheduler, jobs=1, keys="ab") == Counter("ab")
    assert scheduler.submitted == ["a", "a", "a", "b"]
    assert ledger.entries["a"].error[0] == "Traceback"
    assert ledger.entries["a"].error[1].endswith("its job ended (killed) and left nothing new")


def test_jobs_that_save_are_submitted_again_as_often_as_they_are_cut_off(ledger):
    scheduler = Fake(*[saving] * 5)
    assert launch(ledger, scheduler, keys="a") == Counter("a")
    assert (scheduler.submitted, ledger.entries["a"].state) == (["a"] * 6, "done")


def test_a_scheduler_that_lets_so_many_run_is_given_all_at_once(ledger):
    scheduler = Fake(killed, ahead=3)
    launch(ledger, scheduler)
    assert scheduler.submitted[:3] == ["a", "b", "c"]
    assert Counter(scheduler.submitted) == Counter("aabcd")
    assert scheduler.most == 3, "then one by one"


def test_a_stop_ends_all_jobs_and_says_what_is_left(ledger):
    scheduler = Fake(well, stop)
    assert launch(ledger, scheduler) == Counter("abc")
    assert launch.stopped
    assert (states(ledger), scheduler.cancelled, scheduler.running) == ("diww", ["fake 1", "fake 2"], {})
    again = Fake()
    assert launch(ledger, again) == Counter("bcd")
    assert (states(ledger), again.submitted) == ("dddd", ["b", "c", "d"])


@pytest.mark.parametrize("told", [True, False], ids=["", "before it had written the jobs' names"])
def test_a_killed_program_leaves_its_jobs_to_the_next(tmp_path, ledger, told):
    first = Fake(well, die)
    with pytest.raises(InterruptedError):
        launch(ledger, first)
    assert list(first.running) == ["fake 1", "fake 2"]
    if not told:
        for task in first.running.values():
            write(task, state="running")
            ledger.entries[task.key].job = None
        ledger.save()
    second = Fake(killed)
    second.submitted, second.running = ["", "", ""], first.running  # the same cluster
    assert launch(ledger, second) == Counter("bcd")
    assert second.submitted[3:] == ["b", "d"], "b was killed, c is done by the first one's job"
    assert (states(ledger), second.most) == ("dddd", 2)


def test_a_stop_ends_jobs_of_a_killed_program_that_were_not_taken_over_yet(ledger):
    first = Fake(die)
    with pytest.raises(InterruptedError):
        launch(ledger, first, jobs=4)
    second = Fake(stop)
    second.running = first.running
    launch(ledger, second, jobs=1)
    assert (sorted(second.cancelled), states(ledger)) == ([f"fake {number}" for number in range(4)], "iwww")


@pytest.mark.parametrize("number", range(14))
def test_killed_at_any_write_no_cell_is_lost_or_done_twice(tmp_path, monkeypatch, number):
    """The program is killed, its jobs end meanwhile, and another one comes."""
    with Ledger(tmp_path) as ledger:
        for key in "ab":
            ledger.entries[key] = Entry(key, {}, [], f"cells/{key}")
        ledger.save()
        scheduler, replace, count = Fake(), os.replace, iter(range(number))

        def dying(*paths):
            if next(count, None) is None:
                raise InterruptedError
            replace(*paths)

        with monkeypatch.context() as patched, contextlib.suppress(InterruptedError):
            patched.setattr(os, "replace", dying)
            launch(ledger, scheduler, jobs=1, keys="ab")
    done = []
    for task in scheduler.running.values():
        if cell_job.CellJob._is_wanted(task):
            done.append(task.key)
            well(task)
    with Ledger(tmp_path) as ledger:
        second = Fake()
        second.ended = lambda jobs: {job: "" for job in jobs if job not in second.running} or Fake.ended(second, jobs)
        second.submitted = [None] * len(scheduler.submitted)
        launch(ledger, second, jobs=1, keys="ab")
        assert states(ledger) == "dd"
        assert not set(done) & set(second.submitted)


def test_trials_of_a_search_are_launched_as_their_results_suggest(tmp_path):
    space = {"method.lr": {"low": 0.0, "high": 1.0}}
    study = Study(
        "mine", "?", "", "train", (), {}, {"trials": 5, "space": space}, (0,), None, None, {"loss": "min"}, None
    )

    def collect(entry, folder):
        entry.metrics = {"loss": float(entry.overrides[0].split("=")[1])}

    with Ledger(tmp_path) as ledger:
        source = SearchSource(ledger, study, lambda cell: " ".join(cell.overrides))
        scheduler = Fake(killed)
        launcher = Launcher(
            ledger, lambda entry: partial(asking, source.pruned(entry)), collect, 2, scheduler, ahead=False
        )
        launcher.run(source.take, source.ended)
        assert (scheduler.most, len(scheduler.submitted)) == (2, 6)
        assert [row["state"] for row in source.search.rows()] == ["done"] * 5
        assert source.search.best()["values"]["loss"] == min(entry.metrics["loss"] for entry in source.entries())


def asking(pruned, entry, folder):
    assert not pruned()
    return []


# --- the job -----------------------------------------------------------------------


@pytest.fixture
def job(ledger, monkeypatch):
    """A function that runs the job of a cell in this process, with this as what its steps do."""
    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setattr(cell_job, "own_job", lambda: "fake 7")

    def run(plan, attempt="now"):
        ledger.entries["a"].attempt = "now"
        ledger.save()
        entry = Entry("a", {}, [], "cells/a", attempt=attempt)
        cell_job.CellJob(ledger.folder, "a", entry, plan, None)()
        return CellLedger(ledger.folder, "a", entry).read()

    return run


def test_a_job_writes_down_what_it_does_and_goes_on_where_another_was(ledger, job):
    def plan(entry, folder):
        if "say" not in entry.finished:
            yield Step("say", ["--version"])

    said = job(plan)
    assert (said.state, said.finished, said.attempt, said.job) == ("done", ["say"], "now", "fake 7")
    assert ledger.entries["a"].state == "waiting", "the ledger is the launcher's to write"
    said.attempt, said.state = "before", "interrupted"
    CellLedger(ledger.folder, "a", said).save()
    assert (job(plan).attempt, (ledger.folder / "cells/a/cell.log").read_text().count("$ ")) == ("now", 1)


def test_a_job_whose_cell_was_given_to_another_does_nothing(ledger, job, capsys):
    assert job(lambda *_: pytest.fail("it began"), attempt="before") is None
    assert "there is nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "wanted", "slurm", "expected"),
    [
        (signal.SIGUSR2, True, True, ["requeue"]),
        (signal.SIGUSR1, True, False, ["requeue"]),
        (signal.SIGUSR2, False, True, []),
        (signal.SIGTERM, True, True, ["wait"]),  # for SLURM to end it, and perhaps to start it again
        (signal.SIGTERM, True, False, []),
        (signal.SIGTERM, False, True, []),  # the sweep was stopped
    ],
)
def test_a_job_that_is_told_of_its_end_saves_and_is_requeued(ledger, job, monkeypatch, number, wanted, slurm, expected):
    did = []
    monkeypatch.setattr(cell_job.cluster, "requeue", lambda handlers: did.append("requeue"))
    monkeypatch.setattr(cell_job.cluster, "ends_jobs_itself", lambda: slurm)
    monkeypatch.setattr(cell_job, "time", SimpleNamespace(sleep=lambda seconds: did.append("wait")))
    before = [signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)]

    def plan(entry, folder):
        if not wanted:
            ledger.entries["a"].attempt = ""
            ledger.save()
        signal.pthread_kill(main, number)
        yield Step("train", ["--version"])

    main = threading.main_thread().ident
    assert job(plan).state == "interrupted"
    assert did == expected
    assert before == [signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)]


# --- SLURM ---------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a shell script in the place of one of SLURM's programs."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return put


SETTINGS = {
    "requeues": 3,
    "gpus": 2,
    "cpus": 4,
    "memory": 16,
    "minutes": 90,
    "notice": 60,
    "partition": "p",
    "account": None,
}


def test_what_slurm_is_asked_for_and_what_it_refuses(tmp_path, program):
    with pytest.raises(UserError, match=r"launcher=slurm: there is no sbatch here"):
        Slurm(tmp_path, SETTINGS, 2)
    program("srun", "")
    program("sbatch", f'cp "$1" {tmp_path}/script; echo Submitted batch job 12')
    slurm = Slurm(tmp_path / "study", SETTINGS, 2)
    assert slurm.submit([nothing_at_all] * 3) == ["slurm 12_0", "slurm 12_1", "slurm 12_2"]
    flags = [
        "array=0-2%2",
        "time=90",
        "mem=16GB",
        "gpus-per-node=2",
        "cpus-per-task=4",
        "partition=p",
        "signal=USR2@60",
    ]
    assert {f"#SBATCH --{flag}" for flag in flags} <= set((tmp_path / "script").read_text().splitlines())
    program("sbatch", "echo sbatch: error: invalid partition specified: p >&2; exit 1")
    with pytest.raises(UserError, match="the cluster took no job: sbatch: error: invalid partition specified: p"):
        slurm.submit([nothing_at_all])


def nothing_at_all():
    pass


@pytest.mark.parametrize(("outcome", "gave_up"), [("success", False), ("error", True), (None, False)])
def test_which_jobs_were_ended_by_their_own_errors(tmp_path, program, outcome, gave_up):
    program("srun", "")
    program("sbatch", "")
    slurm = Slurm(tmp_path, SETTINGS, 2)
    slurm.folder.mkdir(exist_ok=True)
    if outcome:
        cloudpickle_dump((outcome, "a trace" * 99), slurm.folder / "12_0_0_result.pkl")
    (slurm.folder / "12_0_0_log.err").write_text("\n".join(map(str, range(99))))
    assert (slurm.gave_up("slurm 12_0"), slurm.last_lines("slurm 12_0")[-1]) == (gave_up, "98")


def test_which_jobs_of_slurm_are_over(tmp_path, program):
    program("srun", "")
    program("sbatch", "")
    program("squeue", "printf '12_0 RUNNING\\n12_1 CANCELLED\\n12_2 PENDING\\n13 COMPLETING\\n14 PREEMPTED\\n'")
    slurm = Slurm(tmp_path / "study", SETTINGS, 2)
    jobs = [f"slurm {number}" for number in ("12_0", "12_1", "12_2", "13", "14", "15")]
    assert slurm.ended(jobs) == {"slurm 12_1": "CANCELLED", "slurm 15": ""}
    program("squeue", "exit 1")
    assert slurm.ended(jobs) == {}, "it is down for a while"
