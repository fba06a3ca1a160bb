"""Photographs flattened before they are translated: a short training has no time to unlearn a photograph's texture."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.painter.l0 import l0_smooth

_GROWTH, _BETA_MAX = 4.0, 1e3  # seven rounds: edges stay, and skies keep their gradients, which more would cut in bands


class Flatten(nn.Module):
    """Takes what is finer than strokes from pictures: L0 gradient minimisation, which keeps edges.

    Gradients pass as if nothing had been done.

    Args:
        weight: The price of a change of color, lambda; 0 leaves pictures as they are.

    Raises:
        UserError: ``weight`` is below 0.

    Source: Xu et al. 2011, "Image smoothing via L0 gradient minimization".
    """

    def __init__(self, weight: float = 0) -> None:
        super().__init__()
        if not weight >= 0:
            raise UserError(f"flatten must be 0 or more; got {weight}")
        self.weight, self.done = weight, False

    def forward(self, pictures: Tensor) -> Tensor:
        """Flatten ``(N, 3, H, W)`` in ``[-1, 1]``; the result has the same shape, range and dtype."""
        if not self.weight or self.done:
            return pictures
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
            flat = l0_smooth(pictures.float() / 2 + 0.5, self.weight, _GROWTH, _BETA_MAX) * 2 - 1
        return pictures + (flat.clamp(-1, 1).to(pictures.dtype) - pictures.detach())

    def extra_repr(self) -> str:
        """What a printed network says of this layer."""
        return f"{self.weight:g}"


@contextmanager
def flattened_before(network: nn.Module) -> Iterator[None]:
    """Inside, a generator takes photographs that have been flattened: as a whole, before they are cut into tiles."""
    layer = getattr(network, "flatten", None) or Flatten()  # not one further inside, which gets what others make
    layer.done = True
    try:
        yield
    finally:
        layer.done = False
