"""What processes exchange in a step of each method, and how many times one GPU's images per second several make.

Of the real modules at their published size; prints the tables of docs/scaling.md.
"""

import argparse
from collections.abc import Mapping

from plan import METHODS

MIB = 2**20
GPUS = (2, 4, 8)
# In a step, counted by a communication hook: each backward pass that reaches weights exchanges all, at rest or not
EXCHANGES = {
    "cyclegan": 6, "nijigan": 5, "pix2pix": 2, "scenimefy": 5, "cut": 3, "cartoongan": 4, "animegan": 5,
    "vqi2i": 5, "arbitrary": 1, "distill": 1,
}  # fmt: skip


def exchanged(networks: Mapping[str, int], exchanges: int) -> int:
    """Bytes of float32 gradients that a step hands to all-reduce, of networks with so many trained parameters."""
    return 4 * exchanges * sum(networks.values())


def seconds_on_wire(size: float, gpus: int, bandwidth: float) -> float:
    """Of a ring all-reduce of ``size`` bytes: each process sends ``2 (n - 1) / n`` of them, at bytes per second."""
    return 2 * (gpus - 1) / gpus * size / bandwidth


def speed_up(step: float, size: float, gpus: int, bandwidth: float, overlap: float = 0.0) -> float:
    """How many times the images per second of one GPU; ``overlap`` is the share of the exchange that is hidden."""
    return gpus * step / (step + (1 - overlap) * seconds_on_wire(size, gpus, bandwidth))


def trained() -> dict[str, dict[str, int]]:
    """Trained parameters of each method's networks, as published."""
    from lit_ghibli.recipes import build, compose

    found = {}
    for name in METHODS:
        method = build(compose("train", [f"method={name}"]).method, metrics=None)
        found[name] = {
            network: sum(each.numel() for each in module.parameters() if each.requires_grad)
            for network, module in method.networks().items()
        }
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=float, default=0.1, help="seconds of a step on one GPU")
    parser.add_argument("--bandwidths", nargs="+", type=float, default=[1.25, 12.0, 200.0], help="GB/s of a process")
    parser.add_argument("--overlap", type=float, default=0.0, help="share of the exchange behind the computing")
    args = parser.parse_args()
    found = trained()
    print("| method | trained parameters, millions | MiB of gradients | exchanges a step | MiB exchanged |")
    print("|---|--:|--:|--:|--:|")
    for name, networks in found.items():
        total, passes = sum(networks.values()), EXCHANGES[name]
        cells = f"{total / 1e6:.2f}", f"{4 * total / MIB:.0f}", passes, f"{exchanged(networks, passes) / MIB:.0f}"
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    columns = [(bandwidth, gpus) for bandwidth in args.bandwidths for gpus in GPUS]
    print("\n| method |", *(f" {bandwidth:g} GB/s, {gpus} |" for bandwidth, gpus in columns), sep="")
    print("|---|", "--:|" * len(columns), sep="")
    for name, networks in found.items():
        size = exchanged(networks, EXCHANGES[name])
        cells = [f"{speed_up(args.step, size, gpus, 1e9 * bandwidth, args.overlap):.2f}" for bandwidth, gpus in columns]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
