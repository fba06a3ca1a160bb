"""The generator of fast neural style transfer, in the layout of PyTorch's example."""

from torch import Tensor

from lit_ghibli.networks.fast_style import FastStyleGenerator
from lit_ghibli.published.family import Family, Shapes, extent, layers, numbered

_BLOCK = r"res(\d+)\."
_HALF_RANGE = 127.5  # pictures are 0 ... 255 there


def names(shapes: Shapes) -> dict[str, str]:
    """Ours to theirs."""

    def normalized(ours: str, convolution: str, norm: str) -> dict[str, str]:
        return layers(f"{ours}.0", f"{convolution}.conv2d") | layers(f"{ours}.1", norm)

    found = {}
    for number, ours in enumerate(("stem", "down1", "down2"), start=1):
        found |= normalized(ours, f"conv{number}", f"in{number}")
    for block in range(numbered(shapes, _BLOCK, 5)):
        for number in (1, 2):
            theirs = f"res{block + 1}"
            found |= normalized(f"blocks.{block}.{2 * number - 2}", f"{theirs}.conv{number}", f"{theirs}.in{number}")
    found |= normalized("up1", "deconv1", "in4") | normalized("up2", "deconv2", "in5")
    return found | layers("head", "deconv3.conv2d")


def to_our_range(weights: dict[str, Tensor]) -> None:
    """Let a network of pictures from 0 to 255 take and give [-1, 1]: x becomes 127.5 (x + 1), y y / 127.5 - 1.

    This is exact, since the padding is reflection: what is padded is in the same range.
    """
    first, last = "stem.0", "head"
    weight = weights[f"{first}.weight"].double()
    weights[f"{first}.bias"] = (weights[f"{first}.bias"].double() + _HALF_RANGE * weight.sum((1, 2, 3))).float()
    weights[f"{first}.weight"] = (_HALF_RANGE * weight).float()
    weights[f"{last}.weight"] = weights[f"{last}.weight"] / _HALF_RANGE
    weights[f"{last}.bias"] = weights[f"{last}.bias"] / _HALF_RANGE - 1


FAMILY = Family(
    name="fast_style",
    title="fast neural style transfer",
    source="PyTorch's examples, fast_neural_style",
    licence="BSD-3-Clause for the code, none stated for the weights",
    network=FastStyleGenerator,
    arguments=lambda shapes: {
        "base_channels": extent(shapes, "conv1.conv2d.weight", 0),
        "num_blocks": numbered(shapes, _BLOCK, 5),
    },
    names=names,
    mark=("conv1.conv2d.weight", "in1.weight"),
    dropped=r".*\bin\d+\.(running_mean|running_var|num_batches_tracked)",  # which old files hold, and nothing uses
    finish=to_our_range,
)
