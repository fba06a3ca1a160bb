"""Trainings that start from weights of before: published ones, or those of a run."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_ghibli import checkpoints
from lit_ghibli.errors import UserError
from lit_ghibli.inference.finite import check_weights
from lit_ghibli.inference.importing import is_own
from lit_ghibli.inference.load import load_translator
from lit_ghibli.inference.styles import find_styles, read_style
from lit_ghibli.networks.arbitrary import ArbitraryStylization, published_weights
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.networks.pretrained.magenta import TRANSFORM, find_file
from lit_ghibli.overrides import spell
from lit_ghibli.published.families import import_published
from lit_ghibli.published.reading import sha256_of_weights

MAGENTA = "magenta"
_SETTING = "method.generator"
_SAME_SHAPES = ("upsample", "downsample", "output")  # arguments that change what a generator does to the same weights


def start_from(network: nn.Module, path: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Give a generator all the weights of another one of the same kind.

    Args:
        network: That is to be trained.
        path: A published file, the folder of a run or of imported weights, a checkpoint, the name of a style, or
            ``magenta``, the published networks of arbitrary stylisation.
        settings: The generator's configuration.

    Returns:
        The file that was read, and its checksum.

    Raises:
        UserError: It cannot be read, or its generator is another one.
    """
    if str(path) in (styles := find_styles()) and not path.exists():
        file = styles[str(path)]
        style, card = read_style(str(path))
        theirs = {"_target_": f"{PaintingNetwork.__module__}.{PaintingNetwork.__name__}", **card.network}
        weights = style.state_dict()
    elif str(path) == MAGENTA and not path.exists():
        file, weights = find_file(TRANSFORM), published_weights()
        theirs = {"_target_": f"{ArbitraryStylization.__module__}.{ArbitraryStylization.__name__}"}
    elif is_own(path):
        file = checkpoints.find(path)
        translator, config = load_translator(file, "cpu", 0)
        theirs, weights = config["method"]["generator"], translator.network.state_dict()
    else:
        published = import_published(path)
        file, theirs, weights = path, published.generator, published.weights
    if difference := _difference(network.state_dict(), weights, settings, theirs):
        kind = theirs["_target_"].rpartition(".")[2]
        defaults = {key: each.default for key, each in inspect.signature(type(network)).parameters.items()}
        words = " ".join(
            f"{'' if key in settings else '+'}{_SETTING}.{key}={spell(value)}"
            for key, value in theirs.items()
            if key not in ("_target_", "_partial_", "weights") and settings.get(key, defaults.get(key)) != value
        )
        own = type(network).__name__
        remedy = words if kind == own and words else f"weights of a {own}"
        raise UserError(
            f"{_SETTING}.weights={path}: its {kind} is another generator than this {own}: {difference}; give {remedy}"
        )
    check_weights(weights, f"{_SETTING}.weights={path}")
    network.load_state_dict(weights)
    return {"file": str(file), "sha256": sha256_of_weights(file)}


def _difference(
    ours: Mapping[str, Tensor], weights: Mapping[str, Tensor], settings: Mapping[str, Any], theirs: Mapping[str, Any]
) -> str:
    """What first differs between two generators; nothing if one can take the weights of the other."""
    for name in (*ours, *weights):
        if name not in weights or name not in ours:
            return f"{name} is in {'this one' if name in ours else 'it'} alone"
        if ours[name].shape != weights[name].shape:
            return f"{name} has the shape {tuple(weights[name].shape)} there and {tuple(ours[name].shape)} here"
    differing = [key for key in _SAME_SHAPES if key in theirs and theirs[key] != settings.get(key, theirs[key])]
    return f"{differing[0]} is {theirs[differing[0]]} there and {settings[differing[0]]} here" if differing else ""
