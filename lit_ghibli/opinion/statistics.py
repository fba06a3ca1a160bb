"""What an opinion study says: means with intervals, differences that are more than chance, agreement of the raters.

The raters are the sample. Every one of them has judged the same pictures, so a rater's mean is one observation, and
what is inferred holds for further raters of these pictures.
"""

from typing import Literal

import numpy as np
from scipy.special import stdtrit

EXACT_RATERS = 14  # up to here all 2 ** raters changes of sign are gone through
RANDOM_SIGNS = 20_000  # draws for more raters: a p-value of 0.05 is then known to 0.003

_ROUNDING = 1e-9  # means of whole numbers that are equal may differ by this much

Level = Literal["nominal", "ordinal", "interval"]


def t_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of ``values`` ``(raters,)``: lowest and highest; NaN of a single value.

    Source: Student 1908.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    quantile = stdtrit(len(values) - 1, 0.5 + confidence / 2)
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def sign_flip_test(differences: np.ndarray, seed: int) -> np.ndarray:
    """Two-sided p-values of the mean of ``differences`` ``(raters, ...)`` against zero, by a permutation test.

    Were two methods alike, each rater's difference could as well have the other sign. The p-value is the share of all
    changes of signs whose mean is at least as far from zero: of every one up to `EXACT_RATERS` raters, of
    `RANDOM_SIGNS` random ones, counting the observed one among them, for more.

    Source: Fisher 1935, section 21; Phipson and Smyth 2010 for the random draws.
    """
    differences = np.asarray(differences, dtype=np.float64)
    count = len(differences)
    observed = np.abs(differences.sum(axis=0)) - _ROUNDING
    if count <= EXACT_RATERS:
        signs = 1.0 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        return (np.abs(np.tensordot(signs, differences, 1)) >= observed).mean(axis=0)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (RANDOM_SIGNS, count))
    return ((np.abs(np.tensordot(signs, differences, 1)) >= observed).sum(axis=0) + 1) / (RANDOM_SIGNS + 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust the p-values ``(tests,)`` of one family of tests; those below alpha then keep its error rate at alpha.

    Source: Holm 1979.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def krippendorff_alpha(ratings: np.ndarray, level: Level) -> float:
    """Agreement of the raters beyond chance: 1 where all agree, 0 where they might as well have drawn lots.

    Args:
        ratings: ``(raters, units)``, NaN where a rater has not judged a unit. Units judged once are left out.
        level: What a difference means: ``nominal`` labels, ``ordinal`` ranks or ``interval`` numbers.

    Returns:
        Alpha, negative where raters disagree more than by chance; NaN where fewer than two different values occur.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[None] == values[:, None, None]).sum(axis=1).astype(np.float64)  # (values, units)
    counts = counts[:, counts.sum(axis=0) >= 2]
    # Each ordered pair of raters of a unit, weighted so that a unit weighs as many as it has raters.
    per_unit = counts[:, None] * counts[None] - counts[:, None] * np.eye(len(values))[..., None]
    coincidences = (per_unit / (counts.sum(axis=0) - 1)).sum(axis=2)
    totals = coincidences.sum(axis=1)
    # Krippendorff's squared difference functions, (values, values). A value's rank: how many ratings lie below it, each
    # value counting for half of its own.
    ranks = np.cumsum(totals) - totals / 2 if level == "ordinal" else values
    distances = 1.0 - np.eye(len(values)) if level == "nominal" else np.square(ranks[:, None] - ranks[None])
    expected = (np.outer(totals, totals) * distances).sum() / max(totals.sum() - 1, 1)
    return float(1 - (coincidences * distances).sum() / expected) if expected > 0 else float("nan")
