"""What each solver of the ODE blocks costs at inference, and how far its pictures are from the training solver's.

See README.md beside this file for what is measured and how to read it.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from lit_ghibli.data.image_files import open_image
from lit_ghibli.data.image_folders import list_images
from lit_ghibli.images import from_picture
from lit_ghibli.inference.measure import compare
from lit_ghibli.inference.profiling import scenes
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.blur_pool import BlurPool
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.resnet import ResnetGenerator

SOLVERS = [("euler", 1), ("euler", 2), ("midpoint", 1), ("midpoint", 2), ("rk4", 1), ("rk4", 2), ("dopri5", None)]
RESNET = "nine residual blocks"


def fresh() -> OdeGenerator:
    """The published generator with the weights that a training starts with."""
    torch.manual_seed(0)
    return OdeGenerator().eval()


def trained(run: Path) -> OdeGenerator:
    """The generator of a run's last checkpoint."""
    from lit_ghibli import checkpoints
    from lit_ghibli.inference.load import load_translator

    return load_translator(checkpoints.find(run), "cpu", tile=0)[0].network


def resnet_like(generator: OdeGenerator) -> ResnetGenerator:
    """Nine residual blocks of the same widths, with the same encoder and decoder but for their weights."""
    base_channels = generator.encoder.stem[0].out_channels
    enlargement = generator.decoder.up1[0]
    modes = {"nearest": "resize", "bilinear": "bilinear"}
    upsample = modes[enlargement[0].mode] if isinstance(enlargement, nn.Sequential) else "transposed"
    downsample = "blur" if isinstance(generator.encoder.down1[-1], BlurPool) else "stride"
    options = {"upsample": upsample, "downsample": downsample}
    return ResnetGenerator(base_channels=base_channels, output=generator.output.kind, **options).eval()


def time_alternated(
    calls: dict[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each call, all of them in turn, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in track(range(repeats + 1), description="Timing"):
        for name, call in calls.items():
            start = clock()
            call()
            if repeat:
                seconds[name].append(clock() - start)
    return seconds


def photographs(folder: Path | None, size: int, count: int) -> list[Tensor]:
    """Photographs ``(1, 3, H, W)`` in ``[-1, 1]``: of a folder with a short side of ``size``, or rendered ones."""
    if folder is None:
        return list(scenes(count, size).split(1))
    opened = (open_image(path) for path in list_images(folder)[:count])
    resized = (photo.resize([round(side * size / min(photo.size)) for side in photo.size]) for photo in opened)
    return [from_picture(photo) for photo in resized]


def distances(generator: OdeGenerator, title: tuple[str, int | None], photos: list[Tensor]) -> dict[str, float]:
    """Means over photographs of L1 in 8-bit levels and SSIM between a solver's pictures and the training solver's."""
    whole = Translator(generator, tile=0)
    other = whole.with_solver(*title)
    found = [compare(other.translate(photo), whole.translate(photo)) for photo in photos]
    evaluations = other.network.nfe  # of the last photograph; an adaptive solver's vary
    means = {name: sum(values[name] for values in found) / len(found) for name in ("l1", "ssim")}
    return {"evaluations": evaluations, "levels": 255 * means["l1"], "ssim": means["ssim"]}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, help="run or checkpoint; default: the published sizes, fresh weights"
    )
    parser.add_argument("--photos", type=Path, help="folder of photographs to compare on; default: rendered scenes")
    parser.add_argument("--count", type=int, default=8, help="photographs to compare on")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--repeats", type=int, default=9, help="of each, after one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: processor seconds, for a busy machine, with --threads 1")  # fmt: skip
    return parser.parse_args()


def main() -> None:
    """Measure and print a Markdown table."""
    args = parse()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    generator = trained(args.checkpoint) if args.checkpoint else fresh()
    default = (generator.solver, None if generator.solver == "dopri5" else generator.steps)
    photo = scenes(1, args.size)
    whole = Translator(generator, tile=0)
    networks = {RESNET: resnet_like(generator)}
    networks |= {
        f"{solver}{f' x{steps}' if steps else ''}": whole.with_solver(solver, steps).network
        for solver, steps in SOLVERS
    }
    with torch.inference_mode():
        seconds = time_alternated(
            {name: lambda network=network: network(photo) for name, network in networks.items()}, args.repeats, clock
        )
        photos = photographs(args.photos, args.size, args.count)
        apart = [distances(generator, title, photos) for title in track(SOLVERS, description="Comparing")]
    print(f"trained with {default[0]}{f' x{default[1]}' if default[1] else ''}; {len(photos)} photographs compared")
    print(
        "| solver | evaluations | seconds: median (least) | against nine residual blocks | levels of 255 apart | SSIM |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    reference = seconds.pop(RESNET)
    print(f"| {RESNET} | - | {median(reference):.3f} ({min(reference):.3f}) | 1 | - | - |")
    for (name, values), found in zip(seconds.items(), apart, strict=True):
        ratio = median(ours / theirs for ours, theirs in zip(values, reference, strict=True))
        print(
            f"| {name} | {found['evaluations']} | {median(values):.3f} ({min(values):.3f}) | {ratio:.2f} | "
            f"{found['levels']:.2f} | {found['ssim']:.4f} |"
        )


if __name__ == "__main__":
    main()
