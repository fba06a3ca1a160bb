"""Neural style transfer: time per iteration against another implementation, time to a loss, and memory.

See README.md beside this file for what is measured and how to read it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any

import lightning
import torch
import torchvision
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn

from lit_ghibli.commands._hydra import config_dir
from lit_ghibli.data.iterations import IterationsDataModule
from lit_ghibli.methods.nst import NeuralStyle
from lit_ghibli.networks.vgg import LAYERS, VggFeatures
from lit_ghibli.scenes.scene import render_pair

MIB = 2**20
# What the peer compares: its content layer, its style layers, and total variation.
PEER_LAYERS = {
    "content_layers": ["relu4_2"],
    "style_layers": [f"relu{stage}_1" for stage in range(1, 6)],
    "style_layer_weights": "mean",
    "normalize_gram": True,
    "weights": {"content": 1e5, "style": 3e4, "tv": 1.0},
}


# ---- what both sides share --------------------------------------------------------------------------------


def clock(args: argparse.Namespace) -> float:
    """Seconds, of the wall or of this process's processors, when the device has finished what it was given."""
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() if args.clock == "wall" else time.process_time()


def picture_files(folder: Path, size: int) -> tuple[Path, Path]:
    """A rendered photograph and the painted picture of another scene, ``size`` high and wide."""
    files = folder / f"content_{size}.png", folder / f"style_{size}.png"
    for number, file in enumerate(files):
        pixels = render_pair(0, number, 512)[number]
        Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS).save(file)
    return files


def recipe(experiment: str, *overrides: str) -> dict[str, Any]:
    """The method's configuration of an experiment."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", "run_dir=none", "name=none", *overrides])
    return OmegaConf.to_container(config.method, resolve=True)


def ours(
    args: argparse.Namespace, folder: Path, size: int, config: dict[str, Any], levels: list, checkpoint: bool = False
) -> NeuralStyle:
    """Our method on the two pictures."""
    content, style = (args.content, args.style) if args.content else picture_files(folder, size)
    pictures = {"content": str(content), "style": str(style), "size": size, "levels": levels}
    vgg = {**config["vgg"], "weights": args.weights, "checkpoint": checkpoint}
    return instantiate({**config, **pictures, "vgg": vgg}, _convert_="object")


def fit(args: argparse.Namespace, method: NeuralStyle, callbacks: list[Callback]) -> None:
    """Run all levels under a Lightning Trainer that does nothing else."""
    trainer = lightning.Trainer(
        accelerator="gpu" if args.device == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(method, IterationsDataModule(method.levels, epochs=1, seed=0))


# ---- (a) seconds per iteration ----------------------------------------------------------------------------


def torchvision_network(features: VggFeatures) -> nn.Module:
    """Torchvision's VGG-19 with the same weights, for the peer to cut up; what is deeper stays as it is."""
    network = torchvision.models.vgg.VGG(torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"]), 1)
    for stage in features.stages:
        for name, layer in stage.items():
            if name.startswith("conv"):
                target = network.features[LAYERS.index(name)]
                target.weight.data.copy_(layer.weight)
                target.bias.data.copy_(layer.bias)
    return network


def peer_step(args: argparse.Namespace, method: NeuralStyle) -> Callable[[], object]:
    """One iteration of the peer's Adam loop on the same pictures and weights."""
    for name in ("cv2", "matplotlib", "matplotlib.pyplot"):  # it imports them for files and plots
        sys.modules.setdefault(name, ModuleType(name))
    network = torchvision_network(method.vgg)
    torchvision.models.vgg19 = lambda **options: network  # in place of a download
    import neural_style_transfer as peer

    model, content_index, style_indices = peer.utils.prepare_model("vgg19", args.device)
    mean = torch.tensor(peer.utils.IMAGENET_MEAN_255, device=args.device).view(3, 1, 1)

    def prepare(picture: Tensor) -> Tensor:
        return (picture.to(args.device) + 1) * 127.5 - mean

    with torch.no_grad():
        content = model(prepare(method.content))[content_index[0]].squeeze(0)
        maps = model(prepare(method.styles[0]))
        grams = [peer.utils.gram_matrix(x) for index, x in enumerate(maps) if index in style_indices[0]]
    pixels = prepare(method.content).clone().requires_grad_(True)
    optimizer = torch.optim.Adam((pixels,), lr=1e1)
    weights = {"content_weight": 1e5, "style_weight": 3e4, "tv_weight": 1.0}
    step = peer.make_tuning_step(model, optimizer, [content, grams], content_index[0], style_indices[0], weights)
    return partial(step, pixels)


class Alternate(Callback):
    """Times our iterations, and between any two of them one of the peer's."""

    def __init__(self, peer: Callable[[], object], args: argparse.Namespace) -> None:
        self.peer, self.args = peer, args
        self.seconds: dict[str, list[float]] = {"ours": [], "peer": []}

    def on_train_batch_start(self, *_: object) -> None:
        """Start our clock."""
        self.start = clock(self.args)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: nn.Module, outputs: object, *rest: object) -> None:
        """Stop our clock, and time the peer."""
        middle = clock(self.args)
        self.peer()
        end = clock(self.args)
        if module.iteration > 1:  # the first of each warms up
            self.seconds["ours"].append(middle - self.start)
            self.seconds["peer"].append(end - middle)


