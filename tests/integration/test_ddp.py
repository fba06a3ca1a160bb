"""Two processes with one picture each learn what one process with both pictures learns, whoever starts them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lit_ghibli import checkpoints
from lit_ghibli.files import config_dir
from lit_ghibli.reports.tables import last_values

RECIPE = ["data.count=6", "method.epochs=1", "trainer.precision=64-true"]
RECIPE += ["data.test_count=3"]  # which two processes cannot share out evenly
RECIPE += ["callbacks.ema.decay=0.9"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
RECIPE_OF_TWO = ["method.epochs=1", "data.batch_size=1"]


def with_sgd(method: str) -> list[str]:
    """SGD in place of a method's optimisers: weights then differ as much as gradients do, which Adam would rescale."""
    names = [
        name
        for name in yaml.safe_load(Path(config_dir(), "method", f"{method}.yaml").read_text())
        if name.startswith("optimizer")
    ]
    names = names or ["optimizer_g", "optimizer_d"]
    words = [(f"method.{name}._target_=torch.optim.SGD", f"method.{name}.lr=0.001") for name in names]
    gone = [(f"~method.{name}.betas", f"~method.{name}.fused") for name in names]
    return [word for pair in (*words, *gone) for word in pair]


@pytest.mark.trains
@pytest.mark.ddp
def test_two_processes_equal_one_with_the_doubled_batch(
    tmp_path, translates, any_method, tiny_of_any_method, same_on_all_ranks, cli
):
    if not translates:
        pytest.skip("makes one picture, which cannot be shared out")
    recipe = [*without_trainer(tiny_of_any_method), *same_on_all_ranks, *RECIPE, *with_sgd(any_method)]
    one = cli("train", *recipe, "trainer=cpu", "data.batch_size=2", "hydra.run.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = cli("train", *recipe, *TWO, "data.batch_size=1", "hydra.run.dir=two", cwd=tmp_path)
    assert two.returncode == 0, two.stderr

    ours, theirs = (checkpoints.load(tmp_path / run / "checkpoints/last.ckpt") for run in ("two", "one"))
    assert len(ours["ranks"]) == 2
    assert theirs["ema"]
    for key in ("state_dict", "ema"):
        for name, weight in theirs[key].items():
            torch.testing.assert_close(ours[key][name], weight, rtol=0, atol=1e-10)
    # Of arbitrary stylisation none does, but the mean of the styles that were seen.
    ends = ("layers.0.bias", "generator.last.bias", "depthwise.convolution.bias", "generator.style")
    biases = [value for name, value in theirs["state_dict"].items() if name.endswith(ends)]
    assert max(bias.abs().max() for bias in biases) > 1e-5, (
        "biases start at zero: nothing was learned, so equality says nothing"
    )
    # One folder, one log, whatever the number of processes.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert files(tmp_path / "two") == files(tmp_path / "one")
    values = [
        {name: value for name, value in last_values(tmp_path / run / "metrics.csv").items() if name.startswith("val/")}
        for run in ("one", "two")
    ]
    assert values[0].keys() >= {f"val/{name}" for name in ("ssim", "psnr", "mse", "l1", "swd")}
    assert values[1] == pytest.approx(values[0], rel=5e-4)  # a pixel may be rounded to another level


@pytest.mark.trains
@pytest.mark.ddp
def test_one_picture_is_refused_by_two_processes(tmp_path, translates, tiny_of_any_method, cli):
    if translates:
        pytest.skip("shares its batches out")
    result = cli("train", *tiny_of_any_method, "method.epochs=1", *TWO, "hydra.run.dir=two", cwd=tmp_path)
    assert result.returncode == 1
    assert "one picture cannot be shared out among 2 processes: use trainer.devices=1" in result.stderr
    assert not list(tmp_path.glob("two/frames/*"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, tiny, cli):
    """Folder of two runs of a sweep, in two processes each."""
    folder = tmp_path_factory.mktemp("sweep")
    numbers = ["seed=3,4", "hydra.sweep.dir=sweep", "optimized_metric=val/ssim"]
    result = cli("train", "-m", *without_trainer(tiny), *TWO, *RECIPE_OF_TWO, *numbers, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
@pytest.mark.ddp
def test_each_run_of_a_sweep_has_its_own_two_processes(sweep):
    assert [path.name for path in sweep.iterdir()] == ["sweep"]
    assert sorted(path.name for path in (sweep / "sweep").iterdir()) == ["0", "1", "multirun.yaml"]
    states = []
    for number, seed in enumerate((3, 4)):
        run = sweep / "sweep" / str(number)
        assert yaml.safe_load((run / ".hydra/config.yaml").read_text())["seed"] == seed
        checkpoint = checkpoints.load(run / "checkpoints/last.ckpt")
        assert len(checkpoint["ranks"]) == 2
        assert checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 3
        states.append(checkpoint["state_dict"])
    assert not all(torch.equal(states[0][name], value) for name, value in states[1].items())


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("starter", ["lightning", "torchrun"])
def test_a_run_of_a_sweep_equals_a_run_by_itself(sweep, tmp_path, tiny, cli, starter):
    arguments = ["train", *without_trainer(tiny), *TWO, *RECIPE_OF_TWO, "seed=4"]
    result = (cli if starter == "lightning" else torchrun)(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    # torchrun's processes read the clock for themselves, seconds apart: there is one folder all the same.
    (run,) = (tmp_path / "outputs").iterdir()
    assert files(run) == files(sweep / "sweep" / "1")
    ours, theirs = (checkpoints.load(folder / "checkpoints/last.ckpt") for folder in (run, sweep / "sweep/1"))
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())


def torchrun(*arguments, cwd):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "lit_ghibli"]
    return subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def files(run):
    return {str(path.relative_to(run)) for path in run.rglob("*")}


def without_trainer(overrides):
    return [override for override in overrides if not override.startswith("trainer=")]
