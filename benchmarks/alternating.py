"""What the comparisons with other code share: two sides alternated in one process, peaks of one process each, a table.

Only the imports of the two sides differ, so that a busy machine disturbs both alike.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Protocol

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

SIDES = ("ours", "peer")
MIB = 2**20
REST = 0.1  # seconds before each pass: threads of ONNX Runtime go on for a while after theirs, looking for work
Batch = dict[str, Tensor]


class Peer(Protocol):
    """Another training code."""

    def step(self, *pictures: Tensor) -> None:
        """One training step with the pictures of a batch."""


class _Pictures(lightning.LightningDataModule):
    """Given batches, once."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)

    def training_crops(self, key: str, count: int) -> list[Tensor]:
        return [batch[key] for batch in self.batches[:count]]


def fit(
    method: lightning.LightningModule, batches: list[Batch], args: argparse.Namespace, callbacks: list[Callback]
) -> None:
    """Train our method with a Lightning Trainer that does nothing else."""
    if args.compile:
        for network in method.networks().values():
            network.compile()
    trainer = lightning.Trainer(
        accelerator=args.device, devices=1, precision=args.precision, max_epochs=1, callbacks=callbacks, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(method, datamodule=_Pictures(batches))


# ---- time -------------------------------------------------------------------------------------------------


def clock(args: argparse.Namespace) -> float:
    """Seconds, once the device has done all that it was asked to."""
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if args.clock == "cpu" else time.perf_counter()


def timed(function: Callable[[], object], args: argparse.Namespace) -> float:
    """Seconds that one call takes."""
    start = clock(args)
    function()
    return clock(args) - start


def time_networks(networks: dict[str, nn.Module], photo: Tensor, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per forward pass of both sides, alternated."""
    ours_in = torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16-mixed")
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for repeat in range(args.repeats + 1):
        for side, network in networks.items():
            time.sleep(REST)
            with torch.inference_mode(), ours_in if side == "ours" else torch.inference_mode():
                elapsed = timed(partial(network, photo), args)
            if repeat:  # the first pass of each warms up
                seconds[side].append(elapsed)
    return seconds


class _Alternate(Callback):
    """Times our steps, and between any two of them one of the peer's on the same pictures."""

    def __init__(self, peer: Peer, args: argparse.Namespace) -> None:
        self.peer, self.args = peer, args
        self.seconds: dict[str, list[float]] = {side: [] for side in SIDES}

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Start our clock."""
        self.start = clock(self.args)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: nn.Module, outputs: object, batch: Batch, index: int
    ) -> None:
        """Stop our clock, and time the peer."""
        ours = clock(self.args) - self.start
        peer = timed(partial(self.peer.step, *batch.values()), self.args)
        if index:  # the first step of each warms up
            self.seconds["ours"].append(ours)
            self.seconds["peer"].append(peer)


def time_training(
    method: lightning.LightningModule, peer: Peer, batches: list[Batch], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds per training step of both sides, alternated; the first batch warms up."""
    alternate = _Alternate(peer, args)
    fit(method, batches, args, [alternate])
    return alternate.seconds


# ---- memory -----------------------------------------------------------------------------------------------


def peak_bytes(device: str) -> int:
    """High-water mark so far: of the device's tensors, or of this process's resident set (Linux)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Not getrusage: the maximum that it gives survives exec, and so includes the parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def measure_memory(arguments: list[str], workload: list[str]) -> dict[str, list[float]]:
    """Peak MiB of both sides, each in a process of its own, which prints ``peak`` and bytes.

    Args:
        arguments: Of this program's command line.
        workload: What follows ``--one-side SIDE``.
    """
    # What is freed goes back to the system: else the peak depends on which holes malloc happens to keep.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MIB)}
    peaks = {}
    for side in SIDES:
        command = [sys.executable, sys.argv[0], *arguments, "--one-side", side, *workload]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        peaks[side] = [int(printed.split("peak")[-1]) / MIB]
    return peaks


# ---- the command line and the table -----------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that all comparisons have."""
    parser.add_argument("--repeats", type=int, default=5, help="of each side, after one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: processor seconds, for a busy machine, with --threads 1 --device cpu")  # fmt: skip
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true", help="of our side")
    parser.add_argument("--compile", action="store_true", help="our networks")
    parser.add_argument("--one-side", nargs="+", help=argparse.SUPPRESS)


def print_table(measurements: Iterable[tuple[str, str, dict[str, list[float]]]]) -> None:
    """Print a Markdown table of names, units and both sides' values, line by line as they are measured."""
    print("| workload | unit | ours: median (least) | peer: median (least) | ratio of medians |")
    print("|---|---|---|---|---|")
    for name, unit, values in measurements:
        ours, peer = (values[side] for side in SIDES)
        digits = 0 if unit == "MiB" else 3
        cells = [f"{median(side):.{digits}f} ({min(side):.{digits}f})" for side in (ours, peer)]
        print(f"| {name} | {unit} | {cells[0]} | {cells[1]} | {median(ours) / median(peer):.2f} |", flush=True)
