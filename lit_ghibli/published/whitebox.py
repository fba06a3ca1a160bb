"""White-box Cartoonization's generator, in the layout of its authors' checkpoint of TensorFlow."""

from lit_ghibli.networks.whitebox import WhiteBoxGenerator
from lit_ghibli.published.family import (
    Family,
    Shapes,
    extent,
    numbered,
    of_tensorflow,
    swap_red_and_blue,
)

_IN_ORDER = ("stem", "down1", "grow1", "down2", "grow2", "shrink1", "joined1", "shrink2", "joined2", "head")
_BLOCK = r"generator/block_(\d+)/"


def names(shapes: Shapes) -> dict[str, str]:
    """Ours to theirs."""
    found = {}
    for number, ours in enumerate(_IN_ORDER):
        found |= _layer(ours, f"generator/Conv{f'_{number}' if number else ''}")
    for block in range(numbered(shapes, _BLOCK, 4)):
        for number in (0, 1):
            found |= _layer(f"blocks.{block}.{2 * number}", f"generator/block_{block}/conv{number + 1}")
    return found


def _layer(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.weight": f"{theirs}/weights", f"{ours}.bias": f"{theirs}/biases"}


FAMILY = Family(
    name="whitebox",
    title="White-box Cartoonization",
    source="Wang and Yu, White-box-Cartoonization",
    licence="CC BY-NC-SA 4.0, non-commercial",
    network=WhiteBoxGenerator,
    arguments=lambda shapes: {
        "base_channels": extent(shapes, "generator/Conv/weights", 3),
        "num_blocks": numbered(shapes, _BLOCK, 4),
    },
    names=names,
    mark=("generator/block_0/conv1/weights",),
    dropped=r"(?!generator/).*|generator/.*/Adam(_1)?",  # the rest of a training
    layout=of_tensorflow,
    finish=lambda weights: swap_red_and_blue(weights, "stem", "head"),
)
