"""What each term of NijiGAN's objective costs: the training step without it against the step with all, alternated.

See README.md beside this file.
"""

import argparse
import logging
import time
import warnings
from statistics import median

import lightning
import torch
from contests import SEMI_SUPERVISED, images
from lightning.pytorch.callbacks import Callback
from rich.progress import track
from torch.utils.data import DataLoader

from lit_ghibli.methods.nijigan import WEIGHTS, NijiGAN
from lit_ghibli.networks.vgg import VggFeatures

ALL = "all terms"
WITHOUT = {
    "vgg": ["vgg"],
    "straightness": ["straightness"],
    "src": ["src"],
    "hdce": ["hdce"],
    "src and hdce": ["src", "hdce"],
    "gan": ["gan"],
    "style_nce": ["style_nce"],
    "gan_pair": ["gan_pair"],
    "gan_pair and style_nce": ["gan_pair", "style_nce"],
}


class Seconds(Callback):
    """Times the training steps of one trainer."""

    def __init__(self, clock: object) -> None:
        self.clock, self.seconds = clock, []

    def on_train_batch_start(self, *_: object) -> None:
        """Start the clock."""
        self.start = self.clock()

    def on_train_batch_end(self, *_: object) -> None:
        """Stop it."""
        self.seconds.append(self.clock() - self.start)


def random_vgg() -> VggFeatures:
    """VGG-19 to conv4_4; its time does not depend on its weights."""
    return VggFeatures(["conv4_4"], weights="random")


def step_seconds(without: list[str], size: int, clock: object) -> float:
    """Seconds of one step, after one to warm up, of a method whose named weights are 0."""
    weights = {name: 0.0 if name in without else weight for name, weight in {**WEIGHTS, "straightness": 0.1}.items()}
    method = NijiGAN(weights=weights, schedule={"name": "constant"}, vgg=random_vgg)
    batches = [{key: images(size, "cpu")[0] for key in SEMI_SUPERVISED} for _ in range(2)]
    seconds = Seconds(clock)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[seconds], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(method, DataLoader(batches))
    return seconds.seconds[-1]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: processor seconds, for a busy machine, with --threads 1")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    variants = {ALL: [], **WITHOUT}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in track(range(args.repeats), description="Timing"):
        for name, without in variants.items():
            seconds[name].append(step_seconds(without, args.size, clock))
    print("| without | seconds: median (least) | against all terms |\n|---|--:|--:|")
    for name, values in seconds.items():
        ratio = median(ours / theirs for ours, theirs in zip(values, seconds[ALL], strict=True))
        print(f"| {'nothing' if name == ALL else name} | {median(values):.2f} ({min(values):.2f}) | {ratio:.2f} |")


if __name__ == "__main__":
    main()
