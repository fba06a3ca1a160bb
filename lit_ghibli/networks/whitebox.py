"""The generator of White-box Cartoonization, with the guided filter that its pictures pass through."""

import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.initialization import init_weights
from lit_ghibli.networks.sizes import SizedNetwork
from lit_ghibli.networks.upsampling import bilinear_upsample

_RADIUS, _EPSILON = 1, 5e-3  # of the guided filter, as the authors translate with


class WhiteBoxGenerator(SizedNetwork):
    """U-Net of White-box Cartoonization: down to a quarter, residual blocks, up again, no norm, no tanh.

    c7s1-32 at the full size; 3x3 to 32 with stride 2, 3x3 to 64; 3x3 to 64 with stride 2, 3x3 to 128; the blocks, two
    3x3 each; 3x3 to 64; twice bilinear enlargement as of TensorFlow 1 and the sum with what had that size on the way
    down, then 3x3 to 64 and to 32, and 3x3 to 32; c7s1-3. Leaky ReLU of slope 0.2 after all but the last. Zero padding,
    of the strided convolutions at the bottom and right alone. A guided filter with the photograph as its guide, radius
    1 and epsilon 0.005, makes the picture of that. 1,467,075 parameters with the four blocks of the authors.

    No layer looks at the whole picture, so that tiles have no seams.

    Args:
        base_channels: channels at full resolution; the blocks have four times as many.
        num_blocks: residual blocks.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels.

    Source: Wang and Yu 2020, "Learning to Cartoonize Using White-box Cartoon Representations", and its released code.
    """

    size_multiple = minimum_size = 4

    def __init__(self, base_channels: int = 32, num_blocks: int = 4) -> None:
        super().__init__()
        full, half, quarter = base_channels, 2 * base_channels, 4 * base_channels
        self.stem = Conv2d(3, full, 7, padding=3)
        self.down1 = Conv2d(full, full, 3, stride=2)
        self.grow1 = Conv2d(full, half, 3, padding=1)
        self.down2 = Conv2d(half, half, 3, stride=2)
        self.grow2 = Conv2d(half, quarter, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Conv2d(quarter, quarter, 3, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
                Conv2d(quarter, quarter, 3, padding=1),
            )
            for _ in range(num_blocks)
        )
        self.shrink1 = Conv2d(quarter, half, 3, padding=1)
        self.joined1 = Conv2d(half, half, 3, padding=1)
        self.shrink2 = Conv2d(half, full, 3, padding=1)
        self.joined2 = Conv2d(full, full, 3, padding=1)
        self.head = Conv2d(full, 3, 7, padding=3)
        # Full size: filter 2, head 3, joined2 1, stem 3, down1 and enlargement 2 each. Half: three 3x3, down2 and
        # enlargement 2 each. Quarter: two 3x3 beside the blocks.
        self.context = 13 + 2 * (3 + 4) + 4 * (2 + 2 * num_blocks)
        init_weights(self)

    def forward(self, photos: Tensor) -> Tensor:
        """Paint ``(N, 3, H, W)``, RGB in ``[-1, 1]``, sides multiples of 4; values may pass the range by a little.

        Raises:
            UserError: On other sides.
        """
        self.check_size(*photos.shape[-2:])
        full = _layer(self.stem, photos)
        half = _layer(self.grow1, _halve(self.down1, full))
        features = _layer(self.grow2, _halve(self.down2, half))
        for block in self.blocks:
            features = features + block(features)
        features = _layer(self.shrink1, features)
        features = _layer(self.shrink2, _layer(self.joined1, bilinear_upsample(features, "legacy") + half))
        features = _layer(self.joined2, bilinear_upsample(features, "legacy") + full)
        return guided_filter(photos, self.head(features), _RADIUS, _EPSILON)


def guided_filter(guide: Tensor, picture: Tensor, radius: int, epsilon: float) -> Tensor:
    """What of a picture is, in small squares, a linear function of a guide, channel by channel.

    Args:
        guide: ``(N, C, H, W)``.
        picture: Of the same shape.
        radius: Of the squares, in pixels; at the borders they end with the picture.
        epsilon: Variance of the guide, in a square, below which the picture is blurred rather than follows it.

    Source: He, Sun, Tang 2013, "Guided Image Filtering", Eq. 5, 6 and 8.
    """

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    mean_guide, mean_picture = mean(guide), mean(picture)
    covariance = mean(guide * picture) - mean_guide * mean_picture
    slope = covariance / (mean(guide * guide) - mean_guide * mean_guide + epsilon)
    return mean(slope) * guide + mean(mean_picture - slope * mean_guide)


def _layer(convolution: nn.Module, features: Tensor) -> Tensor:
    return F.leaky_relu(convolution(features), 0.2, inplace=True)


def _halve(convolution: nn.Module, features: Tensor) -> Tensor:
    return _layer(convolution, F.pad(features, (0, 1, 0, 1)))
