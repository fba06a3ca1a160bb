import os
import signal
import stat

import pytest

from lit_ghibli import checkpoints, cluster
from lit_ghibli.errors import UserError

VARIABLES = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SUBMITIT_EXECUTOR", "SUBMITIT_LOCAL_JOB_ID")
LOCAL = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "31"}


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables of a scheduler's, and no others."""

    def put(**variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    put()
    return put


def write_checkpoint(run, job):
    checkpoints.save({"state_dict": {}, "job": job, checkpoints.CONFIG_KEY: {}}, run / "checkpoints/last.ckpt")


@pytest.mark.parametrize(
    ("variables", "written_by", "resumes"),
    [
        ({}, None, False),  # a person's fresh run in a used folder
        ({}, "slurm 7", False),
        (LOCAL, "submitit 31", True),
        (LOCAL, "submitit 30", False),  # another job's leavings
        (LOCAL, None, False),
        ({"SLURM_JOB_ID": "7"}, "slurm 7", False),  # the same command twice in one allocation
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}, "slurm 7", False),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, "slurm 7", True),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, "slurm 6", False),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1", **LOCAL}, "slurm 7", False),  # local inside an allocation
    ],
)
def test_only_a_requeued_job_finds_its_own_checkpoint(environment, tmp_path, variables, written_by, resumes):
    environment(**variables)
    assert cluster.own_checkpoint(tmp_path) is None, "nothing was written yet"
    write_checkpoint(tmp_path, written_by)
    assert cluster.own_checkpoint(tmp_path) == (tmp_path / "checkpoints/last.ckpt" if resumes else None)


def test_submitit_requeues_its_own_jobs(environment, monkeypatch):
    environment(**LOCAL)
    calls = []
    handlers = {signal.SIGUSR2: lambda *arguments: calls.append(("usr2", *arguments)), signal.SIGUSR1: calls.append}
    cluster.requeue(handlers)
    assert calls == [("usr2", signal.SIGUSR2, None)]
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    cluster.requeue({**handlers, signal.SIGUSR1: lambda *arguments: calls.append(arguments)})
    assert calls[1:] == [(signal.SIGUSR1, None)]


@pytest.mark.parametrize("code", [0, 1])
def test_slurm_is_asked_to_requeue(environment, monkeypatch, tmp_path, code):
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path / "asked"}\necho not allowed >&2\nexit {code}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    environment(SLURM_JOB_ID="7")
    if code:
        with pytest.raises(UserError, match=r"`scontrol requeue 7` failed, .*: not allowed"):
            cluster.requeue({})
    else:
        cluster.requeue({})
    assert (tmp_path / "asked").read_text() == "requeue 7\n"


def test_a_machine_without_scontrol_says_so(environment, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    environment(SLURM_JOB_ID="7")
    with pytest.raises(UserError, match=r"scontrol requeue 7.*saved.*No such file"):
        cluster.requeue({})