def measure_speed(args: argparse.Namespace, folder: Path) -> None:
    """Print a line for the peer's terms on both sides, and one for the scratch recipe as it is."""
    print("| iteration at 256 pixels | ours: median (least), s | peer: median (least), s | ratio of medians |")
    print("|---|---|---|---|")
    for title, options in (("the peer's layers and terms", PEER_LAYERS), ("scratch recipe, as it is", {})):
        method = ours(args, folder, 256, recipe("nst_scratch") | options, [[1.0, args.repeats + 1]])
        alternate = Alternate(peer_step(args, method), args)
        fit(args, method, [alternate])
        us, them = alternate.seconds.values()
        cells = [f"{median(side):.3f} ({min(side):.3f})" for side in (us, them)]
        print(f"| {title} | {cells[0]} | {cells[1]} | {median(us) / median(them):.2f} |", flush=True)


# ---- (b) time to a loss -----------------------------------------------------------------------------------


class Until(Callback):
    """Measures the time of a run and stops it when its total loss, at full size, is no more than ``target``."""

    def __init__(self, args: argparse.Namespace, target: float) -> None:
        self.args, self.target = args, target
        self.reached = False

    def on_train_start(self, *_: object) -> None:
        """Start the clock, before targets are computed."""
        self.start = clock(self.args)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: NeuralStyle, outputs: dict, *rest: object) -> None:
        """Stop the clock."""
        self.total, self.iterations = float(outputs["losses"]["total"]), module.iteration
        self.seconds = clock(self.args) - self.start
        at_full_size = module.size == module.sizes[-1]
        if at_full_size and self.total <= self.target:
            self.reached = True
            trainer.should_stop = True


def measure_target(args: argparse.Namespace, folder: Path) -> None:
    """Print how long literal Adam takes for its iterations, and how long others take to its last total."""
    adam = Until(args, target=-1.0)
    fit(args, ours(args, folder, args.target_size, recipe("nst_scratch"), [[1.0, args.iterations + 1]]), [adam])
    rows = [(f"scratch: Adam, {args.iterations} iterations", adam)]
    # The last level may go on until the loss is reached.
    pyramid = [*recipe("nst_ghibli")["levels"][:-1], [1.0, args.iterations]]
    config = recipe("nst_scratch", "method/pixel_optimizer=lbfgs")
    for title, levels in (("pyramid + L-BFGS", pyramid), ("L-BFGS at full size", [[1.0, args.iterations]])):
        run = Until(args, adam.total)
        fit(args, ours(args, folder, args.target_size, config, levels), [run])
        rows.append((title, run))
    print("| way | iterations | total loss | seconds | share of Adam's |")
    print("|---|--:|--:|--:|--:|")
    for title, run in rows:
        missed = "" if run is adam or run.reached else " (not reached)"
        share = f"{run.seconds / adam.seconds:.4f}"
        print(f"| {title}{missed} | {run.iterations} | {run.total:.6g} | {run.seconds:.1f} | {share} |", flush=True)


