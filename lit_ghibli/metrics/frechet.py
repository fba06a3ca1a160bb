"""Fréchet distance between two sets of feature vectors, taken for Gaussian."""

import torch
from torch import Tensor

UNBIASED_FROM = 2048  # images of a set: with fewer than features, their covariance has no full rank


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """Compute the squared Fréchet distance of two Gaussians: a float64 scalar.

    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)). The last trace is the sum of the singular values of L1' L2, where
    S = L L': no root of a nearly singular product is taken, so that few images do no harm.

    Args:
        mean: ``(D,)``.
        covariance: ``(D, D)``, symmetric and positive semi-definite.
        other_mean: ``(D,)``.
        other_covariance: ``(D, D)``.

    Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500), Eq. 6.
    """
    return _distance(mean.double(), _root(covariance), other_mean.double(), _root(other_covariance))


def frechet_of_features(features: Tensor, others: Tensor) -> Tensor:
    """Compute `frechet_distance` between two sets of feature vectors: a float64 scalar.

    Means and covariances are those of the samples, in float64; no covariance is decomposed.

    Args:
        features: ``(n, D)``, n at least 2.
        others: ``(m, D)``, m at least 2.

    Raises:
        ValueError: A set has fewer than two vectors, which have no covariance.
    """
    return _distance(*_gaussian(features), *_gaussian(others))


def _distance(mean: Tensor, root: Tensor, other_mean: Tensor, other_root: Tensor) -> Tensor:
    traces = root.square().sum() + other_root.square().sum()
    distance = (mean - other_mean).square().sum() + traces - 2.0 * torch.linalg.svdvals(root.T @ other_root).sum()
    return distance.clamp(min=0.0)  # rounding


def _root(covariance: Tensor) -> Tensor:
    """L ``(D, rank)`` with L L' = S."""
    values, vectors = torch.linalg.eigh(covariance.double())
    kept = values > values.max() * len(values) * torch.finfo(torch.float64).eps  # the rest is rounding
    return vectors[:, kept] * values[kept].sqrt()


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(D,)`` and L ``(D, min(n, D))`` with L L' the covariance, on the CPU."""
    features = features.cpu().double()
    if len(features) < 2:
        raise ValueError(f"a Fréchet distance needs at least 2 images of each set, got {len(features)}")
    mean = features.mean(dim=0)
    centred = (features - mean) / (len(features) - 1) ** 0.5
    if len(centred) > centred.shape[1]:
        centred = torch.linalg.qr(centred, mode="r").R
    return mean, centred.T
