"""Generators of published weights, and the training steps of CartoonGAN and AnimeGAN, beside the code of the peers.

See README.md beside this file for what is measured and how to read it.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

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
from generators import GENERATORS, both_generators
from trainings import TRAININGS

PIXELS = 256  # of a training step
WHAT = ("parity", "inference", "training", "memory")


def images(number: int, size: int, device: str) -> Tensor:
    """Random pictures ``(N, 3, size, size)`` in ``[-1, 1]``."""
    return torch.rand(number, 3, size, size, device=device) * 2 - 1


def batches(args: argparse.Namespace, steps: int) -> list[Batch]:
    """Random pictures for our methods."""
    return [{key: images(args.batch, PIXELS, "cpu") for key in ("photo", "anime")} for _ in range(steps)]


@torch.inference_mode()
def print_parity(name: str, args: argparse.Namespace) -> None:
    """Print the largest difference of both sides' pictures of a random photograph."""
    contest, photo = GENERATORS[name], images(1, PIXELS, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        networks = both_generators(contest, Path(folder))
    ours, peer = networks["ours"](photo), contest.paint(networks["peer"], photo)
    print(f"{contest.title}: largest difference {(ours - peer).abs().max():.1e}, values to {peer.abs().max():.2f}")


def run_one_side(args: argparse.Namespace) -> None:
    """In a child process: run one workload on one side and print its peak above the imports, in bytes."""
    side, kind, name, *size = args.one_side
    contest = (TRAININGS if kind == "training" else GENERATORS)[name]
    if kind == "inference":
        with torch.device("meta"):  # imports what both sides need
            contest.ours(), contest.peer()
    before = peak_bytes(args.device)
    if kind == "inference":
        network = getattr(contest, side)().to(args.device).eval()
        with torch.inference_mode():
            for _ in range(args.repeats):
                network(images(1, int(*size), args.device))
    elif side == "ours":
        fit(contest.ours(), batches(args, args.repeats), args, [])
    else:
        peer = contest.peer(args)
        for batch in batches(args, args.repeats):
            peer.step(*(pictures.to(args.device) for pictures in batch.values()))
    print("peak", peak_bytes(args.device) - before)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="folder of one of the repositories in README.md")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--only", nargs="+", choices=[*GENERATORS, *TRAININGS], help="of what --peer has")
    parser.add_argument("--sizes", nargs="*", type=int, default=[256, 512, 1024], help="pixels, for inference")
    parser.add_argument("--batch", type=int, default=2, help="pictures of a training step")
    add_options(parser)
    args = parser.parse_args(arguments)
    args.generators, args.trainings = (
        [name for name in all_contests if (args.peer / all_contests[name].peer_file).is_file()]
        for all_contests in (GENERATORS, TRAININGS)
    )
    if not args.generators + args.trainings:
        parser.error(f"--peer {args.peer} has nothing that is compared here; README.md says how to get the peers")
    if args.only:
        args.generators, args.trainings = (
            [name for name in names if name in args.only] for names in (args.generators, args.trainings)
        )
    return args


def measurements(args: argparse.Namespace, arguments: list[str]) -> Iterator[tuple[str, str, dict[str, list[float]]]]:
    """Name, unit and both sides' values of each measurement asked for."""
    for name in args.generators:
        for size in args.sizes:
            title = f"{GENERATORS[name].title}, {size} px"
            if "inference" in args.what:
                with tempfile.TemporaryDirectory() as folder:
                    networks = both_generators(GENERATORS[name], Path(folder))
                networks = {side: network.to(args.device) for side, network in networks.items()}
                yield title, "s", time_networks(networks, images(1, size, args.device), args)
            if "memory" in args.what:
                yield f"{title}: peak", "MiB", measure_memory(arguments, ["inference", name, str(size)])
    for name in args.trainings:
        contest, title = TRAININGS[name], f"{TRAININGS[name].title}: training step, {PIXELS} px, {args.batch} pictures"
        if "training" in args.what:
            pictures = batches(args, args.repeats + 1)
            yield title, "s", time_training(contest.ours(), contest.peer(args), pictures, args)
        if "memory" in args.what:
            yield f"{title}: peak", "MiB", measure_memory(arguments, ["training", name])


def main(arguments: list[str]) -> None:
    """Measure and print what differs, and a Markdown table."""
    args = parse(arguments)
    sys.path.insert(0, str(args.peer.resolve()))
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")  # some peers call what PyTorch has renamed
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if args.one_side:
        run_one_side(args)
        return
    if "parity" in args.what:
        for name in args.generators:
            print_parity(name, args)
    print_table(measurements(args, arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
