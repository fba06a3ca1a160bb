"""Painting in the style of any picture, in one pass: a network that describes styles and one that paints in them."""

from typing import Literal

import torch
from torch import Tensor

from lit_ghibli.networks.sizes import SizedNetwork
from lit_ghibli.networks.style_predictor import StylePredictor
from lit_ghibli.networks.style_transformer import StyleTransformer

_CHANNELS = (32, 64, 128, 64, 32)  # of the paper's transformer


class ArbitraryStylization(SizedNetwork):
    """A style predictor and the transformer that its numbers steer.

    Args:
        width: factor on the transformer's channels: 1 in the paper, 0.25 in Magenta's published weights.
        backbone: of the predictor, ``mobilenet`` or ``inception``.
        encoder_norm: of the transformer's encoder, ``none`` in the published weights, ``batch`` in the paper.

    Attributes:
        style: the style ``(1, 100)`` of pictures for which none is given: the mean of a training's, at first zeros.
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
        context: as of :class:`~lit_ghibli.networks.style_transformer.StyleTransformer`.

    Source: Ghiasi et al. 2017, Exploring the structure of a real-time, arbitrary neural artistic stylization network.
    """

    def __init__(
        self,
        width: float = 0.25,
        backbone: Literal["mobilenet", "inception"] = "mobilenet",
        encoder_norm: Literal["batch", "none"] = "none",
    ) -> None:
        super().__init__()
        self.predictor = StylePredictor(backbone=backbone)
        self.transformer = StyleTransformer([round(width * each) for each in _CHANNELS], encoder_norm=encoder_norm)
        self.register_buffer("style", torch.zeros(1, self.predictor.head.out_features))
        self.context = self.transformer.context

    def forward(self, photos: Tensor, style: Tensor | None = None) -> Tensor:
        """Paint photographs.

        Args:
            photos: ``(N, 3, H, W)`` in ``[-1, 1]``, sides multiples of 4.
            style: ``(N, 100)`` or ``(1, 100)``, of :meth:`embed`; None for :attr:`style`.

        Returns:
            Pictures ``(N, 3, H, W)`` in ``(-1, 1)``.

        Raises:
            UserError: On other sides.
        """
        return self.transformer(photos, self.style if style is None else style)

    def embed(self, pictures: Tensor) -> Tensor:
        """Describe the style of ``(N, 3, H, W)`` in ``[-1, 1]``, of any size, by ``(N, 100)``."""
        return self.predictor.embed(pictures)


def published_weights() -> dict[str, Tensor]:
    """State dict of an :class:`ArbitraryStylization` of Magenta's weights.

    Raises:
        UserError: They are not there.
    """
    from lit_ghibli.networks.pretrained.magenta import mobilenet_weights, transformer_weights

    parts = {"predictor": mobilenet_weights(), "transformer": transformer_weights()}
    weights = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    return {**weights, "style": torch.zeros(1, len(weights["predictor.head.bias"]))}
