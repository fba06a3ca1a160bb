"""Time and memory of lit_ghibli against the authors' CycleGAN, pix2pix and Scenimefy code, alternated in one run.

See README.md beside this file for what is measured and how to read it.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from contests import METHODS, images, our_generator, peer_generator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from alternating import (
    Batch,
    add_options,
    fit,
    measure_memory,
    peak_bytes,
    print_table,
    time_networks,
    time_training,
)


def batches(name: str, steps: int) -> list[Batch]:
    """Random pictures for a method."""
    return [{key: images(256, "cpu") for key in METHODS[name].keys} for _ in range(steps)]


def both_generators(size: int, blocks: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per forward pass of both sides."""
    generators = {"ours": our_generator(blocks, args), "peer": peer_generator(blocks, args)}
    return time_networks(generators, images(size, args.device), args)


def both_trainings(name: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per training step of both sides."""
    contest = METHODS[name]
    return time_training(contest.ours(), contest.peer(args), batches(name, args.repeats + 1), args)


def run_one_side(args: argparse.Namespace) -> None:
    """In a child process: run one workload on one side and print its peak above the imports, in bytes."""
    side, workload, *numbers = args.one_side
    import models.networks  # noqa: F401

    before = peak_bytes(args.device)
    if workload in METHODS and side == "ours":
        fit(METHODS[workload].ours(), batches(workload, args.repeats), args, [])
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
    add_options(parser)
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
            yield f"ResNet-{blocks}, {size} px", "s", both_generators(size, blocks, args)
    if "training" in args.what:
        for name in args.methods:
            yield f"{METHODS[name].title}: training step, 256 px", "s", both_trainings(name, args)
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
    print_table(measurements(args, arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
