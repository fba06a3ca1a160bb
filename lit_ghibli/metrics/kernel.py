"""Kernel distance between two sets of feature vectors, KID: unbiased with few images, where FID is not.

Bińkowski et al. 2018, "Demystifying MMD GANs" (arXiv:1801.01401). The value is theirs, not multiplied by 1000.
Commonly it is averaged over random subsets. That average tends to the estimate over all pairs of images, which is
computed here: nothing is drawn, and no subset size has to fit the set. What is drawn is the bootstrap of its error.
"""

import numpy as np
import torch
from torch import Tensor

MOST = 5000  # images of a set that are compared: of more, a random sample

_ROWS = 1024  # of the kernel matrix at a time


def polynomial_kernel(first: Tensor, second: Tensor) -> Tensor:
    """Compute ``(x'y / D + 1)^3`` of all pairs: ``(n, m)`` of ``(n, D)`` and ``(m, D)``. Source: section 4."""
    return (first @ second.T / first.shape[1] + 1.0) ** 3


def kernel_distance(features: Tensor, others: Tensor) -> Tensor:
    """Estimate the squared maximum mean discrepancy without bias, from all pairs: a float64 scalar.

    Equal distributions give 0 on average, so that values below 0 occur.

    Args:
        features: ``(n, D)``, n at least 2.
        others: ``(m, D)``, m at least 2; n and m may differ.

    Source: Gretton et al. 2012, Eq. 3.
    """
    first, second = features.cpu().double(), others.cpu().double()
    ones = [torch.ones(1, len(each), dtype=torch.float64) for each in (first, second)]
    return _weighted_distance(first, second, *ones)[0]


def bootstrap_kernel_distance(features: Tensor, others: Tensor, seed: int, resamples: int = 1000) -> Tensor:
    """Draw both sets anew with replacement and estimate each time: float64 ``(resamples,)``.

    A picture that is drawn twice is no pair with itself, which would bias every estimate upwards.
    """
    first, second = features.cpu().double(), others.cpu().double()
    generator = np.random.default_rng(seed)
    counts = [
        torch.from_numpy(generator.multinomial(len(each), np.full(len(each), 1 / len(each)), size=resamples)).double()
        for each in (first, second)
    ]
    return _weighted_distance(first, second, *counts)


def sample(features: Tensor, seed: int) -> Tensor:
    """At most `MOST` of the feature vectors, drawn without replacement."""
    if len(features) <= MOST:
        return features
    return features[torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:MOST]]


def _weighted_distance(first: Tensor, second: Tensor, counts: Tensor, other_counts: Tensor) -> Tensor:
    """Estimates ``(R,)``, where image i counts ``counts[r, i]`` times."""
    within = _within(first, counts) + _within(second, other_counts)
    between = torch.zeros(len(counts), dtype=torch.float64)
    for rows, weights in zip(first.split(_ROWS), counts.split(_ROWS, dim=1), strict=True):
        between += (weights @ polynomial_kernel(rows, second) * other_counts).sum(dim=1)
    return within - 2.0 * between / (counts.sum(dim=1) * other_counts.sum(dim=1))


def _within(features: Tensor, counts: Tensor) -> Tensor:
    """Mean kernel of the pairs of different images of one set: ``(R,)``; NaN where only one image was drawn."""
    total = torch.zeros(len(counts), dtype=torch.float64)
    for start in range(0, len(features), _ROWS):
        kernel = polynomial_kernel(features[start : start + _ROWS], features)
        kernel[:, start:].fill_diagonal_(0.0)
        total += (counts[:, start : start + _ROWS] @ kernel * counts).sum(dim=1)
    return total / (counts.sum(dim=1).square() - counts.square().sum(dim=1))
