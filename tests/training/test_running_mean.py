import pytest
import torch

from lit_ghibli.training.running_mean import RunningMean


def test_it_is_the_weighted_mean():
    mean = RunningMean()
    assert mean.compute() is None
    for value, weight in ((1.0, 1), (4.0, 2), (0.25, 1)):
        mean.update(torch.tensor(value, requires_grad=True), weight)
    assert mean.compute() == pytest.approx((1 + 8 + 0.25) / 4)
    assert not mean.total.requires_grad
    mean.reset()
    assert mean.compute() is None


def test_many_small_float32_values_add_up():
    mean = RunningMean()
    for _ in range(10_000):
        mean.update(torch.tensor(0.1), 1)
    assert mean.compute() == pytest.approx(0.1, rel=1e-3)


def test_it_goes_on_where_it_was():
    first, second = RunningMean(), RunningMean()
    first.update(torch.tensor(2.0), 1)
    second.load_state_dict(first.state_dict())
    for mean in (first, second):
        mean.update(torch.tensor(5.0), 3)
    assert first.compute() == second.compute() == 17 / 4
