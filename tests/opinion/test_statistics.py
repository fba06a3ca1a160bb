import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from lit_ghibli.opinion.statistics import EXACT_RATERS, holm, krippendorff_alpha, sign_flip_test, t_interval

NO = math.nan
# Four observers, twelve units: the example of Krippendorff 2011, with the alphas that it gives.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
        [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
    ]
)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level, alpha):
    assert round(krippendorff_alpha(PUBLISHED, level), 3) == alpha


def alpha_by_pairs(ratings, level):
    """1 - observed over expected disagreement, pair by pair, from the definition in words."""
    units = [column[~np.isnan(column)] for column in ratings.T]
    units = [unit for unit in units if len(unit) > 1]
    pool = np.concatenate(units)

    def squared(a, b):
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = sum(1 for value in pool if low <= value <= high)
        return (between - (np.sum(pool == low) + np.sum(pool == high)) / 2) ** 2 if low != high else 0.0

    observed = sum(sum(squared(a, b) for a in unit for b in unit) / (len(unit) - 1) for unit in units) / len(pool)
    expected = sum(squared(a, b) for a in pool for b in pool) / len(pool) / (len(pool) - 1)
    return 1 - observed / expected


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_is_its_definition(level):
    rng = np.random.default_rng(3)
    ratings = rng.integers(1, 6, (5, 8)).astype(float)
    ratings[rng.random(ratings.shape) < 0.2] = NO
    ratings[1:, 0] = NO  # judged at most once, which must not count
    assert krippendorff_alpha(ratings, level) == pytest.approx(alpha_by_pairs(ratings, level), abs=1e-12)


def test_alpha_at_its_ends():
    agreed = np.tile([1.0, 4.0, 2.0], (3, 1))
    assert krippendorff_alpha(agreed, "ordinal") == 1.0
    assert krippendorff_alpha(np.array([[1.0, 2.0], [2.0, 1.0]]), "ordinal") == pytest.approx(-0.5)
    assert math.isnan(krippendorff_alpha(np.full((3, 4), 3.0), "ordinal"))
    assert math.isnan(krippendorff_alpha(np.array([[1.0, 2.0, 3.0]]), "ordinal"))
    lots = np.random.default_rng(0).integers(1, 6, (20, 400)).astype(float)
    assert krippendorff_alpha(lots, "ordinal") == pytest.approx(0, abs=0.01)


def test_interval_in_closed_form():
    # Mean 3, standard deviation 1, and the tabulated quantile of two degrees of freedom, 4.3027.
    low, high = t_interval(np.array([2.0, 3.0, 4.0]))
    assert (low, high) == pytest.approx((3 - 4.30265 / math.sqrt(3), 3 + 4.30265 / math.sqrt(3)), abs=1e-4)
    values = np.random.default_rng(1).normal(size=30)
    reference = scipy.stats.t.interval(0.9, 29, values.mean(), scipy.stats.sem(values))
    assert t_interval(values, 0.9) == pytest.approx(reference)


def test_interval_of_raters_who_agree_and_of_one():
    assert t_interval(np.array([2.5, 2.5])) == (2.5, 2.5)
    assert all(map(math.isnan, t_interval(np.array([2.5]))))


def test_interval_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [t_interval(rng.normal(3, 1, 8)) for _ in range(2000)]
    assert np.mean([low <= 3 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_exact_p_value_is_scipys(count):
    values = np.random.default_rng(count).integers(-3, 5, count) / 10
    reference = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_test(values, seed=0) == pytest.approx(reference.pvalue)


def test_p_value_by_hand():
    assert sign_flip_test(np.array([1.0, 1.0, 1.0, 1.0, 1.0]), seed=0) == 2 / 32
    assert sign_flip_test(np.array([0.3, -0.3]), seed=0) == 1.0
    assert sign_flip_test(np.zeros(20), seed=0) == 1.0


def test_p_value_of_ranks_is_wilcoxons():
    """Wilcoxon's test is this one of signed ranks, so both must agree on differences that are signed ranks."""
    ranks = np.array([1, -2, 3, 4, -5, 6, 7, 8, 9, 10.0])
    assert sign_flip_test(ranks, seed=0) == pytest.approx(scipy.stats.wilcoxon(ranks, method="exact").pvalue)
    more = np.arange(1, EXACT_RATERS + 5) * np.where(np.arange(EXACT_RATERS + 4) % 4, 1.0, -1.0)
    exact = scipy.stats.wilcoxon(more, method="exact").pvalue
    assert sign_flip_test(more, seed=0) == pytest.approx(exact, abs=0.005)
    assert sign_flip_test(more, seed=0) == sign_flip_test(more, seed=0)


def test_holm_by_hand():
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 gives .04, .06, .06, .04, and no later one may be smaller.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([float(Fraction(1, 3))]) == pytest.approx([1 / 3])
    assert holm([]).shape == (0,)
