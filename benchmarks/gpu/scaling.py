"""What processes exchange in a step of each method, and how many times one GPU's images per second several make.

Of the real modules at their published size; prints the tables of docs/scaling.md.
"""

import argparse

from plan import METHODS

MIB = 2**20
BYTES = 4  # of a gradient
GPUS = (2, 4, 8)


def seconds_on_wire(size: float, gpus: int, bandwidth: float) -> float:
    """Of a ring all-reduce of ``size`` bytes: each process sends ``2 (n - 1) / n`` of them, at bytes per second."""
    return 2 * (gpus - 1) / gpus * size / bandwidth


def speed_up(step: float, size: float, gpus: int, bandwidth: float) -> float:
    """How many times the images per second of one GPU."""
    return gpus * step / (step + seconds_on_wire(size, gpus, bandwidth))


def trained() -> dict[str, int]:
    """Trained parameters of each method, as published."""
    from lit_ghibli.recipes import build, compose

    found = {}
    for name in METHODS:
        method = build(compose("train", [f"method={name}"]).method, metrics=None)
        networks = method.networks().values()
        found[name] = sum(each.numel() for network in networks for each in network.parameters() if each.requires_grad)
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=float, default=0.1, help="seconds of a step on one GPU")
    parser.add_argument("--bandwidths", nargs="+", type=float, default=[1.25, 12.0, 200.0], help="GB/s of a process")
    args = parser.parse_args()
    found = trained()
    print("| method | trained parameters, millions | MiB exchanged |")
    print("|---|--:|--:|")
    for name, number in found.items():
        print(f"| {name} | {number / 1e6:.2f} | {BYTES * number / MIB:.0f} |")
    columns = [(bandwidth, gpus) for bandwidth in args.bandwidths for gpus in GPUS]
    print("\n| method |", *(f" {bandwidth:g} GB/s, {gpus} |" for bandwidth, gpus in columns), sep="")
    print("|---|", "--:|" * len(columns), sep="")
    for name, number in found.items():
        cells = [f"{speed_up(args.step, BYTES * number, gpus, 1e9 * bandwidth):.2f}" for bandwidth, gpus in columns]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
