"""Styles of random weights, in the user's folder."""

from pathlib import Path

import torch
from torch import nn

from lit_ghibli.inference.styles import Card, write_style
from lit_ghibli.networks.painting import PaintingNetwork

TINY = {"channels": 4, "deep_channels": 4, "dilations": [1]}


def made_style(folder: Path, name: str = "mine", seed: int = 0) -> Path:
    """The file of a style that changes pictures a little; ``LIT_GHIBLI_STYLES`` has to name the folder."""
    torch.manual_seed(seed)
    network = PaintingNetwork(**TINY)
    nn.init.normal_(network.last.weight, std=0.05)
    path = folder / f"{name}.safetensors"
    write_style(path, network, Card("small", 32 * 32, TINY))
    return path
