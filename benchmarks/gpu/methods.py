"""Methods as `lit-ghibli train` builds them, at their published size or tiny, on the device that is asked for."""

import argparse
import ast
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from plan import METHODS, SIZE

from lit_ghibli.recipes import compose

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, STEPS = 2, 5  # ten steps
_COMMON = ["data.count=12", "data.test_count=1", "metrics.metrics=[l1]", "+trainer.limit_val_batches=0"]
_COMMON += [f"method.epochs={EPOCHS}", f"trainer.limit_train_batches={STEPS}"]


def configure(what: str, args: argparse.Namespace, *more: str) -> DictConfig:
    """The configuration of ten steps of a method, in plain float32 unless ``more`` says otherwise."""
    words = [f"method={what}", f"data.size={SIZE}", f"data.crop_size={SIZE}", *METHODS[what]]
    if args.tiny:
        words = [*_tiny("nijigan" if what == "scenimefy" else what), *METHODS[what], f"method={what}", "data.size=32"]
        words += ["method.weights.straightness=0"] if what == "scenimefy" else []  # which has no ODE blocks
    words = [*words, "trainer=cpu" if args.device == "cpu" else "trainer=auto", *_COMMON, *more]
    config = compose("train", words)
    if "decay_epochs" in config.method:
        config.method.decay_epochs = 0
    return config


def _tiny(method: str) -> list[str]:
    """The overrides by which a method's tests make it tiny, read without importing what the tests need."""
    parsed = ast.parse((ROOT / "tests" / "methods" / f"test_{method}.py").read_text())
    assigned = (each for each in parsed.body if isinstance(each, ast.Assign) and each.targets[0].id == "TINY")
    return [word.format(pictures=()) for word in ast.literal_eval(next(assigned).value)]


def pictures(config: DictConfig, count: int, device: str) -> dict[str, torch.Tensor]:
    """A batch of random pictures, with all keys that methods read."""
    side = config.data.crop_size
    keys = ("photo", "anime", "pair_a", "pair_b", "input", "target")
    return {key: torch.rand(count, 3, side, side, device=device) * 2 - 1 for key in keys}


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as a checkpoint holds it."""
    return OmegaConf.to_container(config, resolve=True)


def compile_networks(networks: dict[str, torch.nn.Module], args: argparse.Namespace, mode: str | None = None) -> None:
    """Compile them; when the program is tried on a CPU, up to where code would be generated."""
    options = {"backend": "aot_eager"} if args.device == "cpu" else {"mode": mode}
    for network in networks.values():
        network.compile(**options)
