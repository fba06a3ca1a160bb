"""Generators as ONNX models beside the same in torch: how far their pictures are apart, and time.

See README.md beside this file for what is measured and how to read it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from lit_ghibli import load
from lit_ghibli.inference.onnx_model import OnnxNetwork, network_of, write_onnx
from lit_ghibli.inference.onnx_precision import convert
from lit_ghibli.inference.profiling import scenes
from lit_ghibli.inference.styles import find_styles
from lit_ghibli.networks.animegan import AnimeGenerator, LightAnimeGenerator
from lit_ghibli.networks.cartoongan import CartoonGenerator
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.networks.whitebox import WhiteBoxGenerator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from alternating import add_options, print_table, time_networks

GENERATORS = {
    "ResNet-9": ResnetGenerator,
    "NijiGAN": OdeGenerator,
    "U-Net": UnetGenerator,
    "CartoonGAN": CartoonGenerator,
    "AnimeGANv2": AnimeGenerator,
    "AnimeGANv2 light": LightAnimeGenerator,
    "White-box": WhiteBoxGenerator,
}
DTYPES = ("float32", "float16", "int8")


def network(name: str) -> nn.Module:
    """A style's own network, or a generator at its published size with fresh weights."""
    torch.manual_seed(0)
    found = load(name, device="cpu").network.paint if name in find_styles() else GENERATORS[name]()
    return found.eval()


def exported(name: str, dtype: str, photos: list[Tensor], folder: Path) -> OnnxNetwork:
    """The network in ONNX Runtime."""
    path = folder / "model.onnx"
    write_onnx(path, *network_of(network(name)), opset=18)
    convert(path, dtype, photos)
    return OnnxNetwork(path)


def measurements(args: argparse.Namespace):
    """Name, unit and seconds of both sides of each workload."""
    calibration = list(scenes(4, 256).split(1))
    for name in args.names:
        ours = network(name)
        for dtype in args.dtypes:
            with tempfile.TemporaryDirectory() as folder:
                runtime = exported(name, dtype, calibration, Path(folder))
            for size in args.sizes:
                photo = scenes(1, size)
                with torch.inference_mode():
                    difference = (ours(photo) - runtime(photo)).abs() * 127.5
                apart = f"{difference.mean():.2g} levels apart, {difference.max():.2g} at most"
                sides = {"ours": runtime, "peer": ours}
                yield f"{name}, {dtype}, {size}: {apart}", "s", time_networks(sides, photo, args)


def main() -> None:
    """Print a table, in which ``ours`` is ONNX Runtime and ``peer`` torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", nargs="+", default=[*find_styles(), *GENERATORS])
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    add_options(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print_table(measurements(args))


if __name__ == "__main__":
    main()
