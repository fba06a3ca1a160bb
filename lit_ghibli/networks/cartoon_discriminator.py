"""The discriminator of CartoonGAN and AnimeGAN: does each small patch have the clear edges of a drawing?"""

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lit_ghibli.errors import UserError
from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.initialization import init_weights
from lit_ghibli.networks.normalization import InstanceNorm


class CartoonDiscriminator(nn.Module):
    """3x3 convolutions, two of them strided, which judge patches of 37x37 pixels.

    c3s1-32, c3s2-64, c3s1-128 with norm, c3s2-128, c3s1-256 with norm, c3s1-256 with norm, c3s1-1; padding 1 and
    leaky ReLU of slope 0.2 between. The convolutions start from N(0, 0.02), the norms from scale 1 and shift 0.

    CartoonGAN's is the default: 1,129,665 parameters. AnimeGANv2's has layer norm and spectral norm and no biases:
    1,128,800 parameters.

    Args:
        base_channels: after the first convolution; the last but one has eight times as many.
        norm: ``instance``, affine, or ``layer``: one mean and variance of all channels and positions of an image, and
            then a scale and shift of each channel.
        bias: whether convolutions have biases.
        spectral_norm: divide each convolution's weights by their largest singular value, which one power iteration
            of each forward pass in training keeps up with.

    Attributes:
        minimum_size: smallest height and width of an image, in pixels.

    Source: Chen et al. 2018, Fig. 2; Miyato et al. 2018, Algorithm 1.
    """

    minimum_size = 8

    def __init__(
        self,
        base_channels: int = 32,
        norm: Literal["instance", "layer"] = "instance",
        bias: bool = True,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for multiple, stride, normalized in (
            (1, 1, False),
            (2, 2, False),
            (4, 1, True),
            (4, 2, False),
            (8, 1, True),
            (8, 1, True),
        ):
            previous, channels = channels, multiple * base_channels
            layers.append(Conv2d(previous, channels, 3, stride=stride, padding=1, bias=bias))
            if normalized:
                layers.append(_norm(norm, channels))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        layers.append(Conv2d(channels, 1, 3, padding=1, bias=bias))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                init_weights(layer)
                if spectral_norm:  # afterwards, since it starts from the weights' singular vectors
                    parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Judge every patch of the images.

        Args:
            images: ``(N, 3, H, W)`` in ``[-1, 1]``.

        Returns:
            Logits ``(N, 1, H', W')``, H and W over 4, rounded up.

        Raises:
            UserError: on images that are smaller than ``minimum_size``.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.minimum_size:
            raise UserError(
                f"CartoonDiscriminator received images of {height}x{width} (height x width); it needs at least "
                f"{self.minimum_size}x{self.minimum_size}: use larger crops"
            )
        return self.layers(images)


def _norm(name: str, channels: int) -> nn.Module:
    if name == "instance":
        return InstanceNorm(channels, affine=True)
    if name == "layer":
        return nn.GroupNorm(1, channels)
    raise ValueError(f"norm is {name!r}; it must be 'instance' or 'layer'")
