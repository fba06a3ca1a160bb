"""The encoder of a picture's style: a few numbers that know nothing of places."""

import itertools

from torch import Tensor, nn

from lit_ghibli.networks.convolutions import Conv2d


class StyleEncoder(nn.Module):
    """c7s1-h, then 4x4 convolutions of stride 2 to 2h, 4h, 4h, ..., each with a ReLU; global mean; a linear layer.

    No norm, which would take away what is to be measured; reflection padding.

    Args:
        style_dim: numbers of a style.
        base_channels: h.
        num_downs: convolutions of stride 2, at least 2.

    Source: Huang et al. 2018, MUNIT, appendix B; 6,901,632 parameters for the report's 128, 128, 3.
    """

    def __init__(self, style_dim: int = 128, base_channels: int = 128, num_downs: int = 3) -> None:
        super().__init__()
        widths = [base_channels, 2 * base_channels] + [4 * base_channels] * (num_downs - 1)
        layers: list[nn.Module] = [Conv2d(3, base_channels, 7, padding=3, padding_mode="reflect"), nn.ReLU(True)]
        for before, after in itertools.pairwise(widths):
            layers += [Conv2d(before, after, 4, stride=2, padding=1, padding_mode="reflect"), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], style_dim)

    def forward(self, pictures: Tensor) -> Tensor:
        """Measure the style ``(N, style_dim)`` of ``(N, 3, H, W)`` in ``[-1, 1]``."""
        return self.last(self.layers(pictures).mean(dim=(2, 3)))
