"""How far a mean over few pictures may be off."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_means(values: ArrayLike, weights: ArrayLike, seed: int) -> NDArray[np.float64]:
    """Weighted means of `RESAMPLES` sets of pictures, each drawn anew with replacement, always alike for one seed.

    Args:
        values: ``(n,)``, one for each picture.
        weights: ``(n,)``, of each picture.
        seed: Of the draws.

    Source: Efron 1979.
    """
    values, weights = (np.asarray(array, dtype=np.float64) for array in (values, weights))
    generator = np.random.default_rng(seed)
    picks = (generator.integers(len(values), size=len(values)) for _ in range(RESAMPLES))
    return np.array([np.average(values[pick], weights=weights[pick]) for pick in picks])


def interval(resampled: ArrayLike) -> tuple[float, float] | None:
    """The bounds of the middle 95 % of resampled values; None where fewer than two of them are finite."""
    resampled = np.asarray(resampled, dtype=np.float64)
    finite = resampled[np.isfinite(resampled)]
    if len(finite) < 2:
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
