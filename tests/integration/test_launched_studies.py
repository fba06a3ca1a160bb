"""Studies whose cells are jobs, while programs, jobs and nodes die: no cell is lost, none is done twice."""

import json
import re
import sys

import pytest
import torch
from helpers import slurm

from lit_ghibli import checkpoints
from lit_ghibli.locks import is_free

pytestmark = pytest.mark.slow

LOCAL = ["launcher=local", "launcher.gpus=0"]
SLURM = ["launcher=slurm", "launcher.gpus=0"]
# Of the training that acts: itself, its job and, on this machine, submitit's watcher of that; and the sweep.
KNOWN = """
training=$PPID
job=$(ps -o ppid= $training)
watcher=$(ps -o ppid= $job)
sweep=$(sed -n 's/.*"process": \\([0-9]*\\).*/\\1/p' outputs/mine/sweep.lock)
"""
PROGRAM = f'"{sys.executable}" "{slurm.__file__}"'


@pytest.fixture
def study(tmp_path, tiny):
    """Makes a study whose first training does something, in the second of two epochs."""

    def make(act, shape):
        common = [*tiny, "method.epochs=2", "callbacks.checkpoints.every_n_batches=2"]
        common.append("+callbacks.act={_target_: helpers.act_once.ActOnce, batch: 10}")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "study.yaml").write_text(
            f"common: {json.dumps(common)}\n{shape}\nmetrics: {{val/swd: min}}\n"
        )
        (tmp_path / "act").write_text(KNOWN + act)
        return tmp_path

    return make


@pytest.fixture
def sweep(tmp_path, cli):
    (folder := tmp_path / "slurm").mkdir()
    environment = slurm.install(folder)
    return lambda *words: cli("sweep", "mine", "trust=true", *words, cwd=tmp_path, **environment)


def state_of(folder):
    return checkpoints.load(next((folder / "outputs/mine/cells").glob("cycle-5_*")) / "checkpoints/last.ckpt")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny, cli):
    """The weights of the first cell's training."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = cli("train", *tiny, "method.epochs=2", "method.weights.cycle=5", "hydra.run.dir=run", cwd=folder)
    assert run.returncode == 0, run.stderr
    return checkpoints.load(folder / "run/checkpoints/last.ckpt")["state_dict"]


GRID = "grid: {method.weights.cycle: [5, 10]}"
AGAIN = "is submitted again"


@pytest.mark.parametrize(
    ("words", "cycle", "act", "status", "said", "trainings"),
    [
        (LOCAL, [5], "kill -9 $watcher $job", 0, AGAIN, 2),  # the training goes on, is waited for, and found finished
        (LOCAL, [5, 10], "kill -9 $sweep", -9, "local", 2),
        (LOCAL, [5], "kill -9 $sweep $watcher $job $training", -9, "local", 2),
        (LOCAL, [5, 10], "kill -INT $sweep", 1, "stopped, 0 of 2 done, 1 interrupted, 1 waiting", 3),
        ([*SLURM, "jobs=2"], [5, 10], "kill -9 $sweep", -9, "slurm 4711_1", 2),
        ([*SLURM, "jobs=2"], [5, 10], "kill -INT $sweep", 1, "stopped, 0 of 2 done, 2 interrupted", 4),
        (SLURM, [5], f"{PROGRAM} preempt 4711", 0, "", 2),
        (SLURM, [5], f"{PROGRAM} fail_node 4711", 0, AGAIN, 2),
        (SLURM, [5], "kill -USR2 $job", 0, "", 2),
    ],
)
def test_whatever_dies_each_cell_is_done_once(study, sweep, undisturbed, words, cycle, act, status, said, trainings):
    folder = study(act, f"grid: {{method.weights.cycle: {cycle}}}")
    first = sweep(*words)
    assert first.returncode == status, first.stdout + first.stderr
    assert said in first.stdout + first.stderr
    if status == 1:
        assert all(map(is_free, folder.rglob("*.lock"))), "nothing is left that runs"
    if status:
        again = sweep(*words)
        assert again.returncode == 0, again.stdout + again.stderr
    ledger = json.loads((folder / "outputs/mine/ledger.json").read_text())["cells"]
    assert [cell["state"] for cell in ledger.values()] == ["done"] * len(cycle)
    logs = [path.read_text() for path in sorted(folder.glob("outputs/mine/cells/*/cell.log"))]
    assert sum(log.count("$ lit-ghibli train") for log in logs) == trainings
    for epoch in ("epoch 1/2 ", "epoch 2/2 "):
        assert [log.count(epoch) for log in logs] == [1] * len(cycle), "nothing is trained twice"
    ours = state_of(folder)["state_dict"]
    assert all(torch.equal(value, undisturbed[name]) for name, value in ours.items())
    if "launcher=slurm" in words:
        assert {path.read_text() for path in folder.glob("slurm/job_*/state")} <= {"COMPLETED", "CANCELLED", "FAILED"}


def test_a_second_sweep_is_refused_and_anybody_may_ask_how_far_it_is(study, sweep):
    program = f'"{sys.executable}" -m lit_ghibli sweep mine trust=true'
    folder = study(f"{program} {' '.join(LOCAL)} > second 2>&1\n{program} --status > status 2>&1", GRID)
    done = sweep(*LOCAL)
    assert done.returncode == 0, done.stderr
    assert re.search(
        "another `lit-ghibli sweep` is at work here, process .* with --status", (folder / "second").read_text()
    )
    status = (folder / "status").read_text()
    assert re.search(r"cycle=5, seed=0 +\| running +\| local \d+ .*epoch 1/2", status)
    assert "sweeps here: process" in status
    assert "0 of 2 done, 1 running, 1 waiting" in status
    assert "2 of 2 done" in sweep("--status").stdout


def test_a_search_goes_on_with_trials_that_a_killed_program_has_launched(study, sweep):
    space = "{method.weights.cycle: {low: 1.0, high: 9.0}}"
    folder = study("kill -9 $sweep", f"search: {{trials: 3, space: {space}, sampler: {{name: random}}}}")
    assert sweep(*LOCAL, "jobs=2").returncode == -9
    again = sweep(*LOCAL, "jobs=2")
    assert again.returncode == 0, again.stdout + again.stderr
    ledger = json.loads((folder / "outputs/mine/ledger.json").read_text())["cells"]
    assert [cell["state"] for cell in ledger.values()] == ["done"] * 3
    logs = [path.read_text() for path in folder.glob("outputs/mine/cells/*/cell.log")]
    assert [log.count("$ lit-ghibli train") for log in logs] == [1, 1, 1]
