"""Time and memory of lit_ghibli against the authors' CycleGAN, pix2pix and Scenimefy code, alternated in one run.

See README.md beside this file for what is measured and how to read it.
"""

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import lightning
import torch
from contests import METHODS, images, our_generator, peer_generator
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

SIDES = ("ours", "peer")
MIB = 2**20


def fit_ours(name: str, args: argparse.Namespace, steps: int, callbacks: list[Callback]) -> None:
    """Train our method on random pictures with a Lightning Trainer that does nothing else."""
    method = METHODS[name].ours()
    if args.compile:
        for network in method.networks().values():
            network.compile()
    batches = [{key: images(256, "cpu")[0] for key in METHODS[name].keys} for _ in range(steps)]
    trainer = lightning.Trainer(
        accelerator=args.device, devices=1, precision=args.precision, max_epochs=1, callbacks=callbacks, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(method, DataLoader(batches))


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


def time_inference(args: argparse.Namespace, size: int, blocks: int) -> dict[str, list[float]]:
    """Seconds per forward pass of both sides, alternated."""
    photo = images(size, args.device)
    generators = {"ours": our_generator(blocks, args), "peer": peer_generator(blocks, args)}
    ours_in = torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16-mixed")
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for repeat in range(args.repeats + 1):
        for side, generator in generators.items():
            with torch.inference_mode(), ours_in if side == "ours" else torch.inference_mode():
                elapsed = timed(partial(generator, photo), args)
            if repeat:  # the first pass of each warms up
                seconds[side].append(elapsed)
    return seconds


class Alternate(Callback):
    """Times our steps, and between any two of them one of the peer's on the same pictures."""

    def __init__(self, peer: object, args: argparse.Namespace) -> None:
        self.peer, self.args = peer, args
        self.seconds: dict[str, list[float]] = {side: [] for side in SIDES}

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Start our clock."""
        self.start = clock(self.args)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: nn.Module, outputs: object, batch: dict[str, Tensor], index: int
    ) -> None:
        """Stop our clock, and time the peer."""
        ours = clock(self.args) - self.start
        peer = timed(partial(self.peer.step, *batch.values()), self.args)
        if index:  # the first step of each warms up
            self.seconds["ours"].append(ours)
            self.seconds["peer"].append(peer)


def time_training(name: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per training step of both sides, alternated."""
    alternate = Alternate(METHODS[name].peer(args), args)
    fit_ours(name, args, args.repeats + 1, [alternate])
    return alternate.seconds


# ---- memory -----------------------------------------------------------------------------------------------


def peak_bytes(device: str) -> int:
    """High-water mark so far: of the device's tensors, or of this process's resident set (Linux)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Not getrusage: the maximum that it gives survives exec, and so includes the parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def run_one_side(args: argparse.Namespace) -> None:
    """In a child process: run one workload on one side and print its peak above the imports, in bytes."""
    side, workload, *numbers = args.one_side
    import models.networks  # noqa: F401

    before = peak_bytes(args.device)
    if workload in METHODS and side == "ours":
        fit_ours(workload, args, args.repeats, [])
    elif workload in METHODS:
        peer = METHODS[workload].peer(args)
        for _ in range(args.repeats):
            peer.step(*(images(256, args.device) for _ in METHODS[workload].keys))
    else:
        size, blocks = map(int, numbers)
        generator = (our_generator if side == "ours" else peer_generator)(blocks, args)
        with torch.inference_mode():
            for _ in range(args.repeats):
                generator(images(size, args.device))
    print("peak", peak_bytes(args.device) - before)


def measure_memory(arguments: list[str], workload: list[str]) -> dict[str, list[float]]:
    """Peak MiB above the imports of both sides, each in a process of its own."""
    peaks = {}
    for side in SIDES:
        command = [sys.executable, __file__, *arguments, "--one-side", side, *workload]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[side] = [int(printed.split("peak")[-1]) / MIB]
    return peaks


# ---- the table --------------------------------------------------------------------------------------------


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True,
                        help="folder of contrastive-unpaired-translation, or Scenimefy's Semi_translation")  # fmt: skip
    parser.add_argument("--what", nargs="+", choices=["inference", "training", "memory"],
                        default=["inference", "training", "memory"])  # fmt: skip
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="to train; default: those that --peer has")
    parser.add_argument("--sizes", nargs="*", type=int, default=[256, 1024], help="pixels, for inference")
    parser.add_argument("--blocks", nargs="+", type=int, choices=[4, 6, 9], default=[6, 9], help="for inference")
    parser.add_argument("--repeats", type=int, default=5, help="of each side, after one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: processor seconds, for a busy machine, with --threads 1 --device cpu")  # fmt: skip
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true", help="of our side")
    parser.add_argument("--compile", action="store_true", help="our networks")
    parser.add_argument("--one-side", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    there = [name for name, contest in METHODS.items() if (args.peer / contest.peer_file).is_file()]
    args.methods = args.methods or there
    if not there or not set(args.methods) <= set(there):
        files = sorted({contest.peer_file for contest in METHODS.values()})
        parser.error(f"--peer {args.peer} must hold {' or '.join(files)}; README.md says how to get them")
    return args


def measurements(args: argparse.Namespace, arguments: list[str]) -> Iterator[tuple[str, str, dict[str, list[float]]]]:
    """Name, unit and both sides' values of each measurement asked for."""
    inference = [(size, blocks) for size in args.sizes for blocks in args.blocks]
    if "inference" in args.what:
        for size, blocks in inference:
            yield f"ResNet-{blocks}, {size} px", "s", time_inference(args, size, blocks)
    if "training" in args.what:
        for name in args.methods:
            yield f"{METHODS[name].title}: training step, 256 px", "s", time_training(name, args)
    if "memory" in args.what:
        for name in args.methods:
            yield f"{METHODS[name].title}: peak", "MiB", measure_memory(arguments, [name])
        for size, blocks in inference:
            workload = ["inference", str(size), str(blocks)]
            yield f"ResNet-{blocks}, {size} px: peak", "MiB", measure_memory(arguments, workload)


def main(arguments: list[str]) -> None:
    """Measure and print a Markdown table."""
    args = parse(arguments)
    sys.path.insert(0, str(args.peer.resolve()))
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="lightning")
    if args.one_side:
        run_one_side(args)
        return
    print("| workload | unit | ours: median (least) | peer: median (least) | ratio of medians |")
    print("|---|---|---|---|---|")
    for name, unit, values in measurements(args, arguments):
        ours, peer = (values[side] for side in SIDES)
        digits = 0 if unit == "MiB" else 3
        cells = [f"{median(side):.{digits}f} ({min(side):.{digits}f})" for side in (ours, peer)]
        print(f"| {name} | {unit} | {cells[0]} | {cells[1]} | {median(ours) / median(peer):.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
