"""The output layer of a generator: how the values of the last convolution become a picture.

- ``tanh``: the picture itself, squashed into ``[-1, 1]``, as published.
- ``residual``: what is painted over the photograph. The bare sum replaces tanh and the last layer starts at zero, so
  that training starts from the untouched photograph. The sum is not clamped, since a clamp has no gradient where
  it holds; it can leave ``[-1, 1]``, and ``lit_ghibli.images`` clamps.
- ``luminance``: a residual of one channel, added to red, green and blue alike. The luma (Rec. 601, whose weights sum
  to 1) changes by just that and the differences of color stay: the picture keeps the photograph's palette, as
  in luminance-only transfer (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer").

Either of the last two may also draw outlines: one more channel says how much lighter or darker each pixel becomes where
the photograph's outlines lie. It, too, starts at zero.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.outlining import Ink

Output = Literal["tanh", "residual", "luminance"]


class OutputLayer(nn.Module):
    """What follows the last convolution; it has no weights of its own.

    Args:
        kind: see above.
        in_channels: channels of the photograph.
        out_channels: channels of the picture.
        smoothing: pixels; what is added becomes its mean over a square that reaches so far to all sides, twice.
        outlines: pixels, the width of the outlines that may be drawn, see ``Ink``; 0 for none.

    Attributes:
        channels: that the last convolution gives.
        context: a pixel depends on others at most this far away, in pixels.

    Raises:
        UserError: ``kind`` is unknown, adds to the photograph and the numbers of channels differ, or does not
            and shall be smoothed or get outlines.
    """

    def __init__(
        self, kind: Output, in_channels: int, out_channels: int, smoothing: int = 0, outlines: float = 0
    ) -> None:
        super().__init__()
        if kind not in ("tanh", "residual", "luminance"):
            raise UserError(f"output is {kind!r}; it must be 'tanh', 'residual' or 'luminance'")
        if kind != "tanh" and in_channels != out_channels:
            raise UserError(
                f"output={kind!r} adds to the photograph: in_channels ({in_channels}) and out_channels "
                f"({out_channels}) must be equal; make them so or use output='tanh'"
            )
        if smoothing < 0 or (smoothing and kind == "tanh"):
            raise UserError(
                f"smoothing is {smoothing} pixels for output={kind!r}; it must be at least 0, and 0 for 'tanh', whose "
                "whole picture would be blurred: use output='residual' or 'luminance'"
            )
        if outlines and kind == "tanh":
            raise UserError(
                f"outlines={outlines:g} for output='tanh', whose whole picture is painted anew; they are drawn on what "
                "is painted over the photograph: use output='residual' or 'luminance', or outlines=0"
            )
        self.kind, self.smoothing = kind, smoothing
        self.ink = Ink(outlines) if outlines else None
        self.channels = (1 if kind == "luminance" else out_channels) + bool(outlines)
        self.context = 2 * smoothing + (self.ink.context if self.ink else 0)

    def start(self, convolution: nn.Module) -> None:
        """Give the last convolution the weights that training starts from: zeros where it adds to the photograph."""
        if self.kind != "tanh":
            nn.init.zeros_(convolution.weight)

    def forward(self, values: Tensor, photos: Tensor) -> Tensor:
        """Pictures ``(N, C, H, W)`` of the last convolution's values and of the photographs in ``[-1, 1]``."""
        if self.kind == "tanh":
            return values.tanh()
        for _ in range(2 if self.smoothing else 0):
            values = _mean_over_squares(values, self.smoothing)
        if self.ink is None:
            return photos + values
        return photos + values[:, :-1] + values[:, -1:] * self.ink(photos)

    def extra_repr(self) -> str:
        """What a printed network says of this layer."""
        return f"{self.kind!r}, smoothing={self.smoothing}"


def _mean_over_squares(images: Tensor, reach: int) -> Tensor:
    """Each pixel becomes the mean of those at most ``reach`` rows and columns away; beyond the border there is none."""
    side = 2 * reach + 1
    rows = F.avg_pool2d(images, (side, 1), stride=1, padding=(reach, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), stride=1, padding=(0, reach), count_include_pad=False)
