"""The network that paints a photograph in a style that is given as numbers."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.adain import AdaIN, AdaINResidualBlock
from lit_ghibli.networks.convolutions import Conv2d, EnlargingConv2d
from lit_ghibli.networks.sizes import SizedNetwork


class StyleTransformer(SizedNetwork):
    """Encoder, residual blocks, decoder with nearest-neighbour enlargement; the style scales and shifts all features.

    c9s1, 3x3 of stride 2 twice; blocks of two 3x3 each; twice enlargement and 3x3; c9s1 to a sigmoid. All padding is
    reflection. Conditional instance norm, whose scale and shift are linear in the style, follows every convolution
    behind the encoder; ReLU follows those outside of the blocks and the first in each.

    Args:
        channels: of the encoder's three layers and of the decoder's first two.
        num_blocks: residual blocks.
        style_dim: numbers of a style.
        encoder_norm: ``batch`` (of running statistics in eval mode) as in the paper; ``none``: biases, into which
            published weights have folded it; ``conditional`` as behind the encoder.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics of instance
            norm.

    Raises:
        UserError: On another norm.

    Source: Ghiasi et al. 2017, section 3, Dumoulin et al. 2017, Table 1, and Magenta's code, where the two differ.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 64, 32),
        num_blocks: int = 5,
        style_dim: int = 100,
        encoder_norm: Literal["batch", "none", "conditional"] = "batch",
    ) -> None:
        super().__init__()
        norms = {"batch": nn.BatchNorm2d, "none": nn.Identity, "conditional": lambda width: AdaIN(width, style_dim)}
        if encoder_norm not in norms:
            raise UserError(f"encoder_norm is {encoder_norm!r}; it must be one of {', '.join(norms)}")
        full, half, quarter, up_half, up_full = channels
        steps = ((3, full, 9, 1), (full, half, 3, 2), (half, quarter, 3, 2))
        self.contract = nn.ModuleList(
            Conv2d(before, after, size, stride, size // 2, padding_mode="reflect", bias=encoder_norm == "none")
            for before, after, size, stride in steps
        )
        self.contract_norms = nn.ModuleList(norms[encoder_norm](width) for width in (full, half, quarter))
        self.blocks = nn.ModuleList(AdaINResidualBlock(quarter, style_dim, bias=False) for _ in range(num_blocks))
        self.expand = nn.ModuleList(
            [
                EnlargingConv2d(quarter, up_half, bias=False),
                EnlargingConv2d(up_half, up_full, bias=False),
                Conv2d(up_full, 3, 9, padding=4, padding_mode="reflect", bias=False),
            ]
        )
        self.expand_norms = nn.ModuleList(AdaIN(width, style_dim) for width in (up_half, up_full, 3))
        # Full size: first and last 4 each, a stride's and an enlargement's. Half: the others'. A quarter: the blocks'.
        self.context = 11 + 2 * 3 + 4 * 2 * num_blocks

    def forward(self, photos: Tensor, style: Tensor) -> Tensor:
        """Paint photographs.

        Args:
            photos: ``(N, 3, H, W)`` in ``[-1, 1]``, sides multiples of 4.
            style: ``(N, style_dim)``, or ``(1, style_dim)`` for one of all.

        Returns:
            Pictures ``(N, 3, H, W)`` in ``(-1, 1)``.

        Raises:
            UserError: On other sides.
        """
        self.check_size(*photos.shape[-2:])
        features = (photos + 1) / 2
        for convolve, norm in zip(self.contract, self.contract_norms, strict=True):
            features = convolve(features)
            features = F.relu(norm(features, style) if isinstance(norm, AdaIN) else norm(features), inplace=True)
        for block in self.blocks:
            features = block(features, style)
        for convolve, norm in zip(self.expand, self.expand_norms, strict=True):
            features = norm(convolve(features), style)
            if features.shape[1] != 3:
                features = F.relu(features, inplace=True)
        return features.sigmoid() * 2 - 1