# ---- (c) memory -------------------------------------------------------------------------------------------


def peak_bytes(device: str) -> int:
    """High-water mark so far: of the device's tensors, or of this process's resident set (Linux)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def run_one_size(args: argparse.Namespace, folder: Path) -> None:
    """In a child process: L-BFGS at one size, and print its peak above the imports and the last loss."""
    size, checkpoint = args.one_size
    before = peak_bytes(args.device)
    levels = [[1.0, args.memory_iterations]]
    method = ours(args, folder, int(size), recipe("nst_ghibli"), levels, checkpoint=checkpoint == "1")
    run = Until(args, target=-1.0)
    fit(args, method, [run])
    peak = peak_bytes(args.device) - before
    print(json.dumps({"peak": peak, "iterations": run.iterations, "total": run.total, "seconds": run.seconds}))


def measure_memory(args: argparse.Namespace, arguments: list[str]) -> None:
    """Print the peak of each size in a process of its own."""
    print("| long side | features | peak, MiB | iterations | total loss at the last | seconds |")
    print("|--:|---|--:|--:|--:|--:|")
    for size in args.sizes:
        for checkpoint in (False, True):
            if size >= args.checkpoint_from and not checkpoint:
                continue
            command = [sys.executable, __file__, *arguments, "--one-size", str(size), str(int(checkpoint))]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = SimpleNamespace(**json.loads(printed.splitlines()[-1]))
            how = "computed twice" if checkpoint else "kept"
            cells = f"{found.peak / MIB:.0f} | {found.iterations} | {found.total:.4g} | {found.seconds:.0f}"
            print(f"| {size} | {how} | {cells} |", flush=True)


# ---- the command ------------------------------------------------------------------------------------------


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="folder of pytorch-neural-style-transfer, for speed")
    parser.add_argument(
        "--what", nargs="+", choices=["speed", "target", "memory"], default=["speed", "target", "memory"]
    )
    parser.add_argument("--weights", default="random", help="of VGG-19: random, imagenet, or a file")
    parser.add_argument("--content", type=Path, help="picture; by default rendered scenes are used")
    parser.add_argument("--style", type=Path, help="picture")
    parser.add_argument("--repeats", type=int, default=20, help="iterations of each side, after one to warm up")
    parser.add_argument("--iterations", type=int, default=2000, help="of Adam, whose loss is the target")
    parser.add_argument("--target-size", type=int, default=256, help="pixels")
    parser.add_argument("--sizes", nargs="+", type=int, default=[512, 1024, 2048], help="pixels, for memory")
    parser.add_argument("--checkpoint-from", type=int, default=2048, help="pixels from which features are never kept")
    parser.add_argument("--memory-iterations", type=int, default=22, help="two more than L-BFGS remembers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: processor seconds, for a busy machine, with --threads 1 --device cpu")  # fmt: skip
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--one-size", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if "speed" in args.what and not (args.peer and (args.peer / "neural_style_transfer.py").is_file()):
        parser.error("for speed, --peer must hold neural_style_transfer.py; README.md says how to get it")
    if bool(args.content) != bool(args.style):
        parser.error("--content and --style belong together")
    return args


def main(arguments: list[str]) -> None:
    """Measure and print Markdown tables."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.one_size:
            run_one_size(args, folder)
            return
        if "speed" in args.what:
            sys.path.insert(0, str(args.peer.resolve()))
            measure_speed(args, folder)
        if "target" in args.what:
            measure_target(args, folder)
        if "memory" in args.what:
            measure_memory(args, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
