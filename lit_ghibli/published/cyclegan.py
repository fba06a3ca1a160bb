"""CycleGAN's generator, in the layout of its authors' PyTorch code."""

import re

from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.published.family import Family, Shapes, extent, layers, numbered

_BLOCK = r"model\.(\d+)\.conv_block\."
SOURCE = "Zhu and Park, pytorch-CycleGAN-and-pix2pix"
LICENCE = "BSD-2-Clause for the code, none stated for the weights"


def arguments(shapes: Shapes) -> dict[str, int]:
    """Arguments of our generator."""
    blocks = numbered(shapes, _BLOCK, 9)
    return {
        "in_channels": extent(shapes, "model.1.weight", 1),
        "out_channels": extent(shapes, f"model.{17 + blocks}.weight", 0),
        "base_channels": extent(shapes, "model.1.weight", 0),
        "num_blocks": blocks,
    }


def names(shapes: Shapes) -> dict[str, str]:
    """Ours to theirs; with dropout in a block its second convolution is one layer further down."""
    blocks = numbered(shapes, _BLOCK, 9)
    second = 6 if any(re.match(_BLOCK + r"6\.(weight|bias)$", name) for name in shapes) else 5
    found = layers("encoder.stem.0", "model.1")
    found |= layers("encoder.down1.0", "model.4") | layers("encoder.down2.0", "model.7")
    for block in range(blocks):
        found |= layers(f"bottleneck.{block}.branch.0", f"model.{10 + block}.conv_block.1")
        found |= layers(f"bottleneck.{block}.branch.3", f"model.{10 + block}.conv_block.{second}")
    found |= layers("decoder.up1.0", f"model.{10 + blocks}") | layers("decoder.up2.0", f"model.{13 + blocks}")
    return found | layers("decoder.head", f"model.{17 + blocks}")


FAMILY = Family(
    name="cyclegan",
    title="CycleGAN",
    source=SOURCE,
    licence=LICENCE,
    network=ResnetGenerator,
    arguments=arguments,
    names=names,
    mark=("model.1.weight", "model.10.conv_block.1.weight"),
    # Of the norms in old files, which never normalised by them.
    dropped=r"model\.(\d+|\d+\.conv_block\.\d+)\.(running_mean|running_var|num_batches_tracked)",
)
