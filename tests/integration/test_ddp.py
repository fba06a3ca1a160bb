"""Two processes with one picture each learn what one process with both pictures learns."""

import csv

import pytest
import torch

from lit_ghibli import checkpoints

# SGD: weights then differ as much as gradients do, which Adam would rescale.
RECIPE = ["data.count=6", "method.epochs=1", "trainer.precision=64-true"]
# What each rank has or draws for itself: pools, noise, statistics of its batch.
WITHOUT_RANKS = {
    "cyclegan": ["method.pool_size=0"],
    "pix2pix": [
        "method.generator.dropout=0",
        "method.generator.norm=instance",
        "method.discriminator.norm=instance",
    ],
    "nijigan": ["method.num_patches=784"],  # all locations of 28x28 pixels, in whatever order
}
for name in ("optimizer_g", "optimizer_d"):
    RECIPE += [f"method.{name}._target_=torch.optim.SGD", f"method.{name}.lr=0.001"]
    RECIPE += [f"~method.{name}.betas", f"~method.{name}.fused"]


@pytest.mark.ddp
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path, any_method, translates, tiny_of_any_method, cli):
    if not translates:
        pytest.skip("makes one picture, which cannot be shared out")
    tiny = [argument for argument in tiny_of_any_method if argument != "trainer=cpu"]
    recipe = [*tiny, *WITHOUT_RANKS[any_method], *RECIPE]
    one = cli("train", *recipe, "trainer=cpu", "data.batch_size=2", "hydra.run.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = cli(
        "train",
        *recipe,
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "data.batch_size=1",
        "hydra.run.dir=two",
        cwd=tmp_path,
    )
    assert two.returncode == 0, two.stderr

    ours, theirs = (checkpoints.load(tmp_path / run / "checkpoints/last.ckpt") for run in ("two", "one"))
    assert len(ours["ranks"]) == 2
    for name, weight in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], weight, rtol=0, atol=1e-10)
    biases = [value for name, value in theirs["state_dict"].items() if name.endswith("layers.0.bias")]
    assert max(bias.abs().max() for bias in biases) > 5e-5, (
        "biases start at zero: nothing was learned, so equality says nothing"
    )
    # One folder, one log, whatever the number of processes.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    for metric in ("val/ssim", "val/psnr"):
        assert read_last(tmp_path / "two", metric) == pytest.approx(read_last(tmp_path / "one", metric), rel=1e-4)


@pytest.mark.ddp
def test_one_picture_is_refused_by_two_processes(tmp_path, translates, tiny_of_any_method, cli):
    if translates:
        pytest.skip("shares its batches out")
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    result = cli("train", *tiny_of_any_method, "method.epochs=1", *two, "hydra.run.dir=two", cwd=tmp_path)
    assert result.returncode == 1
    assert "one picture cannot be shared out among 2 processes: use trainer.devices=1" in result.stderr
    assert not list(tmp_path.glob("two/frames/*"))


def read_last(run, metric):
    with open(run / "metrics.csv", newline="") as file:
        return float([row[metric] for row in csv.DictReader(file) if row[metric]][-1])
