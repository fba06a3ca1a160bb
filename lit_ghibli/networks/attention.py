"""Self-attention over the positions of a feature map, added to it."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.normalization import GroupNorm, Recorded

Attention = Literal["linear", "full"]


class SelfAttention(Recorded, nn.Module):
    """Every position takes from all others what it asks for: one head, as wide as the features.

    ``full`` is Vaswani's: for each position a softmax over all positions, whose number it costs to the square.
    ``linear`` takes the softmax of the keys over the positions first and keeps a C x C matrix of what the picture
    holds, so that time and memory grow with the number of positions only.

    It looks at the whole picture. With ``statistics`` set, keys and values are given instead: those of ``full``, or
    that matrix of ``linear``; the tiles of a huge photograph then see alike, and leave no seams.

    Args:
        channels: of input and output.
        kind: ``linear`` or ``full``.

    Raises:
        UserError: on another kind.

    Source: Vaswani et al. 2017, Eq. 1; ``linear``: Shen et al. 2021, section 3.2. Norm and sum as in Esser et al.
    2021; the released linear attention of latent diffusion has neither.
    """

    def __init__(self, channels: int, kind: Attention = "linear") -> None:
        super().__init__()
        if kind not in ("linear", "full"):
            raise UserError(f"attention is {kind!r}; it must be 'linear' or 'full'")
        self.kind = kind
        self.norm = GroupNorm(channels)
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, features: Tensor) -> Tensor:
        """Transform ``(N, C, H, W)`` to the same shape."""
        normalized = self.norm(features)
        query = self.query(normalized).flatten(2)  # (N, C, H * W)
        if self.statistics is None or self.recording:
            key, value = self.key(normalized).flatten(2), self.value(normalized).flatten(2)
            if self.kind == "linear":
                key, value = self.remembered((key.softmax(dim=2) @ value.mT, value.new_empty(0)))
            if self.recording:
                self.statistics.append((key.detach(), value.detach()))
        else:
            key, value = self.next_statistics()
        if self.kind == "linear":
            attended = key.mT @ query
        else:
            size = (len(query), -1, -1)
            parts = (part.mT for part in (query, key.expand(size), value.expand(size)))
            attended = F.scaled_dot_product_attention(*(part.contiguous() for part in parts)).mT
        return features + self.out(attended.reshape(features.shape))

    def extra_repr(self) -> str:
        """What a printed network says of this layer."""
        return f"kind={self.kind!r}"
