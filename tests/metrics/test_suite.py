import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage import metrics as skimage_metrics

from lit_ghibli.metrics.sliced_wasserstein import SlicedWassersteinDistance
from lit_ghibli.metrics.suite import PAIR_METRICS, SET_METRICS, MetricSuite


def images(count: int, *size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def in_unit_range(batch: torch.Tensor) -> np.ndarray:
    return (batch.double().numpy() + 1) / 2


def skimage_ssim(output: torch.Tensor, target: torch.Tensor) -> float:
    """SSIM of each image by skimage; padded, because skimage leaves out a border of 5 pixels."""
    values = []
    for pair in zip(in_unit_range(output), in_unit_range(target), strict=True):
        padded = [np.pad(image, ((0, 0), (5, 5), (5, 5)), mode="reflect") for image in pair]
        values.append(
            skimage_metrics.structural_similarity(
                *padded,
                channel_axis=0,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )
    return float(np.mean(values))


def test_pair_metrics_match_skimage_over_batches_of_different_sizes():
    batches = [(3, 40, 32), (1, 24, 50)]
    suite = MetricSuite(("mse", "ssim", "psnr"))
    ssim, psnr, squares = [], [], []
    for seed, (count, *size) in enumerate(batches):
        target = images(count, *size, seed=seed)
        output = (target + 0.2 * (seed + 1) * images(count, *size, seed=9)).clamp(-1, 1)
        suite.update_pair(output, target)
        ssim += [skimage_ssim(output[i : i + 1], target[i : i + 1]) for i in range(count)]
        for pair in zip(in_unit_range(output), in_unit_range(target), strict=True):
            psnr.append(skimage_metrics.peak_signal_noise_ratio(*pair, data_range=1.0))
            squares.append((pair[0] - pair[1]).ravel() ** 2)
    values = suite.compute()
    assert list(values) == ["mse", "ssim", "psnr"]
    assert all(type(value) is float for value in values.values())
    assert values["ssim"] == pytest.approx(np.mean(ssim), abs=1e-5)
    assert values["psnr"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert values["mse"] == pytest.approx(np.concatenate(squares).mean(), rel=1e-5)


def test_psnr_is_the_mean_over_images_in_closed_form():
    target = torch.zeros(2, 3, 16, 16)
    output = torch.stack([torch.full((3, 16, 16), 0.2), torch.full((3, 16, 16), 0.02)])
    suite = MetricSuite(("psnr", "mse", "l1"))
    suite.update_pair(output, target)
    # errors of 0.1 and 0.01 on [0, 1]: 20 and 40 dB, where the PSNR of the mean error were 23 dB
    assert suite.compute() == pytest.approx({"psnr": 30.0, "mse": (0.01 + 0.0001) / 2, "l1": 0.055}, rel=1e-4)


def test_perfect_outputs():
    suite = MetricSuite(("ssim", "psnr", "mse"))
    suite.update_pair(images(1, 16, 16), images(1, 16, 16))
    assert suite.compute() == {"ssim": pytest.approx(1.0), "psnr": math.inf, "mse": 0.0}


def test_sets_are_measured_in_the_unit_range_with_the_seed():
    fake, real = images(2, 32, 32), images(3, 32, 32, seed=1)
    suite, metric = MetricSuite(("swd",), seed=4), SlicedWassersteinDistance(seed=4)
    suite.update_fake(fake)
    suite.update_real(real)
    metric.update((fake + 1) / 2, real=False)
    metric.update((real + 1) / 2, real=True)
    assert suite.compute() == {"swd": pytest.approx(float(metric.compute()))}


def test_only_metrics_with_data_are_returned():
    suite = MetricSuite()
    assert suite.compute() == {}
    suite.update_fake(images(1, 16, 16))
    assert suite.compute() == {}
    suite.update_real(images(1, 16, 16))
    assert list(suite.compute()) == ["swd"]
    suite.update_pair(images(1, 16, 16), images(1, 16, 16, seed=1))
    assert list(suite.compute()) == ["ssim", "psnr", "mse", "l1", "swd"]
    suite.reset()
    assert suite.compute() == {}


def test_nothing_enters_a_checkpoint_and_a_parent_module_moves_it():
    parent = torch.nn.ModuleDict({"metrics": MetricSuite()})
    for _ in range(2):
        assert parent.state_dict() == {}
        assert list(parent.parameters()) == []
        parent["metrics"].update_pair(images(1, 16, 16), images(1, 16, 16, seed=1))
        parent["metrics"].update_fake(images(1, 16, 16))
    parent.to("meta")
    moved = parent["metrics"].set_metrics["swd"].fake_patches[0]
    assert moved.device.type == "meta"


def test_autocast_and_gradients_do_not_reach_the_metrics():
    output, target = images(1, 32, 32), images(1, 32, 32, seed=1)
    plain, mixed = MetricSuite(), MetricSuite()
    for suite, enabled in ((plain, False), (mixed, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            suite.update_pair(output.clone().requires_grad_(), target)
            suite.update_fake(output.clone().requires_grad_())
            suite.update_real(target)
            values = suite.compute()
        assert values == pytest.approx(plain.compute(), rel=1e-6)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), TypeError, "output must be floating point"),
        (torch.zeros(3, 16, 16), ValueError, r"output must have shape .* got \(3, 16, 16\)"),
        (torch.full((1, 3, 16, 16), 255.0), ValueError, r"\[-1, 1\], got \[255, 255\]"),
        (torch.full((1, 3, 16, 16), torch.nan), ValueError, "nan"),
        (torch.zeros(2, 3, 16, 16), ValueError, "must have equal shapes"),
    ],
)
def test_wrong_pairs_are_named(output, error, message):
    with pytest.raises(error, match=message):
        MetricSuite().update_pair(output, torch.zeros(1, 3, 16, 16))


def test_too_small_for_ssim_is_named():
    small = torch.zeros(1, 3, 10, 64)
    with pytest.raises(ValueError, match=r"ssim needs images of at least 11 x 11 pixels, got \(10, 64\)"):
        MetricSuite().update_pair(small, small)
    MetricSuite(("mse",)).update_pair(small, small)
    MetricSuite(("ssim",)).update_pair(torch.zeros(1, 3, 11, 11), torch.zeros(1, 3, 11, 11))


def test_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"\['fog'\]; known: \['ssim', 'psnr', 'mse', 'l1', 'swd'\]"):
        MetricSuite(("ssim", "fog"))
    assert MetricSuite(metrics=[]).compute() == {}
    assert not PAIR_METRICS.keys() & SET_METRICS.keys()


PROCESS = """
import json, sys
import torch
from lit_ghibli.metrics.suite import MetricSuite

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
draw = lambda seed: torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
output, target = draw(0), draw(1)
suite, values = MetricSuite(), []
for split in (2, 4):  # halves, then nothing at all for the second process
    part = slice(0, split) if rank == 0 else slice(split, 4)
    if len(output[part]):
        suite.update_pair(output[part], target[part])
        suite.update_fake(output[part])
        suite.update_real(target[part])
    values.append(suite.compute())
    suite.reset()
print(json.dumps(values))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_agree_with_one(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    arguments = [[*command, str(rank), str(tmp_path / "store")] for rank in range(2)]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for line in arguments]
    results = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes]
    assert results[0] == results[1]

    suite = MetricSuite()
    output, target = images(4, 32, 32), images(4, 32, 32, seed=1)
    suite.update_pair(output, target)
    suite.update_fake(output)
    suite.update_real(target)
    single = suite.compute()
    halves, one_sided = results[0]
    assert one_sided == pytest.approx(single, rel=1e-5)
    assert halves.pop("swd") == pytest.approx(single.pop("swd"), rel=0.3)  # other patch positions
    assert halves == pytest.approx(single, rel=1e-5)
