"""Styles of random weights, in the user's folder."""

from pathlib import Path

import torch
from torch import nn

from lit_ghibli.inference.styles import Card, write_style
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.painter.painter import Outlines

TINY = {"channels": 4, "deep_channels": 4, "dilations": [1]}
OUTLINES = Outlines(width=0.9, threshold=0.006, gain=20.0, length=6.0, crowding=1.0, darkness=0.4, opacity=0.7)


def made_style(folder: Path, name: str = "mine", seed: int = 0, flatten: float = 0) -> Path:
    """The file of a style that changes pictures a little; ``LIT_GHIBLI_STYLES`` has to name the folder."""
    torch.manual_seed(seed)
    network = PaintingNetwork(**TINY, flatten=flatten)
    nn.init.normal_(network.last.weight, std=0.05)
    path = folder / f"{name}.safetensors"
    write_style(path, network, Card("small", 32 * 32, TINY, OUTLINES))
    return path
