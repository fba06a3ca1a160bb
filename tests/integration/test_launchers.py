"""A run that a launcher of conf/launcher starts, and that is interrupted and started again, ends with the same bits."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import slurm

from lit_ghibli import checkpoints

TESTS = Path(__file__).parents[1]
RECIPE = ["method.epochs=1", "callbacks.checkpoints.every_n_batches=100", "hydra.sweep.dir=sweep"]
WHEN = "hook: on_train_batch_start, number: {number}, batch: {batch}"


def kill(number: signal.Signals, *batches: int) -> list[str]:
    settings = WHEN.format(number=int(number), batch=batches[0])
    return [
        f"+callbacks.kill={{_target_: helpers.kill.KillAt, {settings}}}",
        f"callbacks.kill.batch={','.join(map(str, batches))}",
    ]


def assert_same_weights(ours, theirs):
    a, b = (checkpoints.load(run / "checkpoints/last.ckpt") for run in (ours, theirs))
    assert a["epoch"] == b["epoch"] == 0
    assert a["state_dict"].keys() == b["state_dict"].keys()
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())


def output_of(sweep):
    return "".join(path.read_text() for path in sorted(sweep.glob(".submitit/*/*_0_log.out")))


@pytest.mark.slow
def test_preempted_and_requeued_equals_undisturbed(tmp_path, tiny, cli):
    job = ["train", *tiny, *RECIPE, *kill(signal.SIGUSR2, 5)]
    result = cli(*job, "launcher=local", "launcher.gpus=0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    undisturbed = cli(*job, "callbacks.kill.batch=99", "hydra.run.dir=undisturbed", cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr
    sweep = tmp_path / "sweep"
    assert sorted(path.name for path in sweep.iterdir()) == [".submitit", "0", "multirun.yaml"]
    output = output_of(sweep)
    assert len(re.findall("; the job is requeued", output)) == 1
    assert "7 iterations in 1 epochs, 5 of them done" in output
    assert_same_weights(sweep / "0", tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.ddp
def test_a_job_of_two_processes_is_requeued(tmp_path, tiny, cli):
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=1"]
    recipe = [override for override in tiny if not override.startswith("trainer=")]
    result = cli(
        "train", *recipe, *RECIPE, *two, "launcher=local", "launcher.gpus=0", *kill(signal.SIGUSR2, 2, 99), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    sweep = tmp_path / "sweep"
    assert "CycleGAN on 2 x cpu" in output_of(sweep)
    assert len(re.findall("; the job is requeued", output_of(sweep))) == 1
    assert_same_weights(sweep / "0", sweep / "1")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, tiny, cli):
    """Overrides for two processes, and the folder of a run with them that nothing interrupts."""
    recipe = [override for override in tiny if not override.startswith("trainer=")]
    recipe += ["method.epochs=1", "trainer.accelerator=cpu", "data.batch_size=1", *kill(signal.SIGUSR2, 99)]
    folder = tmp_path_factory.mktemp("straight")
    result = cli("train", *recipe, "trainer=ddp", "trainer.devices=2", "hydra.run.dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return recipe, folder / "run"


@pytest.fixture
def programs(tmp_path):
    """A folder with a stand-in for SLURM, and the environment that finds it."""
    (folder := tmp_path / "slurm").mkdir()
    return folder, slurm.install(folder)


@pytest.mark.slow
@pytest.mark.ddp
def test_two_tasks_of_slurm_are_requeued(tmp_path, two_ranks, programs, cli):
    recipe, straight = two_ranks
    node = ["launcher=slurm_node", "launcher.processes=2", "launcher.gpus=0", "launcher.partition=any"]
    arguments = [*recipe, *node, "callbacks.kill.batch=2", "hydra.sweep.dir=sweep"]
    result = cli("train", *arguments, cwd=tmp_path, **programs[1])
    assert result.returncode == 0, result.stderr
    flags = {"nodes": 1, "ntasks-per-node": 2, "mem": "256GB", "time": 1440, "partition": "any", "signal": "USR2@120"}
    script = (programs[0] / "script").read_text().splitlines()
    assert {f"#SBATCH --{name}={value}" for name, value in flags.items()} <= set(script)
    output = output_of(tmp_path / "sweep")
    assert len(re.findall("; the job is requeued", output)) == 1
    assert "3 iterations in 1 epochs, 2 of them done" in output
    assert_same_weights(tmp_path / "sweep/0", straight)


@pytest.mark.slow
@pytest.mark.ddp
def test_a_script_with_srun_is_requeued_into_the_same_folder(tmp_path, two_ranks, programs):
    recipe, straight = two_ranks
    train = [*recipe, "trainer=ddp", "trainer.devices=2", "callbacks.kill.batch=2", "optimized_metric=val/ssim"]
    train.append(f"callbacks.kill.number={int(signal.SIGUSR1)}")
    command = shlex.join(["srun", sys.executable, "-m", "lit_ghibli", "train", *train])
    (script := tmp_path / "script.sh").write_text(f"#!/bin/bash\n#SBATCH --ntasks-per-node=2\n{command}\n")
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **programs[1]}
    job = [sys.executable, slurm.__file__, "batch", str(script)]
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(job, check=False, **options)
    assert len(re.findall("; the job is requeued", done.stdout)) == 1, done.stderr
    assert [run.name for run in (tmp_path / "outputs").iterdir()] == [f"cyclegan_slurm_{slurm.JOB}_0"]
    assert_same_weights(tmp_path / f"outputs/cyclegan_slurm_{slurm.JOB}_0", straight)

    # A node that fails when the run is over: nothing is trained once more, and a sweeper gets its number.
    last = tmp_path / f"outputs/cyclegan_slurm_{slurm.JOB}_0/checkpoints/last.ckpt"
    before = last.stat().st_mtime_ns
    environment["SLURM_RESTART_COUNT"] = "2"
    again = subprocess.run(job, check=False, **options)
    assert "nothing was left to train: " in again.stdout
    assert "epoch 1/1" not in again.stdout
    assert "not logged" not in again.stderr
    assert last.stat().st_mtime_ns == before
