"""A small network for painting on a CPU: it works on a picture folded to a half and a quarter of its size."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_ghibli.networks.generator import Generator
from lit_ghibli.networks.outputs import Output


class PaintingNetwork(Generator):
    """Residual blocks without normalisation at a half and, between two of them, at a quarter of the picture's size.

    No layer looks at the whole picture, so that tiles have no seams, and what is painted somewhere does not depend on
    the rest of the picture.

    Args:
        channels: Width at half the size.
        deep_channels: Width at a quarter.
        dilations: Of the second convolution of each block there: more than 1 sees further at no cost.
        output: ``residual``, ``luminance`` or ``tanh``; see ``Generator``, as for the next three.
        smoothing: Of what is painted over the photograph, in pixels.
        outlines: That it may draw, their width in pixels.
        flatten: Of photographs before they are painted.
    """

    size_multiple = minimum_size = 4

    def __init__(
        self,
        channels: int = 20,
        deep_channels: int = 48,
        dilations: Sequence[int] = (1, 2, 1, 2),
        output: Output = "residual",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
    ) -> None:
        super().__init__(output, smoothing, outlines, flatten)
        self.arguments = {
            "channels": channels,
            "deep_channels": deep_channels,
            "dilations": list(dilations),
            "output": output,
            "smoothing": smoothing,
            "outlines": outlines,
            "flatten": flatten,
        }
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.first = nn.Conv2d(12, channels, 3, padding=1)
        self.before = ResidualBlock(channels, 1)
        self.down = nn.Conv2d(4 * channels, deep_channels, 1)
        self.deep = nn.Sequential(*(ResidualBlock(deep_channels, dilation) for dilation in dilations))
        self.up = nn.Conv2d(deep_channels, 4 * channels, 1)
        self.after = ResidualBlock(channels, 1)
        self.last = nn.Conv2d(channels, 4 * self.output.channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # begins as the photograph itself
        nn.init.zeros_(self.last.bias)
        reach = 2 * (2 + 4) + 4 * sum(1 + dilation for dilation in dilations) + self.size_multiple
        self.context = reach + self.output.context

    def _values(self, photos: Tensor) -> Tensor:
        half = self.before(torch.relu(self.first(self.unshuffle(photos))))
        quarter = self.deep(self.down(self.unshuffle(half)))
        half = self.after(half + self.shuffle(self.up(quarter)))
        return self.shuffle(self.last(half))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to the same shape."""
        return features + self.second(torch.relu(self.first(features)))
