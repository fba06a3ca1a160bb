"""pix2pix's U-Net, in the layout of its authors' PyTorch code: each level lies in the one above it."""

from typing import Any

from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.published.cyclegan import LICENCE, SOURCE
from lit_ghibli.published.family import Family, Shapes, extent, layers

_FIRST = "model.model.0.weight"


def arguments(shapes: Shapes) -> dict[str, Any]:
    """Arguments of our generator."""
    return {
        "in_channels": extent(shapes, _FIRST, 1),
        "out_channels": extent(shapes, "model.model.3.weight", 1),
        "base_channels": extent(shapes, _FIRST, 0),
        "depth": _depth(shapes),
        "norm": _norm(shapes),
    }


def names(shapes: Shapes) -> dict[str, str]:
    """Ours to theirs: of a level, layer 1 leads down, 5 up again; of the innermost, 3."""
    depth, batch = _depth(shapes), _norm(shapes) == "batch"
    bias = "" if batch else "bias"

    def normalized(ours: str, theirs: str) -> dict[str, str]:
        return layers(ours, theirs) if batch else {}

    found = layers("encoder.0.0", "model.model.0", bias=bias)
    for level in range(1, depth - 1):
        theirs, up = _level(level), f"decoder.{depth - 2 - level}"
        found |= layers(f"encoder.{level}.0", f"{theirs}.1", bias=bias) | normalized(
            f"encoder.{level}.1", f"{theirs}.2"
        )
        found |= layers(f"{up}.1", f"{theirs}.5", bias=bias) | normalized(f"{up}.2", f"{theirs}.6")
    theirs = _level(depth - 1)
    found |= layers("bottleneck.0", f"{theirs}.1", bias=bias) | layers("bottleneck.2", f"{theirs}.3", bias=bias)
    found |= normalized("bottleneck.3", f"{theirs}.4")
    return found | layers(f"decoder.{depth - 2}.1", "model.model.3")


def _level(number: int) -> str:
    """What the names of a level's layers begin with, 1 being the one below the outermost."""
    return ".".join(["model.model.1", *["model.3"] * (number - 1), "model"])


def _depth(shapes: Shapes) -> int:
    """How often a network halves the size; 8 where a file has no levels."""
    depth = 1
    while f"{_level(depth)}.1.weight" in shapes:
        depth += 1
    return depth if depth > 1 else 8


def _norm(shapes: Shapes) -> str:
    """Batch norm, which has weights, or instance norm, whose convolutions have biases."""
    return "instance" if f"{_level(1)}.1.bias" in shapes else "batch"


FAMILY = Family(
    name="pix2pix",
    title="pix2pix",
    source=SOURCE,
    licence=LICENCE,
    network=UnetGenerator,
    arguments=arguments,
    names=names,
    mark=(_FIRST,),
    dropped=r"model\.model\..*\.(running_mean|running_var|num_batches_tracked)",  # pictures are their own statistics
)
