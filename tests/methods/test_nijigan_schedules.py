import math

import pytest

from lit_ghibli.errors import UserError
from lit_ghibli.methods.nijigan import SupervisedWeight


def of_every_step(weight, epochs, steps):
    return [weight(epoch, step, steps) for epoch in range(epochs) for step in range(steps)]


def of_every_epoch(name, epochs, **options):
    return of_every_step(SupervisedWeight(name, epochs, **options), epochs, 1)


def test_ramp_up_of_the_published_training():
    weights = of_every_epoch("ramp_up", 25, warm_up_epochs=10)
    assert weights == pytest.approx([0] * 10 + [k / 15 for k in range(1, 16)])
    assert weights[9] == 0
    assert weights[-1] == 1


def test_ramp_up_without_warm_up():
    assert of_every_epoch("ramp_up", 4) == [0.25, 0.5, 0.75, 1]


def test_cosine_decay_at_its_start_middle_and_end():
    weights = of_every_epoch("cosine_decay", 20)
    assert weights[0] == 1
    assert weights[10] == pytest.approx(math.sqrt(0.5))
    assert weights[19] == pytest.approx(math.sin(math.pi / 40))
    assert of_every_epoch("cosine_decay", 3) == pytest.approx([1, math.sqrt(3) / 2, 0.5])


@pytest.mark.parametrize(
    ("total", "expected"),
    [(20, [1, 1, 1, 1, 1]), (30, [1, -1, 1, -1, 1]), (25, [1, 0, -1, 0, 1]), (27, [1, 0, -1, 0, 1])],
)
def test_the_released_cosine_does_not_decay(total, expected):
    assert of_every_epoch("cosine_decay", total, faithful=True)[:5] == pytest.approx(expected, abs=1e-12)


def test_weights_by_epoch_stay_within_an_epoch():
    weight = SupervisedWeight("ramp_up", epochs=4, warm_up_epochs=2)
    assert of_every_step(weight, 6, 3) == [0] * 6 + [0.5] * 3 + [1] * 9


def test_weights_by_step_rise_at_every_step():
    weight = SupervisedWeight("ramp_up", epochs=4, unit="step", warm_up_epochs=2)
    expected = [0] * 6 + [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1]
    assert of_every_step(weight, 4, 3) == pytest.approx(expected)
    assert weight(7, 1, 3) == 1


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_the_last_weight_stays_in_a_longer_training(unit):
    weight = SupervisedWeight("cosine_decay", epochs=5, unit=unit)
    total = 5 if unit == "epoch" else 50
    assert weight(0, 0, 10) == 1
    assert weight(4, 9, 10) == weight(5, 0, 10) == weight(40, 3, 10) == pytest.approx(math.sin(math.pi / 2 / total))


def test_constant_by_name():
    assert of_every_step(SupervisedWeight("constant", epochs=2, unit="step"), 3, 2) == [1] * 6


def test_faithful_takes_the_released_cosine_and_changes_nothing_else():
    faithful = SupervisedWeight("cosine_decay", epochs=30, faithful=True)
    assert [faithful(epoch, 3, 7) for epoch in range(4)] == pytest.approx([1, -1, 1, -1])
    for name in ("ramp_up", "constant"):
        pair = [SupervisedWeight(name, epochs=3, faithful=flag) for flag in (False, True)]
        assert of_every_step(pair[0], 3, 2) == of_every_step(pair[1], 3, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "linear"}, r"method\.schedule\.name is 'linear'; .* ramp_up, constant, cosine_decay"),
        ({"unit": "image"}, r"method\.schedule\.unit is 'image'; .* epoch, step"),
        ({"warm_up_epochs": -1}, r"method\.schedule\.warm_up_epochs is -1; .* method\.epochs = 5"),
        ({"warm_up_epochs": 5}, r"method\.schedule\.warm_up_epochs is 5; .* less than method\.epochs = 5"),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_training(options, message):
    with pytest.raises(UserError, match=message):
        SupervisedWeight(**{"name": "ramp_up", "epochs": 5, **options})


def test_a_warm_up_is_of_no_concern_to_other_schedules():
    weight = SupervisedWeight("cosine_decay", epochs=5, warm_up_epochs=10)
    assert weight(0, 0, 1) == 1
