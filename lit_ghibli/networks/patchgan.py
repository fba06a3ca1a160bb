"""The PatchGAN discriminator: does each overlapping patch of an image look real?"""

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lit_ghibli.errors import UserError
from lit_ghibli.images import luminance
from lit_ghibli.networks.blur_pool import BlurPool, Downsample
from lit_ghibli.networks.initialization import Initialization, init_weights
from lit_ghibli.networks.normalization import normalization_layer

_MAX_MULTIPLIER = 8


class PatchDiscriminator(nn.Module):
    """PatchGAN: C64-C128-C256-C512-1 for the defaults, which sees patches of 70x70 pixels.

    4x4 convolutions with padding 1: ``num_layers`` of stride 2, then two of stride 1; leaky ReLU of
    slope 0.2 between; no norm on the first and the last.

    Args:
        in_channels: channels that are judged: 6 for a conditional one, which sees input and output; 1 for the
            luminance of color images, a deviation for domains whose palettes differ but not by their style.
        base_channels: channels after the first convolution; they double up to 8 times that.
        num_layers: convolutions of stride 2. Receptive field for 1, 2, 3, 4: 16, 34, 70, 142 pixels.
        norm: ``instance``, ``affine_instance``, ``batch`` or ``none``. Before an affine norm convolutions have no
            bias, as in the released code.
        downsample: ``stride``; or ``blur``, for ``BlurPool`` after convolutions of stride 1, as the released code of
            CUT, FastCUT and Scenimefy has it. Receptive field: 18, 40, 84, 172 pixels.
        initialization: ``normal``, from N(0, 0.02), or ``xavier``, of gain 0.02, as the same code has it.
        spectral_norm: divide each convolution's weights by their largest singular value, which one power iteration
            of each forward pass in training keeps up with: Miyato et al. 2018, Algorithm 1.

    Attributes:
        minimum_size: smallest height and width of an image, in pixels.

    Source: Isola et al. 2017, appendix 6.1.2; Zhu et al. 2017, appendix 7.2; ``blur``: Zhang 2019.
    """

    def __init__(
        self,
        in_channels: int = 3,
        base_channels: int = 64,
        num_layers: int = 3,
        norm: str = "instance",
        downsample: Downsample = "stride",
        initialization: Initialization = "normal",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.minimum_size = 3 * 2**num_layers
        if downsample not in ("stride", "blur"):
            raise ValueError(f"downsample is {downsample!r}; it must be 'stride' or 'blur'")
        blur = downsample == "blur"
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, base_channels, kernel_size=4, stride=1 if blur else 2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        channels = base_channels
        for layer in range(1, num_layers + 1):
            previous, channels = channels, base_channels * min(2**layer, _MAX_MULTIPLIER)
            stride = 1 if blur or layer == num_layers else 2
            affine = norm in ("batch", "affine_instance")
            layers += [
                *([BlurPool()] if blur else []),
                nn.Conv2d(previous, channels, 4, stride=stride, padding=1, bias=not affine),
                normalization_layer(norm, channels),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(nn.Conv2d(channels, 1, kernel_size=4, padding=1))
        self.layers = nn.Sequential(*layers)
        init_weights(self, initialization=initialization)
        if spectral_norm:  # afterwards, since it starts from the weights' singular vectors
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d):
                    parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Judge every patch of the images.

        Args:
            images: ``(N, C, H, W)`` in ``[-1, 1]``; C may be 3 where one channel is judged.

        Returns:
            Logits ``(N, 1, H', W')``; for the defaults ``H' = H // 8 - 2``: 256 pixels give 30.

        Raises:
            UserError: if the images are smaller than ``minimum_size``, or have another number of channels.
        """
        judged = self.layers[0].in_channels
        if judged == 1 and images.shape[-3] == 3:
            images = luminance(images)
        channels, height, width = images.shape[-3:]
        if channels != judged:
            raise UserError(
                f"PatchDiscriminator received images of {channels} channels; it was made for in_channels = {judged}: "
                "3, 6 to judge an input and its output together, or 1 to judge the luminance alone"
            )
        if min(height, width) < self.minimum_size:
            raise UserError(
                f"PatchDiscriminator received images of {height}x{width} (height x width); it needs at least "
                f"{self.minimum_size}x{self.minimum_size}: use larger crops or fewer num_layers"
            )
        return self.layers(images)
