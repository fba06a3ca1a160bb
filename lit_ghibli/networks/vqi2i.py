"""The networks of VQ-I2I that translate: two encoders of style, one of content, a codebook, two decoders."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.attention import Attention
from lit_ghibli.networks.content_coding import ContentDecoder, ContentEncoder, context
from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.quantizer import Quantized, VectorQuantizer
from lit_ghibli.networks.sizes import SizedNetwork
from lit_ghibli.networks.style_encoder import StyleEncoder

Domain = Literal["a", "b"]

_STYLE_SIDE = 256  # pixels


class VqGenerator(SizedNetwork):
    """Content of one picture, as codes, painted in the style of another: 569.5 M parameters for the defaults.

    In the report's words: VQI2I_AdaIN; what its VQI2ICrossGAN_AdaIN adds is which decoder and style are taken, and
    here an argument. Its ``encode`` is :meth:`encode_content` and :meth:`encode_style` together; its label 1 is domain
    ``a``, photographs; ``b`` are anime pictures.

    Args:
        base_channels: of the content's encoder and of the decoders at full resolution.
        multipliers: of these channels, for each resolution from full to lowest; each halves it.
        num_blocks: residual blocks at each resolution; the decoders have one more.
        attention: ``linear`` or ``full``.
        attention_strides: resolutions that have attention, as pixels of the picture for one position; the middle of
            encoder and decoders always has.
        z_channels: of what the content's encoder gives.
        double_z: twice as many.
        dropout: share of features that residual blocks leave out in training.
        num_codes: vectors in the codebook.
        code_dim: numbers of each.
        codebook_ema: decay of moving means in place of a learned codebook; 0 learns it by gradient.
        restart_after: training steps without being chosen after which a code starts again; 0 for never.
        num_adain_blocks: residual blocks of each decoder by which the style enters.
        style_dim: numbers of a style.
        style_channels: of the styles' encoders at full resolution.
        style_downs: their convolutions of stride 2.
        style_hidden: width of the perceptron between a style and AdaIN; 0 for none.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics of norms
            and what attention sees.
        patch: side, in pixels, of the patches that stand for a photograph too large for one pass: at the lowest
            resolution a small one would be all border.
        style_mean: of the anime pictures seen in training, ``(style_dim,)``: the style of translations, if no other
            is given.
        style_std: their deviation, ``(style_dim,)``.

    Raises:
        UserError: A setting that fits no network.

    Source: Chen et al. 2022, "Vector Quantized Image-to-Image Translation", arXiv:2207.13286, section 3.
    """

    style_mean: Tensor
    style_std: Tensor

    def __init__(
        self,
        base_channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 4, 8),
        num_blocks: int = 2,
        attention: Attention = "linear",
        attention_strides: Sequence[int] = (16,),
        z_channels: int = 128,
        double_z: bool = True,
        dropout: float = 0.1,
        num_codes: int = 512,
        code_dim: int = 512,
        codebook_ema: float = 0.0,
        restart_after: int = 0,
        num_adain_blocks: int = 4,
        style_dim: int = 128,
        style_channels: int = 128,
        style_downs: int = 3,
        style_hidden: int = 0,
    ) -> None:
        super().__init__()
        self.size_multiple = 2 ** (len(multipliers) - 1)
        unfit = [stride for stride in attention_strides if stride not in (2**k for k in range(len(multipliers)))]
        if unfit:
            raise UserError(
                f"method.generator.attention_strides has {unfit[0]}; with {len(multipliers)} multipliers there are the "
                f"strides {', '.join(str(2**k) for k in range(len(multipliers)))}"
            )
        # Reflection needs two positions at the lowest resolution, and four pixels for what it pads at the highest.
        self.minimum_size = max(2 * self.size_multiple, 2 ** (style_downs + 1))
        self.patch = 16 * self.size_multiple
        self.context = context(multipliers, num_blocks, num_adain_blocks)
        z = z_channels * (2 if double_z else 1)
        shape = (base_channels, multipliers, num_blocks, attention, attention_strides, dropout)
        self.content_encoder = ContentEncoder(z, *shape)
        self.before_quantizer, self.after_quantizer = Conv2d(z, code_dim, 1), Conv2d(code_dim, z, 1)
        self.quantizer = VectorQuantizer(num_codes, code_dim, codebook_ema, restart_after)
        self.style_encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        for domain in ("a", "b"):
            self.style_encoders[domain] = StyleEncoder(style_dim, style_channels, style_downs)
            self.decoders[domain] = ContentDecoder(z, *shape, num_adain_blocks, style_dim, style_hidden)
        self.register_buffer("style_mean", torch.zeros(style_dim))
        self.register_buffer("style_std", torch.zeros(style_dim))
        self.register_buffer("_styles_seen", torch.zeros((), dtype=torch.long))

    def encode_content(self, pictures: Tensor) -> Quantized:
        """The report's ``encode_content``: what ``(N, 3, H, W)`` in ``[-1, 1]`` show, before and after quantisation.

        Raises:
            UserError: on a height or width that is too small or no multiple of ``size_multiple``.
        """
        self.check_size(*pictures.shape[-2:])
        return self.quantizer(self.before_quantizer(self.content_encoder(pictures)))

    def encode_style(self, pictures: Tensor, domain: Domain) -> Tensor:
        """The report's ``encode_style``: the styles ``(N, style_dim)`` of pictures of a domain."""
        return self.style_encoders[domain](pictures)

    def embed(self, pictures: Tensor) -> Tensor:
        """The styles ``(N, style_dim)`` of anime pictures ``(N, 3, H, W)`` in ``[-1, 1]`` of any size.

        Larger ones are reduced to a shorter side of 256 pixels, where strokes are about as broad as in training.
        """
        factor = _STYLE_SIDE / min(pictures.shape[-2:])
        if factor < 1:
            size = [round(side * factor) for side in pictures.shape[-2:]]
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        return self.encode_style(pictures, "b")

    def decode(self, content: Tensor, style: Tensor, domain: Domain) -> Tensor:
        """The report's ``decode_a`` and ``decode_b``: paint ``(N, code_dim, h, w)`` in the style ``(N, style_dim)``."""
        return self.decoders[domain](self.after_quantizer(content), style)

    def reconstruct(self, photos: Tensor) -> Tensor:
        """Photographs, by their codes and their own style."""
        return self.decode(self.encode_content(photos).nearest, self.encode_style(photos, "a"), "a")

    def forward(self, photos: Tensor, style: Tensor | None = None) -> Tensor:
        """Translate photographs into domain ``b``: the report's ``cross`` with a style given.

        Args:
            photos: ``(N, 3, H, W)`` in ``[-1, 1]``; H and W multiples of ``size_multiple``.
            style: ``(N or 1, style_dim)``; None for ``style_mean``.

        Returns:
            Pictures ``(N, 3, H, W)``, which may leave ``[-1, 1]``.

        Raises:
            UserError: on a height or width that is too small or no multiple of ``size_multiple``.
        """
        style = self.style_mean[None] if style is None else style
        return self.decode(self.encode_content(photos).nearest, style.expand(len(photos), -1), "b")

    def sample_style(self, generator: torch.Generator) -> Tensor:
        """A style ``(1, style_dim)`` from a normal distribution with the mean and deviation of those of anime."""
        noise = torch.randn(1, len(self.style_mean), generator=generator)
        return self.style_mean + self.style_std * noise.to(self.style_mean)

    @torch.no_grad()
    def observe_styles(self, styles: Tensor) -> None:
        """Let ``style_mean`` and ``style_std`` follow the anime styles ``(N, style_dim)`` of a training step.

        They are moving averages over about 100 steps. Of several processes all have the same.
        """
        moments = torch.stack([styles.mean(dim=0), styles.square().mean(dim=0)]).to(self.style_mean.dtype)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
            moments /= dist.get_world_size()
        self._styles_seen += 1
        share = (1 / self._styles_seen).clamp(min=0.01).to(moments)
        square = self.style_std.square() + self.style_mean.square()
        self.style_mean.lerp_(moments[0], share)
        self.style_std.copy_((square.lerp(moments[1], share) - self.style_mean.square()).clamp(min=0).sqrt())
