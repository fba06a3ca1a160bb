"""Self-attention that a generator learns to use: at the start it changes nothing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.networks.normalization import Recorded


class GatedAttention(Recorded, nn.Module):
    """Every position takes from all others what it asks for, times a learned factor that starts at 0, plus itself.

    Queries and keys have an eighth of the channels, at least one; there is no norm, and no scale before the softmax.

    It looks at the whole picture. With ``statistics`` set, keys and values are given instead; the tiles of a huge
    photograph then see alike, and leave no seams.

    Args:
        channels: of input and output.

    Source: Zhang et al. 2019, SAGAN, Eqs. 1-3 (arXiv:1805.08318), without its spectral norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 8)
        self.query, self.key = nn.Conv2d(channels, narrow, 1), nn.Conv2d(channels, narrow, 1)
        self.value, self.out = nn.Conv2d(channels, narrow, 1), nn.Conv2d(narrow, channels, 1)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Transform ``(N, C, H, W)`` to the same shape."""
        query = self.query(features).flatten(2).mT.contiguous()  # (N, H * W, C / 8)
        if self.statistics is None or self.recording:
            key, value = (part(features).flatten(2).mT.contiguous() for part in (self.key, self.value))
            if self.recording:
                self.statistics.append((key.detach(), value.detach()))
        else:
            key, value = (part.expand(len(query), -1, -1) for part in self.next_statistics())
        one_head = (part[:, None] for part in (query, key, value))  # 3-d inputs cannot be exported
        attended = F.scaled_dot_product_attention(*one_head, scale=1.0)[:, 0]
        return features + self.gate * self.out(attended.mT.unflatten(2, features.shape[2:]))
