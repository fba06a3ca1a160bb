"""Vector quantisation: features become the nearest of a few learned vectors, the codes."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError

_RECENT = 100  # training steps, within which a code in use was chosen


class Quantized(NamedTuple):
    """Features, and the codes that stand for them."""

    features: Tensor  # (N, D, h, w), as given
    nearest: Tensor  # (N, D, h, w), the codes' vectors, through which gradients reach the codebook
    codes: Tensor  # (N, h, w), their numbers

    @property
    def straight_through(self) -> Tensor:
        """The codes' vectors, whose gradients reach the features as if nothing had been rounded."""
        return self.features + (self.nearest - self.features).detach()


class VectorQuantizer(nn.Module):
    """A codebook, from uniform vectors in ``[-1 / num_codes, 1 / num_codes]``.

    Two remedies for a collapse, in which few codes are chosen and the others never learn, are left off:

    - ``ema``: each code follows the mean of the features that choose it, instead of learning by gradient.
    - ``restart_after``: a code that was not chosen for so many steps becomes a random feature of this one.

    Args:
        num_codes: vectors in the codebook.
        dim: of each.
        ema: decay of the moving means, in ``[0, 1)``; 0 leaves the codes to the optimiser.
        restart_after: training steps; 0 never.

    Attributes:
        idle: for each code, the training steps since it was last chosen. A new codebook counts as never chosen, so that
            with ``restart_after`` the first step puts it on that step's features.

    Raises:
        UserError: on a decay out of its range.

    Source: van den Oord et al. 2017, section 3.1, Eq. 2 and, for ``ema``, appendix A.1; ``restart_after``: Dhariwal
    et al. 2020, Jukebox, section 3.1.
    """

    idle: Tensor

    def __init__(self, num_codes: int = 512, dim: int = 512, ema: float = 0.0, restart_after: int = 0) -> None:
        super().__init__()
        if not 0 <= ema < 1:
            raise UserError(f"method.generator.codebook_ema must be at least 0 and below 1; got {ema}")
        self.ema, self.restart_after = ema, restart_after
        start = torch.empty(num_codes, dim).uniform_(-1 / num_codes, 1 / num_codes)
        self.codebook = nn.Parameter(start, requires_grad=not ema)
        self.register_buffer("idle", torch.full((num_codes,), max(_RECENT, restart_after)))
        if ema:
            self.register_buffer("sizes", torch.ones(num_codes))
            self.register_buffer("sums", start.clone())

    def forward(self, features: Tensor) -> Quantized:
        """Find the nearest code, by Euclidean distance, of each position of ``(N, D, h, w)``; the first of equals."""
        vectors = _vectors(features.detach())
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            codebook = self.codebook.to(torch.promote_types(self.codebook.dtype, torch.float32))
            # The square of the feature itself is the same for all codes.
            distances = torch.addmm(codebook.square().sum(dim=1), vectors.to(codebook.dtype), codebook.T, alpha=-2)
            codes = distances.argmin(dim=1).view(len(features), *features.shape[2:])
        return Quantized(features, self.look_up(codes).to(features.dtype), codes)

    def look_up(self, codes: Tensor) -> Tensor:
        """The vectors ``(N, D, h, w)`` of codes ``(N, h, w)``."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)

    @property
    def in_use(self) -> Tensor:
        """Share of the codes that one of the last 100 training steps has chosen, in ``[0, 1]``."""
        return (self.idle < _RECENT).float().mean()

    @torch.no_grad()
    def observe(self, *quantized: Quantized) -> None:
        """Take note of what a training step has chosen, once a step: moving means, idle codes, restarts.

        Of several processes each sees the choices of all, and all have the same codebook afterwards.
        """
        vectors = torch.cat([_vectors(each.features) for each in quantized]).to(self.codebook.dtype)
        chosen = F.one_hot(torch.cat([each.codes.flatten() for each in quantized]), len(self.codebook))
        counts = _summed_over_processes(chosen.sum(dim=0))
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        if self.ema:
            with torch.autocast(vectors.device.type, enabled=False):
                sums = _summed_over_processes(chosen.T.to(vectors.dtype) @ vectors)
            self.sizes.lerp_(counts.to(self.sizes.dtype), 1 - self.ema)
            self.sums.lerp_(sums, 1 - self.ema)
            # Codes that are hardly ever chosen keep their place: a quotient of two tiny numbers is none.
            kept = self.sizes < 1e-3
            self.codebook.copy_(torch.where(kept[:, None], self.codebook, self.sums / self.sizes[:, None]))
        if self.restart_after and (dead := self.idle >= self.restart_after).any():
            drawn = torch.randint(len(vectors), (int(dead.sum()),), device=torch.device("cpu"))
            replacement = vectors[drawn.to(vectors.device)]
            if dist.is_available() and dist.is_initialized():
                dist.broadcast(replacement, 0)
            self.codebook[dead], self.idle[dead] = replacement, 0
            if self.ema:
                self.sizes[dead], self.sums[dead] = 1, replacement

    def extra_repr(self) -> str:
        """What a printed network says of this layer."""
        num_codes, dim = self.codebook.shape
        return f"{num_codes}, {dim}, ema={self.ema}, restart_after={self.restart_after}"


def perplexity(codes: Tensor, num_codes: int) -> Tensor:
    """The number of codes that would have the entropy of these if all were equally frequent, from 1 to num_codes."""
    shares = torch.bincount(codes.flatten(), minlength=num_codes) / codes.numel()
    return torch.special.entr(shares).sum().exp()


def _vectors(features: Tensor) -> Tensor:
    """``(N, D, h, w)`` as ``(N * h * w, D)``."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _summed_over_processes(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values
