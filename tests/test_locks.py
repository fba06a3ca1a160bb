"""A lock has one owner at a time, whatever becomes of owners, on whatever machine, and whatever clocks say."""

import errno
import json
import os
import subprocess
import sys

import pytest

from lit_ghibli import cluster, locks
from lit_ghibli.locks import SILENCE, Taken, take, wait_for

PARENT = {"machine": locks.machine(), "process": os.getppid(), "began": locks.began(os.getppid())}
YEARS = 1e8  # seconds by which the clock of another machine goes wrong


class Time:
    """The observer's clock, which moves while it sleeps only, and what others do meanwhile."""

    def __init__(self):
        self.now, self.events = 0.0, {}

    def sleep(self, seconds):
        self.now += seconds
        for when in [when for when in self.events if when <= self.now]:
            self.events.pop(when)()


@pytest.fixture(autouse=True)
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(locks, "_clock", lambda: time.now)
    monkeypatch.setattr(locks, "_sleep", time.sleep)
    return time


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "my.lock"
    assert not list(tmp_path.glob(".*")), "nothing is left of what is done aside"


def lock_of(path, skew=0.0, **owner) -> dict:
    """A lock whose time is off; by default of a process on another machine."""
    said = {**locks.this_process(), "host": "far", "machine": "far 1", "process": 7, "job": None, **owner}
    path.write_text(json.dumps(said))
    give_sign(path, skew)
    return said


def give_sign(path, skew):
    now = path.stat().st_mtime_ns + round(skew * 1e9) + 1
    os.utime(path, ns=(now, now))


def owner(path):
    return json.loads(path.read_text())["process"]


@pytest.mark.parametrize("skew", [0, -YEARS, YEARS])
def test_an_owner_elsewhere_that_is_silent_is_gone_whatever_its_clock_says(path, time, skew):
    lock_of(path, skew)
    told = []
    with take(path, told.append) as lock:
        assert SILENCE < time.now < SILENCE + 5
        assert owner(path) == os.getpid()
        lock.check()
    assert [each.startswith("process 7 on far, since ") for each in told] == [True]
    assert not path.exists()


@pytest.mark.parametrize("skew", [0, -YEARS, YEARS])
def test_an_owner_elsewhere_that_gives_a_sign_is_alive_whatever_its_clock_says(path, time, skew):
    before = lock_of(path, skew)
    time.events = {100: lambda: give_sign(path, -skew)}
    with pytest.raises(Taken, match="process 7 on far, since"):
        take(path, lambda _: None)
    assert (time.now, json.loads(path.read_text())) == (100, before)
    with pytest.raises(Taken):
        take(path, None)
    assert time.now == 100, "nobody was watched"


@pytest.mark.parametrize(
    ("said", "free"),
    [
        (PARENT, False),
        ({**PARENT, "began": "1"}, True),  # its number was reused
        ({**PARENT, "process": 2**22 + 1}, True),
        ({**PARENT, "began": "1", "child": PARENT["process"], "child_began": PARENT["began"]}, False),
        ({**PARENT, "began": "1", "child": PARENT["process"], "child_began": "1"}, True),
        ({"job": "slurm 5"}, True),  # this one, before it was requeued
        ({"job": "slurm 6"}, None),
    ],
)
def test_who_is_known_to_be_there_or_gone_is_not_watched(path, time, monkeypatch, said, free):
    monkeypatch.setattr(cluster, "job", lambda: "slurm 5")
    monkeypatch.setattr(cluster, "may_be_requeued", lambda: True)
    lock_of(path, **said)
    if free is False:
        with pytest.raises(Taken, match=f"process {os.getppid()} on far"):
            take(path, None)
    else:
        take(path, lambda _: None).release()
    assert (time.now == 0) == (free is not None)


@pytest.mark.parametrize("content", ["", "[1]", '{"host": 1}', "\udcff"])
def test_a_lock_that_says_nothing_is_watched(path, time, content):
    """It may be in the making."""
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(Taken, match=r"another process \(my.lock does not say which\)"):
        take(path, None)
    take(path, lambda _: None).release()
    assert time.now > SILENCE


def test_of_two_that_find_an_old_lock_one_gets_it(path):
    """The second removes what the first has made in between, sees that, and puts it back."""
    lock_of(path, process=8)
    old = path.read_bytes()
    with take(path, lambda _: None) as lock:
        locks._remove(path, old)
        lock.check()
        assert owner(path) == os.getpid()


def test_an_owner_that_was_taken_for_gone_learns_it_and_gives_no_signs_for_the_other(path):
    lock = take(path, None)
    path.unlink()  # by a person
    lock.check()
    assert owner(path) == os.getpid()
    path.unlink()
    taken = lock_of(path)
    with pytest.raises(Taken, match="process 7 on far"):
        lock.check()
    before = locks._look(path)
    os.utime(lock._file)
    assert locks._look(path) == before
    lock.release()
    assert json.loads(path.read_text()) == taken


def test_a_lock_is_waited_for(path, time):
    other, told, ending = lock_of(path, **PARENT), [], False
    time.events = {7: path.unlink}
    with wait_for(path, lambda: ending, told.append):
        assert time.now == 7
    assert told == [f"process {other['process']} on far, since {other['since']},"]
    far = lock_of(path)  # which is watched, and alive
    time.events = {20: lambda: give_sign(path, 0)}
    assert wait_for(path, lambda: time.now > 30, told.append) is None
    assert told[1:] == [f"process 7 on far, since {far['since']},"]


def test_a_killed_owner_is_gone_once_what_it_has_started_is(path, tmp_path):
    """The one test with real processes: the lock lasts as long as the child."""
    program = (
        "import os, subprocess, sys; from pathlib import Path; from lit_ghibli.locks import take\n"
        f"lock = take(Path({str(path)!r}), None); child = subprocess.Popen(['cat'], stdout=subprocess.DEVNULL)\n"
        "lock.holds_for(child.pid); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as killed:
        assert killed.wait() == -9
        with pytest.raises(Taken):
            take(path, None)
        child = json.loads(path.read_text())["child"]
        killed.stdin.close()
        while locks.began(child):
            pass
    take(path, None).release()


@pytest.mark.parametrize("room", [0, 100])
def test_on_a_full_disk_no_lock_is_left_that_others_would_wait_for(path, monkeypatch, room):
    def write(file, content, place):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return room

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", write)
        with pytest.raises(OSError, match=r"No space left on device: '.*my\.lock'"):
            take(path, None)
    assert not path.exists()
    take(path, None).release()
