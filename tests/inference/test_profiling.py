import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lit_ghibli.inference import profiling
from lit_ghibli.inference.profiling import count_flops, machine, profile, scenes
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.sizes import translate
from lit_ghibli.networks.unet import UnetGenerator

MIB = 2**20
# Weights of the convolutions for 4 base channels and one block, and the positions that each is applied at in a picture
# of 16x16 pixels: those of the output, of transposed ones those of the input.
LAYERS = {
    "stem": (3 * 4 * 49, 16**2),
    "down1": (4 * 8 * 9, 8**2),
    "down2": (8 * 16 * 9, 4**2),
    "first of the block": (16 * 16 * 9, 4**2),
    "second of the block": (16 * 16 * 9, 4**2),
    "up1": (16 * 8 * 9, 4**2),
    "up2": (8 * 4 * 9, 8**2),
    "head": (4 * 3 * 49, 16**2),
}
BIASES = 4 + 8 + 16 + 16 + 16 + 8 + 4 + 3
FLOPS = 2 * sum(weights * positions for weights, positions in LAYERS.values())
BLOCK = 2 * 2 * 16 * 16 * 9 * 4**2


class Plain(nn.Module):
    """Returns its input after ``work`` with the number of the pass."""

    size_multiple = minimum_size = 1

    def __init__(self, work=lambda number: None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.work, self.passes = work, 0

    def forward(self, images):
        self.work(self.passes)
        self.passes += 1
        return images


def test_parameters_and_operations_of_a_small_generator_by_hand():
    network = ResnetGenerator(base_channels=4, num_blocks=1).eval()
    row = profile(network, scenes(2, 16), warm_up=0, repeats=[1])
    assert row["parameters_m"] * 1e6 == pytest.approx(sum(weights for weights, _ in LAYERS.values()) + BIASES, rel=1e-9)
    assert row["tflop"] * 1e12 == pytest.approx(2 * FLOPS, rel=1e-9), "of two pictures"
    assert row["tflop_per_s"] == pytest.approx(row["tflop"] / row["seconds_1"])
    assert row["nfe"] is None


def test_operations_are_those_of_the_definition_where_our_own_convolutions_do_fewer():
    network = ResnetGenerator(base_channels=32, num_blocks=2).eval()  # 128 channels, as Winograd's needs
    images = scenes(1, 128)
    operations = 49 * (3 * 32 + 32 * 3) * 128**2  # the 7x7 convolutions
    operations += 9 * (32 * 64 * 64**2 + 64 * 128 * 32**2) * 2  # down and, from as many inputs, up
    operations += 9 * 4 * 128 * 128 * 32**2  # two blocks of two
    assert count_flops(network, images) == 2 * operations


@pytest.mark.parametrize(("solver", "steps", "nfe"), [("euler", 1, 1), ("midpoint", 3, 6), ("rk4", 1, 4)])
def test_operations_follow_the_evaluations(solver, steps, nfe):
    network = OdeGenerator(base_channels=4, num_blocks=1, solver=solver, steps=steps).eval()
    row = profile(network, scenes(1, 16), warm_up=0, repeats=[1])
    assert row["nfe"] == nfe
    assert row["tflop"] * 1e12 == pytest.approx(FLOPS + (nfe - 1) * BLOCK, rel=1e-9)
    assert (network.solver, network.steps) == (solver, steps)


def test_operations_of_an_adaptive_solver_are_those_of_the_steps_that_it_took():
    torch.manual_seed(0)
    network = OdeGenerator(base_channels=4, num_blocks=2, solver="dopri5").eval()
    branches = []
    hooks = [block.branch.register_forward_hook(lambda *_: branches.append(1)) for block in network.bottleneck]
    translate(network, scenes(1, 16))
    for hook in hooks:
        hook.remove()
    row = profile(network, scenes(1, 16), warm_up=0, repeats=[1])
    assert row["nfe"] == len(branches) > 2 * 6
    assert row["tflop"] * 1e12 == pytest.approx(FLOPS + (len(branches) - 1) * BLOCK, rel=1e-9)


def test_a_unet_and_sizes_that_need_padding_are_counted():
    network = UnetGenerator(base_channels=4, depth=3).eval()
    assert count_flops(network, torch.zeros(1, 3, 21, 17)) == count_flops(network, torch.zeros(1, 3, 24, 24)) > 0


def test_means_are_of_the_first_passes_after_the_warm_up(monkeypatch):
    now = 0.0

    def work(number):
        nonlocal now
        now += [100.0, 50.0, 1.0, 2.0, 3.0, 10.0, 0.0][number]

    monkeypatch.setattr(profiling, "clock", lambda device: now)
    monkeypatch.setattr(profiling, "count_flops", lambda network, images: 8 * 10**12)
    network = Plain(work)
    row = profile(network, scenes(1, 32), warm_up=2, repeats=[3, 4])
    assert (row["seconds_3"], row["seconds_4"], row["tflop_per_s"]) == (2.0, 4.0, 2.0)
    assert network.passes == 6


def peak_of_a_network_that_needs_64_mib() -> float:
    """For a process of its own, in which nothing large was freed before."""
    network = Plain()
    network.weight = nn.Parameter(torch.ones(4 * MIB))  # of four bytes
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    high, now = (int(status[name].split()[0]) * 1024 for name in ("VmHWM", "VmRSS"))
    network.work = lambda number: torch.ones(high - now + 64 * MIB, dtype=torch.uint8)
    return profile(network, scenes(1, 32), warm_up=0, repeats=[2])["peak_mib"]


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="the resident set is read from /proc")
def test_peak_is_what_the_passes_need_and_the_weights():
    code = "import test_profiling; print('peak', test_profiling.peak_of_a_network_that_needs_64_mib())"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    ).stdout
    assert float(printed.split("peak")[-1]) == pytest.approx(64 + 16, abs=12)


def test_scenes_are_rendered_photographs_of_any_size():
    small, large = scenes(2, 40), scenes(1, 600)
    assert small.shape == (2, 3, 40, 40)
    assert large.shape == (1, 3, 600, 600)
    assert -1 <= small.min() < -0.2 < 0.2 < small.max() <= 1
    assert not torch.equal(small[0], small[1])


def test_the_machine_is_described():
    described = machine(torch.device("cpu"))
    assert described["threads"] == torch.get_num_threads()
    assert described["torch"] == torch.__version__
    if Path("/proc/cpuinfo").is_file() and "model name" in Path("/proc/cpuinfo").read_text():
        assert f": {described['device']}\n" in Path("/proc/cpuinfo").read_text()
