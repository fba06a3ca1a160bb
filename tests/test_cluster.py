import os
import re
import signal
import stat

import pytest

from lit_ghibli import checkpoints, cluster
from lit_ghibli.errors import UserError

VARIABLES = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SUBMITIT_EXECUTOR", "SUBMITIT_LOCAL_JOB_ID")
STARTERS = ("SLURM_", "TORCHELASTIC_", "RANK")
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train.sh"}
LOCAL = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "31"}


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables of a scheduler's, and no others."""

    def put(**variables):
        for name in [name for name in os.environ if name in VARIABLES or name.startswith(STARTERS)]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    put()
    return put


def write_checkpoint(run, job):
    config = {"method": {"_target_": "x"}}
    checkpoints.save({"state_dict": {}, "job": job, checkpoints.CONFIG_KEY: config}, run / "checkpoints/last.ckpt")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, r"\d{4}-\d\d"),
        (SRUN, "slurm_7_0"),
        (SRUN | {"SLURM_PROCID": "3"}, "slurm_7_0"),
        (SRUN | {"SLURM_JOB_NAME": "bash"}, r"\d{4}-\d\d"),  # typed in a shell of srun's, perhaps twice
        (SRUN | {"SLURM_PTY_PORT": "4"}, r"\d{4}-\d\d"),
        ({"SLURM_JOB_ID": "7"}, r"\d{4}-\d\d"),  # a script, which may start several runs
    ],
)
def test_a_folder_is_named_by_the_clock_or_by_the_step_of_slurm(environment, variables, expected):
    environment(**variables)
    assert re.fullmatch(expected, cluster.started("%Y-%m"))


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        (SRUN, True),
        (SRUN | {"SLURM_PROCID": "1"}, False),
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "1"}, False),
        (SRUN | {"TORCHELASTIC_RUN_ID": "none", "RANK": "8"}, False),  # torchrun, once on each node
    ],
)
def test_one_process_writes_the_files_of_a_run(environment, variables, first):
    environment(**variables)
    assert cluster.is_first_process() == first


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
    assert checkpoints.of_this_job(tmp_path) is None, "nothing was written yet"
    write_checkpoint(tmp_path, written_by)
    assert checkpoints.of_this_job(tmp_path) == (tmp_path / "checkpoints/last.ckpt" if resumes else None)


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


def test_a_process_that_is_no_job_of_its_own_knows_of_none(environment, monkeypatch):
    environment(**SRUN, **LOCAL, PMI_RANK="0")
    apart = cluster.without_job(os.environ)
    assert apart.keys() == os.environ.keys() - SRUN.keys() - LOCAL.keys() - {"PMI_RANK"}
    environment(**{name: value for name, value in apart.items() if name.startswith(STARTERS)})
    assert (cluster.job(), cluster.is_first_process(), cluster.ends_jobs_itself()) == (None, True, False)
