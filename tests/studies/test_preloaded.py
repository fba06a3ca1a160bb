import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest
from helpers.forks import PATH

from lit_ghibli.studies.preloaded import Preloaded


@pytest.fixture
def parent():
    """A process that imports nothing, and forks processes that do as `helpers.forked` says."""
    parent = Preloaded({**os.environ, "PYTHONPATH": PATH}, "helpers.forked")
    assert parent.is_ready(60)
    yield parent
    parent.close()


def begun(path: Path) -> TextIO:
    """The pipe through which a forked process has said that it has begun, and which ends when it does."""
    pipe = open(path, encoding="utf-8")  # noqa: SIM115 - closed by the tests
    assert pipe.readline() == "begun\n"
    return pipe


def test_each_has_its_own_end_and_tells_it(parent):
    forked = [parent.start({"status": status}) for status in (0, 3, 0, 77)]
    assert [each.wait(60) for each in forked] == [0, 3, 0, 77]
    assert len({each.pid for each in forked} | {os.getpid()}) == 5
    assert [each.returncode for each in forked] == [0, 3, 0, 77]


def test_signals_reach_one_alone(parent, tmp_path):
    for name in "ab":
        os.mkfifo(tmp_path / name)
    killed, other = (parent.start({"pipe": str(tmp_path / name)}) for name in "ab")
    with begun(tmp_path / "a"), begun(tmp_path / "b"):
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(60) == -signal.SIGKILL
        killed.send_signal(signal.SIGKILL)  # nobody is there any more
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0)
        other.send_signal(signal.SIGTERM)
        assert other.wait(60) == -signal.SIGTERM


def test_where_the_parent_is_killed_so_is_what_it_has_forked_and_no_more_begins(parent, tmp_path):
    os.mkfifo(tmp_path / "a")
    forked = parent.start({"pipe": str(tmp_path / "a")})
    with begun(tmp_path / "a") as pipe:
        parent._parent.kill()
        assert select.select([pipe], [], [], 60)[0]
        assert pipe.read() == ""  # it is gone, and not only taken for gone
    assert forked.wait(60) == -signal.SIGKILL
    assert not parent.is_ready(60)
    with pytest.raises(BrokenPipeError):
        parent.start({"status": 0})


FORKING = """
import os, sys, torch
from lit_ghibli.studies.preloaded import import_all
import_all()
if "touch" in sys.argv:
    torch.cuda.is_available()
if not (child := os.fork()):
    os._exit(torch.cuda._is_in_bad_fork())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["touch"]])
def test_imports_leave_the_gpu_to_the_processes_that_are_forked(words):
    """CUDA refuses processes whose parent has asked for GPUs, as the second case does."""
    done = subprocess.run([sys.executable, "-c", FORKING, *words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1" if words else "0"]
