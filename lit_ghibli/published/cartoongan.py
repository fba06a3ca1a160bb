"""CartoonGAN's generator, in the layout of the PyTorch port of its authors' weights."""

from lit_ghibli.networks.cartoongan import CartoonGenerator
from lit_ghibli.published.family import Family, Shapes, extent, layers, swap_red_and_blue

_FIRST_BLOCK = 4


def names(shapes: Shapes) -> dict[str, str]:
    """Ours to theirs: each stage has a number, counted through, and within it each layer."""

    def norm(ours: str, theirs: str) -> dict[str, str]:
        return layers(ours, f"in{theirs}", "scale", "shift")

    blocks = _blocks(shapes)
    found = layers("encoder.stem.0", "conv01_1") | norm("encoder.stem.1", "01_1")
    for number in (1, 2):
        down, stage = f"encoder.down{number}", f"{number + 1:02}"
        found |= layers(f"{down}.0", f"conv{stage}_1") | layers(f"{down}.1", f"conv{stage}_2")
        found |= norm(f"{down}.2", f"{stage}_1")
    for block in range(blocks):
        stage = f"{_FIRST_BLOCK + block:02}"
        for number, layer in ((1, 0), (2, 3)):
            found |= layers(f"bottleneck.{block}.branch.{layer}", f"conv{stage}_{number}")
            found |= norm(f"bottleneck.{block}.branch.{layer + 1}", f"{stage}_{number}")
    for number in (1, 2):
        up = f"decoder.up{number}"
        found |= layers(f"{up}.0", f"deconv{number:02}_1") | layers(f"{up}.1", f"deconv{number:02}_2")
        found |= norm(f"{up}.2", f"{_FIRST_BLOCK + blocks + number - 1:02}_1")
    return found | layers("decoder.head", "deconv03_1")


def _blocks(shapes: Shapes) -> int:
    """How many residual blocks a file has; 8 where it has none."""
    blocks = 0
    while f"conv{_FIRST_BLOCK + blocks:02}_1.weight" in shapes:
        blocks += 1
    return blocks or 8


FAMILY = Family(
    name="cartoongan",
    title="CartoonGAN",
    source="Chen, Lai and Liu, converted by Yijunmaverick, CartoonGAN-Test-Pytorch-Torch",
    licence="none stated for the weights, MIT for the code that reads them",
    network=CartoonGenerator,
    arguments=lambda shapes: {"base_channels": extent(shapes, "conv01_1.weight", 0), "num_blocks": _blocks(shapes)},
    names=names,
    mark=("conv01_1.weight", "in01_1.scale"),
    finish=lambda weights: swap_red_and_blue(weights, "encoder.stem.0", "decoder.head"),
)
