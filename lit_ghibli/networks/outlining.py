"""Outlines that a generator may draw: where lines would lie is computed, how dark they are is learned."""

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.painter.flow import flow
from lit_ghibli.painter.outlines import outlines

# Those of the painter's style meadow, whose lines are 0.9 pixels wide
_THRESHOLD, _GAIN, _CROWDING = 0.006, 20.0, 1.0
_FLOW, _LENGTH = 2.0 / 0.9, 6.0 / 0.9  # widths


class Ink(nn.Module):
    """Where the outlines of photographs lie: coherent lines along their forms. Nothing learns here.

    Args:
        width: Of a line: sigma in pixels, above 0.

    Attributes:
        context: A pixel depends on others at most this far away, in pixels.

    Raises:
        UserError: ``width`` is not above 0.

    Source: Kang, Lee and Chui 2007, "Coherent Line Drawing"; see ``lit_ghibli.painter.outlines``.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        if not width > 0:
            raise UserError(f"outlines must be a width in pixels, or 0 for none; got {width}")
        self.width = width
        self.length = max(round(_LENGTH * width), 1)
        # Derivatives, the tensor's blur, steps along a line, the wider Gaussian of its profile, and a crowd's blur
        self.context = 1 + round(3 * _FLOW * width) + self.length + round(3 * 1.6 * width) + round(3 * 9 * width)

    @torch.no_grad()
    def forward(self, photos: Tensor) -> Tensor:
        """``(N, 1, H, W)`` of photographs ``(N, 3, H, W)`` in ``[-1, 1]``: 0 beside lines, to 1 in their middle."""
        with torch.autocast(photos.device.type, enabled=False):
            unit = photos.float() / 2 + 0.5
            forms = flow(unit, _FLOW * self.width)
            return outlines(unit, forms, self.width, _THRESHOLD, _GAIN, self.length, _CROWDING).to(photos.dtype)

    def extra_repr(self) -> str:
        """What a printed network says of this layer."""
        return f"{self.width:g}"
