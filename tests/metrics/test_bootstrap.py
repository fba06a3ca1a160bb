import numpy as np
import pytest

from lit_ghibli.metrics.bootstrap import bootstrap_means, interval


def test_the_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    low, high = interval(bootstrap_means(values, np.ones(400), seed=1))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_weights_and_seed_decide():
    means = bootstrap_means(np.array([1.0, 5.0]), np.array([1.0, 3.0]), seed=0)
    assert set(means.tolist()) == {1.0, 4.0, 5.0}
    assert np.array_equal(means, bootstrap_means([1.0, 5.0], [1.0, 3.0], seed=0))
    assert not np.array_equal(means, bootstrap_means([1.0, 5.0], [1.0, 3.0], seed=1))


def test_what_is_not_finite_is_left_out():
    assert interval([np.nan, 1.0, 3.0, np.inf]) == pytest.approx((1.05, 2.95))
    assert interval([np.nan, 1.0]) is None
