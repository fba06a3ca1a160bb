"""How many raters and pictures an opinion study needs: studies are simulated, and judged as real ones are."""

from dataclasses import dataclass

import numpy as np

from lit_ghibli.opinion.statistics import holm, sign_flip_test
from lit_ghibli.opinion.tables import SIGNIFICANT

_SCALE = 5
_AT_ONCE = 50  # studies that are judged together, which bounds the memory
_MIDDLE = 3.0  # of the scale, the mean opinion of the worse methods


@dataclass(frozen=True)
class Spread:
    """Standard deviations of what makes up a rating, in steps of the scale.

    Attributes:
        bias: Of raters: some give more than others to everything.
        taste: Of a rater for each method.
        picture: Of the photographs: some are liked more, whoever has painted them.
        noise: Of everything else, each rating's own.
    """

    bias: float
    taste: float
    picture: float
    noise: float


def simulated_ratings(
    rng: np.random.Generator, studies: int, raters: int, sets: int, means: np.ndarray, spread: Spread
) -> np.ndarray:
    """Ratings ``(studies, raters, sets, methods)``, whole numbers from 1 to 5, of methods with these means.

    The pictures are the same in all studies: the raters are the sample.
    """
    pictures = rng.normal(0, spread.picture, (sets, 1))
    bias = rng.normal(0, spread.bias, (studies, raters, 1, 1))
    taste = rng.normal(0, spread.taste, (studies, raters, 1, len(means)))
    noise = rng.normal(0, spread.noise, (studies, raters, sets, len(means)))
    return np.clip(np.rint(means + pictures + bias + taste + noise), 1, _SCALE)


def power(
    raters: int, sets: int, methods: int, difference: float, spread: Spread, studies: int = 500, seed: int = 0
) -> float:
    """How often a study finds that one method is better than each other one, of which it is better by ``difference``.

    All pairs of methods are tested as `pair_rows` tests them, with Holm's correction.

    Returns:
        The share of the pairs with that method, over all simulated studies, that are significant.
    """
    means = np.full(methods, _MIDDLE)
    means[0] += difference
    first, second = np.triu_indices(methods, 1)
    better = first == 0
    found = []
    scores = simulated_ratings(np.random.default_rng(seed), studies, raters, sets, means, spread).mean(axis=2)
    for part in np.array_split(scores, -(-studies // _AT_ONCE)):
        differences = (part[..., first] - part[..., second]).swapaxes(0, 1)  # (raters, studies, pairs)
        for p_values, mean in zip(sign_flip_test(differences, seed), differences.mean(axis=0), strict=True):
            found.append((holm(p_values)[better] <= SIGNIFICANT) & (mean[better] > 0))
    return float(np.mean(found))
