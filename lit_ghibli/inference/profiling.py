"""What a forward pass costs: time, memory, parameters and operations, as in table 6.2 of Santoso et al. 2024."""

import copy
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lit_ghibli.images import from_picture
from lit_ghibli.networks.sizes import translate
from lit_ghibli.scenes.scene import render_pair

_MIB = 2**20
_SCENE_SIZE = 256  # pixels


def profile(network: nn.Module, images: Tensor, *, warm_up: int, repeats: Sequence[int]) -> dict[str, Any]:
    """What translating images costs.

    Args:
        network: Generator in eval mode, on the images' device.
        images: ``(N, 3, H, W)`` in ``[-1, 1]``.
        warm_up: First passes, which are not timed.
        repeats: Numbers of passes to take the mean time of.

    Returns:
        - ``seconds_<n>``: mean time of the first n passes after the warm-up.
        - ``peak_mib``: memory of the weights and of what the passes need besides, at its peak. On a GPU, torch's
          allocations. On the CPU, by how much the passes raise the high-water mark of the whole process: right only
          for the first call in a process that has done nothing large before, and None where there is no Linux.
        - ``parameters_m``: millions of parameters.
        - ``tflop``: `count_flops` of one pass, in 10**12; None of what has no parameters, whose work is all arithmetic
          that does not count.
        - ``tflop_per_s``: that over the mean time of most passes. Our quicker convolutions reach the result in fewer
          operations than the definition's, so that this can exceed what the processor is capable of.
        - ``nfe``: number of evaluations of the ODE's vector field in a pass; None without one.
    """
    weights = list(network.state_dict().values())
    for tensor in weights:
        tensor.sum()  # of a mapped file they are read now, and not in the passes
    if images.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(images.device)
    before = high_water(images.device)
    seconds = _time_passes(network, images, warm_up, max(repeats))
    after = high_water(images.device)  # before the operations are counted, which needs memory too
    tflop = count_flops(network, images) / 1e12 if weights else None
    return {
        **{f"seconds_{count}": mean(seconds[:count]) for count in repeats},
        "peak_mib": None if before is None else (after - before + sum(tensor.nbytes for tensor in weights)) / _MIB,
        "parameters_m": sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        "tflop": tflop,
        "tflop_per_s": tflop and tflop / mean(seconds),
        "nfe": getattr(network, "nfe", None),
    }


def count_flops(network: nn.Module, images: Tensor) -> int:
    """Floating-point operations of one translation by the definitions of convolution and matrix product.

    A product and its sum are two operations; normalisation, activations and a solver's own arithmetic count nothing.
    They are counted on tensors without values, in float64, in which our quicker convolutions, which need fewer
    operations, give way to PyTorch's. An adaptive solver cannot run on these, since its steps depend on values. But all
    evaluations of the ODEs cost the same: two counts with known numbers of them give the count for any number.

    Args:
        network: Generator; it is copied. One with ODE blocks is taken to evaluate as often as in its last pass.
        images: ``(N, 3, H, W)``; only their shape matters.
    """
    skeleton = copy.deepcopy(network).to("cpu", torch.float64)
    nfe = getattr(network, "nfe", None)
    if nfe is None:
        return _count_pass(skeleton, images.shape)
    counts = {}
    for steps in (1, 2):
        skeleton.set_solver("euler", steps)
        flops = _count_pass(skeleton, images.shape)
        counts[skeleton.nfe] = flops
    (few, least), (many, most) = counts.items()
    return least + (most - least) // (many - few) * (nfe - few)


def _count_pass(skeleton: nn.Module, shape: torch.Size) -> int:
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        translate(skeleton, torch.empty(shape, dtype=torch.float64))
    return counter.get_total_flops()


def scenes(count: int, size: int) -> Tensor:
    """Rendered photographs ``(count, 3, size, size)`` in ``[-1, 1]``: an adaptive solver's steps depend on them."""
    photos = torch.cat([from_picture(render_pair(0, index, _SCENE_SIZE)[0]) for index in range(count)]).contiguous()
    return F.interpolate(photos, size=(size, size), mode="bilinear", align_corners=False)


def machine(device: torch.device) -> dict[str, Any]:
    """What a measurement was taken on: ``device``, ``threads`` of torch on a CPU, and torch's version."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "threads": None, "torch": torch.__version__}
    return {"device": _processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def _time_passes(network: nn.Module, images: Tensor, warm_up: int, count: int) -> list[float]:
    """Seconds of each of ``count`` passes after ``warm_up`` others."""
    seconds = []
    # Drawn between the passes: a thread that draws would take time from them.
    progress = {"console": Console(stderr=True), "auto_refresh": False}
    for _ in track(range(warm_up + count), description="Translating", **progress):
        started = clock(images.device)
        translate(network, images)
        seconds.append(clock(images.device) - started)
    return seconds[warm_up:]


def clock(device: torch.device) -> float:
    """Seconds on a monotonic clock, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def high_water(device: torch.device) -> int | None:
    """Most memory in use so far, in bytes: torch's on a GPU, else the process's resident set, known on Linux."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Not getrusage: the maximum that it gives survives exec, and so includes the parent's.
    kibibytes = _proc("/proc/self/status", "VmHWM")
    return int(kibibytes.split()[0]) * 1024 if kibibytes else None


def _processor() -> str:
    return _proc("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _proc(path: str, key: str) -> str | None:
    """The first value of a key in a file of Linux's /proc; None where there is none."""
    if not Path(path).is_file():
        return None
    lines = (line.partition(":") for line in Path(path).read_text(encoding="utf-8").splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), None)
