"""Contrastive losses between the features of an image and those of its translation, location by location.

All take ``queries`` (of the output) and ``keys`` (of the input or the reference) of shape ``(N, P, D)``: for each of N
images the features of P locations, vectors of length 1, location i of one belonging to location i of the other. They
compute in float32 at least, also under autocast, and no gradient reaches the keys. Negatives are other locations of
the same image, never of another one, so that an image's loss does not depend on its batch: two processes with one
image each have the gradients of one process with both.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_over_layers(
    loss: Callable[[Tensor, Tensor], Tensor], queries: Mapping[str, Tensor], keys: Mapping[str, Tensor]
) -> Tensor:
    """Mean over the layers of one of these losses between their features, as the methods take it."""
    return sum(loss(queries[layer], keys[layer]) for layer in queries) / len(queries)


def patch_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each query's own location among the keys of all locations of its image.

    With features of a pseudo pair, and a projection head of its own, it is Scenimefy's StylePatchNCE.

    Args:
        queries: ``(N, P, D)``, vectors of length 1.
        keys: ``(N, P, D)``, vectors of length 1; detached here.
        temperature: tau, which divides the cosine similarities.

    Returns:
        A scalar in ``[0, inf)``, the mean over images and locations; log P where all features are the same.

    Raises:
        ValueError: if the shapes differ or are not ``(N, P, D)``.

    Source: Park et al. 2020, section 3, the cross-entropy and the PatchNCE loss; Jiang et al. 2023 for StylePatchNCE.
    """
    _check_shapes(queries, keys)
    logits = _similarities(queries, keys.detach()) / temperature
    return -_own(logits.log_softmax(dim=-1)).mean()


def semantic_relation_consistency(queries: Tensor, keys: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, of each location's relations to its image in queries and in keys.

    The relations of a location are the softmax, at temperature 1, of its cosine similarities to all locations of the
    same image and side, itself included.

    Args:
        queries: ``(N, P, D)``, vectors of length 1.
        keys: ``(N, P, D)``, vectors of length 1; detached here.

    Returns:
        A scalar in ``[0, P log 2]`` but for rounding: the sum over an image's locations, as in the released code, and
        the mean over images. 0 where the relations are the same, whatever the features.

    Raises:
        ValueError: if the shapes differ or are not ``(N, P, D)``.

    Source: Jung et al. 2022, section 3, semantic relation consistency.
    """
    _check_shapes(queries, keys)
    keys = keys.detach()
    log_p = _similarities(queries, queries).log_softmax(dim=-1)
    log_q = _similarities(keys, keys).log_softmax(dim=-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)  # of the mixture (p + q) / 2, without leaving the logarithms
    divergences = (F.kl_div(log_m, log_x, reduction="sum", log_target=True) for log_x in (log_p, log_q))
    return sum(divergences) / (2 * len(queries))


def relation_weights(keys: Tensor, gamma: float) -> Tensor:
    """How hard a negative each location is for each other one, by the similarity of their keys.

    A softmax of the similarities divided by ``gamma`` over the other locations, scaled so that the largest is 1.
    Cosines differ by at most 2, so all weights are at least ``exp(-2 / gamma)``, 0.96 for gamma = 50 and 0.82 for 10.

    Args:
        keys: ``(N, P, D)``, vectors of length 1, P at least 2.
        gamma: temperature of the relations; the larger it is, the more equal are the weights.

    Returns:
        ``(N, P, P)`` without gradient: rows in ``(0, 1]`` with the largest 1, but 0 on the diagonal.

    Raises:
        ValueError: if there is one location only.

    Source: Jung et al. 2022, section 3, hard negative mining; the scaling is that of the released code.
    """
    if keys.shape[1] < 2:
        raise ValueError(
            f"keys of shape {tuple(keys.shape)} hold one location of each image; the others are its negatives, so "
            f"at least 2 are needed: take more patches or larger images"
        )
    similarities = _without_own(_similarities(keys.detach(), keys.detach()))
    return ((similarities - similarities.amax(dim=-1, keepdim=True)) / gamma).exp()


def hdce(queries: Tensor, keys: Tensor, gamma: float, temperature: float) -> Tensor:
    """Decoupled InfoNCE with hard negatives: minus the positive's logit plus the logsumexp of the weighted negatives'.

    Decoupled means that the positive is not in the denominator, so that the loss may be negative. The weights
    multiply the negatives' similarities, as in the code of Jung et al. and of Scenimefy; in the paper's formula they
    multiply the exponentials. A weight below 1 therefore moves a similarity towards 0, also a negative one.

    Args:
        queries: ``(N, P, D)``, vectors of length 1, P at least 2.
        keys: ``(N, P, D)``, vectors of length 1; detached here.
        gamma: temperature of the weights, see :func:`relation_weights`.
        temperature: tau, which divides the similarities.

    Returns:
        A scalar, the mean over images and locations; it grows with log(P - 1).

    Raises:
        ValueError: if the shapes differ or are not ``(N, P, D)``, or if there is one location only.

    Source: Jung et al. 2022, section 3, hDCE; Yeh et al. 2022 for decoupling.
    """
    _check_shapes(queries, keys)
    similarities = _similarities(queries, keys.detach())
    negatives = _without_own(relation_weights(keys, gamma) * similarities) / temperature
    return (negatives.logsumexp(dim=-1) - _own(similarities) / temperature).mean()


def _check_shapes(queries: Tensor, keys: Tensor) -> None:
    if queries.dim() != 3 or queries.shape != keys.shape:
        raise ValueError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)}; both must have one shape (N, P, D)"
        )


def _similarities(a: Tensor, b: Tensor) -> Tensor:
    """Inner products ``(N, P, P)`` of all vectors of ``a`` with all of ``b``, image by image."""
    with torch.autocast(a.device.type, enabled=False):
        a, b = (vectors.to(torch.promote_types(vectors.dtype, torch.float32)) for vectors in (a, b))
        return a @ b.mT


def _own(matrices: Tensor) -> Tensor:
    """The diagonals ``(N, P)``: each location with itself."""
    return matrices.diagonal(dim1=1, dim2=2)


def _without_own(matrices: Tensor) -> Tensor:
    """Minus infinity on the diagonals, which then count in no softmax."""
    own = torch.eye(matrices.shape[1], dtype=torch.bool, device=matrices.device)
    return matrices.masked_fill(own, -math.inf)
