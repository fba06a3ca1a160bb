import math

import pytest
import torch
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.training.weight_average import WeightAverage


def shares(decay: float, steps: int) -> list[float]:
    """What an average keeps of itself in each step."""
    return [min(decay, (1 + step) / (10 + step)) for step in range(1, steps + 1)]


def test_weights_that_jump_once_are_approached_by_the_product_of_what_is_kept():
    network = nn.Linear(2, 2).double()
    average = WeightAverage({"g": network}, decay=0.5)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 3.0
    for step in range(1, 31):
        average.update(step)
    kept = math.prod(shares(0.5, 30))
    torch.testing.assert_close(average.state_dict()["g.weight"], start + 3.0 * (1 - kept), rtol=0, atol=1e-12)


def test_weights_that_wander_are_summed_with_falling_weights():
    network = nn.Linear(1, 1, bias=False).double()
    average, values = WeightAverage({"g": network}, decay=0.9), [network.weight.item()]
    for step in range(1, 200):
        values.append(math.sin(step))
        nn.init.constant_(network.weight, values[-1])
        average.update(step)
    kept = [1.0, *shares(0.9, 199)]  # the start counts as taken in whole
    weights = [(1 - kept[n] if n else 1.0) * math.prod(kept[n + 1 :]) for n in range(200)]
    assert sum(weights) == pytest.approx(1.0)
    expected = sum(weight * value for weight, value in zip(weights, values, strict=True))
    assert average.state_dict()["g.weight"].item() == pytest.approx(expected, abs=1e-12)


def test_small_changes_of_half_precision_weights_are_not_rounded_away():
    network = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.constant_(network.weight, 1.0)
    average = WeightAverage({"g": network}, decay=0.999)
    nn.init.constant_(network.weight, 1.0 + 2**-7)  # the next number
    for step in range(10_000, 10_100):
        average.update(step)
    value = average.state_dict()["g.weight"]
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(1 + 2**-7 * (1 - 0.999**100), abs=1e-6)


def test_applied_the_averages_stand_in_the_same_memory_and_go_again():
    network = nn.Linear(3, 3)
    average = WeightAverage({"g": network}, decay=0.5)
    with torch.no_grad():
        network.weight.mul_(2)
    own, place = network.weight.detach().clone(), network.weight.data_ptr()
    with torch.inference_mode(), average.applied():
        assert torch.equal(network.weight, average.state_dict()["g.weight"])
        assert network.weight.data_ptr() == place, "a CUDA graph would go on reading the old weights"
    assert torch.equal(network.weight, own)
    network.weight.sum().backward()  # which inference mode has not spoiled


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, 999])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(UserError, match=r"callbacks\.ema\.decay"):
        WeightAverage({}, decay)
