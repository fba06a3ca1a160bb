"""A run that was killed and resumed ends with the same bits as one that was not."""

import csv
import signal
from pathlib import Path

import pytest
import torch

from lit_ghibli import checkpoints

pytestmark = pytest.mark.trains
RECIPE = ["method.epochs=3", "trainer.log_every_n_steps=1", "callbacks.checkpoints.every_n_batches=2"]


def flatten(value, prefix=""):
    """Leaves of nested dicts and lists by path."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {prefix: value}
    return {path: leaf for key, child in items for path, leaf in flatten(child, f"{prefix}/{key}").items()}


def assert_same_state(ours: Path, theirs: Path):
    a, b = (checkpoints.load(run / "checkpoints" / "last.ckpt") for run in (ours, theirs))
    assert a["epoch"] == b["epoch"]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "ranks", "ema"):
        left, right = (flatten(each.get(key)) for each in (a, b))  # no average of a single picture
        assert left.keys() == right.keys()
        for name, value in left.items():
            same = torch.equal(value, right[name]) if isinstance(value, torch.Tensor) else value == right[name]
            assert same, f"{key}{name} differs"


def losses(run: Path) -> dict[str, dict[str, str]]:
    """Training losses by step, as logged."""
    with open(run / "metrics.csv", newline="") as file:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    found = {
        row["step"]: {key: value for key, value in row.items() if key.startswith("train/") and "wait" not in key}
        for row in rows
    }
    assert any(found.values())
    return found


@pytest.fixture(scope="module")
def train(tiny_of_any_method, schedule_of_any_method, translates):
    """Arguments of three epochs of seven batches each."""
    average = ["callbacks.ema.decay=0.9"] if translates else []
    return ["train", *tiny_of_any_method, *schedule_of_any_method, *average, *RECIPE, "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, train, cli):
    folder = tmp_path_factory.mktemp("straight")
    result = cli(*train, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


@pytest.mark.parametrize(
    ("batch", "hook"),
    [
        (5, "on_before_optimizer_step"),  # in the middle of a step, one after a checkpoint
        # between the last step of an epoch and its checkpoint
        pytest.param(14, "on_train_epoch_end", marks=pytest.mark.slow),
        # right after an epoch's checkpoint
        pytest.param(15, "on_train_batch_start", marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_equals_straight(straight, tmp_path, train, cli, batch, hook):
    kill = f"+callbacks.kill={{_target_: helpers.kill.KillAt, batch: {batch}, hook: {hook}}}"

    killed = cli(*train, kill, cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list((tmp_path / "run").glob("**/epoch_0003.ckpt"))

    resumed = cli("train", "resume=run", "callbacks.kill.batch=-1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_state(tmp_path / "run", straight)
    assert losses(tmp_path / "run") == losses(straight)


@pytest.mark.slow
def test_interrupt_finishes_the_step_and_resumes(straight, tmp_path, train, cli):
    when = f"batch: 5, hook: on_train_batch_start, number: {int(signal.SIGTERM)}"
    stop = f"+callbacks.kill={{_target_: helpers.kill.KillAt, {when}}}"

    stopped = cli(*train, stop, cwd=tmp_path)
    assert stopped.returncode == 1
    assert "resume=" in stopped.stdout
    assert (
        checkpoints.load(tmp_path / "run/checkpoints/last.ckpt")["loops"]["fit_loop"]["epoch_loop.batch_progress"][
            "total"
        ]["ready"]
        == 5
    )

    resumed = cli("train", "resume=run", "callbacks.kill.batch=-1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_state(tmp_path / "run", straight)
