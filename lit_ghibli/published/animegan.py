"""AnimeGANv2's generator, in the layouts of its authors' checkpoints of TensorFlow and of two PyTorch codes."""

from collections.abc import Sequence

from torch import Tensor

from lit_ghibli.networks.animegan import AnimeGenerator
from lit_ghibli.published.family import Family, Shapes, extent, layers, of_tensorflow

# Our layers by their number within what the layouts call A to E; 1 to 4 in C are the inverted residual blocks.
_GROUPS = (
    {0: "encoder.0", 1: "encoder.1", 2: "encoder.2"},
    {0: "encoder.3", 1: "encoder.4"},
    {0: "bottleneck.0", 5: "bottleneck.5"},
    {0: "decoder.0", 1: "decoder.1"},
    {0: "decoder.2", 1: "decoder.3", 2: "decoder.4"},
)
_BLOCKS = range(1, 5)
_PARTS = ("expand.convolution", "expand.norm", "depthwise.convolution", "depthwise.norm", "project", "norm")
_WITHOUT_BIAS = ("expand.convolution", "project")
_HEAD = "decoder.5"
_NAME, _TITLE = "animegan2", "AnimeGANv2"


def of_pytorch(
    groups: Sequence[str], convolution: str, norm: str, parts: Sequence[str], head: str, head_bias: str = ""
) -> dict[str, str]:
    """Ours to theirs in a PyTorch layout: names of the groups, and of the layers in a group and in a block."""
    found = layers(_HEAD, head, bias=head_bias)
    for group, members in zip(groups, _GROUPS, strict=True):
        for number, ours in members.items():
            found |= layers(f"{ours}.convolution", f"{group}.{number}.{convolution}", bias="")
            found |= layers(f"{ours}.norm", f"{group}.{number}.{norm}")
    for block in _BLOCKS:
        for ours, theirs in zip(_PARTS, parts, strict=True):
            bias = "" if ours in _WITHOUT_BIAS else "bias"
            found |= layers(f"bottleneck.{block}.{ours}", f"{groups[2]}.{block}.{theirs}", bias=bias)
    return found


def of_authors(_: Shapes) -> dict[str, str]:
    """Ours to theirs in a checkpoint of TensorFlow, which counts layers of a kind within each scope."""
    root = "generator/G_MODEL"
    found = {f"{_HEAD}.weight": f"{root}/out_layer/Conv/weights"}
    for group, members in zip("ABCDE", _GROUPS, strict=True):
        for number, ours in enumerate(members.values()):
            count = f"_{number}" if number else ""
            found[f"{ours}.convolution.weight"] = f"{root}/{group}/Conv{count}/weights"
            found |= _norm(f"{ours}.norm", f"{root}/{group}/LayerNorm{count}")
    for block in _BLOCKS:
        ours, theirs = f"bottleneck.{block}", f"{root}/C/r{block}"
        found[f"{ours}.expand.convolution.weight"] = f"{theirs}/Conv/weights"
        found[f"{ours}.depthwise.convolution.weight"] = f"{theirs}/r{block}/w"
        found[f"{ours}.depthwise.convolution.bias"] = f"{theirs}/r{block}/bias"
        found[f"{ours}.project.weight"] = f"{theirs}/Conv_1/weights"
        for norm, scope in (("expand.norm", "LayerNorm"), ("depthwise.norm", "1"), ("norm", "2")):
            found |= _norm(f"{ours}.{norm}", f"{theirs}/{scope}")
    return found


def _norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.weight": f"{theirs}/gamma", f"{ours}.bias": f"{theirs}/beta"}


def _layout(name: str, tensor: Tensor) -> Tensor:
    """A kernel as PyTorch has it; of a depthwise one the last two axes are channels and one."""
    return tensor.permute(2, 3, 0, 1) if name.endswith("/w") and tensor.dim() == 4 else of_tensorflow(name, tensor)


AUTHORS = Family(
    name=_NAME,
    title=_TITLE,
    source="Chen and Liu, AnimeGANv2",
    licence="non-commercial",
    network=AnimeGenerator,
    arguments=lambda shapes: {
        "base_channels": extent(shapes, "generator/G_MODEL/A/Conv/weights", 3),
        "upsample": "legacy",
    },
    names=of_authors,
    mark=("generator/G_MODEL/A/Conv/weights",),
    dropped=r"(?!generator/).*|generator/.*/Adam(_1)?",  # the rest of a training
    layout=_layout,
)
# What was trained by this code, rather than converted, enlarges from corner to corner.
PYTORCH = Family(
    name=_NAME,
    title=_TITLE,
    source="bryandlee, animegan2-pytorch",
    licence="MIT for the code; weights converted from AnimeGANv2's, such as paprika, non-commercial",
    network=AnimeGenerator,
    arguments=lambda shapes: {
        "base_channels": extent(shapes, "block_a.0.1.weight", 0),
        "upsample": "align_corners",
    },
    names=lambda _: of_pytorch(
        [f"block_{letter}" for letter in "abcde"],
        "1",
        "2",
        [f"layers.{part}" for part in ("0.1", "0.2", "1.1", "1.2", "2", "3")],
        "out_layer.0",
    ),
    mark=("block_a.0.1.weight",),
)
PORT = Family(
    name=_NAME,
    title=_TITLE,
    source="ptran1203, pytorch-animeGAN",
    licence="none stated",
    network=AnimeGenerator,
    arguments=lambda shapes: {
        "base_channels": extent(shapes, "conv_block1.0.conv.weight", 0),
        "upsample": "half_pixel",
        "head_bias": True,
    },
    names=lambda _: of_pytorch(
        ["conv_block1", "conv_block2", "res_blocks", "conv_block3", "conv_block4"],
        "conv",
        "ins_norm",
        ["conv_block.conv", "conv_block.ins_norm", "conv_block2.conv", "conv_block2.ins_norm", "conv", "norm"],
        "decode_blocks.0",
        "bias",
    ),
    mark=("conv_block1.0.conv.weight",),
)
FAMILIES = (AUTHORS, PYTORCH, PORT)
