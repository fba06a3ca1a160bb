"""The generator of CUT, FastCUT and Scenimefy, in the layout of their authors' code: a ResNet with blur pools."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.published.family import Family, Shapes, extent, layers, numbered

_BLOCK = r"model\.(\d+)\.conv_block\."


def arguments(shapes: Shapes) -> dict[str, Any]:
    """Arguments of our generator."""
    blocks = numbered(shapes, _BLOCK, 9)
    return {
        "in_channels": extent(shapes, "model.1.weight", 1),
        "out_channels": extent(shapes, f"model.{21 + blocks}.weight", 0),
        "base_channels": extent(shapes, "model.1.weight", 0),
        "num_blocks": blocks,
        "downsample": "blur",
        "upsample": "bilinear",
    }


def names(shapes: Shapes) -> dict[str, str]:
    """Ours to theirs."""
    blocks = numbered(shapes, _BLOCK, 9)
    found = layers("encoder.stem.0", "model.1")
    found |= layers("encoder.down1.0", "model.4") | layers("encoder.down2.0", "model.8")
    for block in range(blocks):
        found |= layers(f"bottleneck.{block}.branch.0", f"model.{12 + block}.conv_block.1")
        found |= layers(f"bottleneck.{block}.branch.3", f"model.{12 + block}.conv_block.5")
    found |= layers("decoder.up1.0.1", f"model.{13 + blocks}") | layers("decoder.up2.0.1", f"model.{17 + blocks}")
    return found | layers("decoder.head", f"model.{21 + blocks}")


def filters(name: str, tensor: Tensor) -> Tensor | None:
    """What a blur or an enlargement, which is no weight, must hold: binomials; that of 4x4 is four times as strong."""
    if not name.endswith(".filt"):
        return None
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4 if tensor.shape[-1] == 4 else torch.tensor([1.0, 2.0, 1.0]) / 4
    return row.outer(row).expand(tensor.shape[0], 1, -1, -1)


FAMILY = Family(
    name="cut",
    title="CUT or FastCUT",
    source="Park, contrastive-unpaired-translation",
    licence="BSD-2-Clause for the code, none stated for the weights (of Scenimefy, which looks the same: give "
    "family=scenimefy)",
    network=ResnetGenerator,
    arguments=arguments,
    names=names,
    mark=("model.1.weight", "model.7.filt"),
    dropped=r"model\.\d+\.filt",
    constant=filters,
)
FASTCUT = replace(FAMILY, name="fastcut", title="FastCUT")
SCENIMEFY = replace(
    FAMILY,
    name="scenimefy",
    title="Scenimefy",
    source="Jiang, Scenimefy",
    licence="S-Lab License 1.0, non-commercial",
)
