import itertools

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from lit_ghibli.metrics import kernel
from lit_ghibli.metrics.kernel import bootstrap_kernel_distance, kernel_distance


def draw(count: int, width: int = 8, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def by_loops(first, second) -> float:
    def value(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    def within(some):
        return sum(value(x, y) for x, y in itertools.permutations(some, 2)) / (len(some) * (len(some) - 1))

    between = sum(value(x, y) for x in first for y in second) / (len(first) * len(second))
    return within(first) + within(second) - 2 * between


def test_it_is_the_unbiased_estimator_whatever_is_done_at_a_time(monkeypatch):
    first, second = draw(7), draw(5, seed=1, shift=0.5)
    expected = by_loops(first, second)
    for rows in (1024, 3, 1):
        monkeypatch.setattr(kernel, "_ROWS", rows)
        assert float(kernel_distance(first, second)) == pytest.approx(expected, rel=1e-12)


def test_the_mean_over_all_subsets_is_the_same():
    first, second = draw(5), draw(5, seed=1, shift=0.5)
    subsets = [list(chosen) for chosen in itertools.combinations(range(5), 3)]
    values = [poly_mmd(first[some], second[others]) for some in subsets for others in subsets]
    assert float(kernel_distance(first, second)) == pytest.approx(float(torch.stack(values).mean()), rel=1e-12)


def test_the_bootstraps_spread_is_that_of_new_samples():
    values = torch.stack([kernel_distance(draw(50, seed=n), draw(40, seed=1000 + n, shift=0.8)) for n in range(200)])
    resampled = bootstrap_kernel_distance(draw(50), draw(40, seed=1000, shift=0.8), seed=3)
    assert float(resampled.std()) == pytest.approx(float(values.std()), rel=0.35)
    # Pairs of a picture with itself, which lie far from all others, would lift the mean by several deviations.
    assert abs(float(resampled.mean() - values[0])) < 0.2 * float(resampled.std())
    again = bootstrap_kernel_distance(draw(50), draw(40, seed=1000, shift=0.8), seed=3)
    assert torch.equal(resampled, again)


def test_of_more_images_a_sample_is_compared(monkeypatch):
    monkeypatch.setattr(kernel, "MOST", 6)
    features = draw(20)
    chosen = kernel.sample(features, seed=1)
    assert len({tuple(row.tolist()) for row in chosen}) == 6
    assert {tuple(row.tolist()) for row in chosen} < {tuple(row.tolist()) for row in features}
    assert kernel.sample(features[:6], seed=1) is not chosen
    assert torch.equal(kernel.sample(features[:6], seed=1), features[:6])
