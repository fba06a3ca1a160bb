import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.training.schedules import constant_then_linear, initialization_then_linear, linear_decay

# Factors by epoch, written out.
TABLES = {
    (6, 3): [1, 1, 1, 3 / 4, 2 / 4, 1 / 4],
    (4, 0): [1, 1, 1, 1],
    (3, 3): [3 / 4, 2 / 4, 1 / 4],
    (1, 1): [1 / 2],
    (2, 1): [1, 1 / 2],
}


@pytest.mark.parametrize(("lengths", "table"), TABLES.items())
def test_factor_of_every_epoch(lengths, table):
    epochs, decay_epochs = lengths
    factors = [constant_then_linear(epoch, epochs=epochs, decay_epochs=decay_epochs) for epoch in range(epochs)]
    assert factors == pytest.approx(table)


def test_the_published_schedule_at_its_start_middle_and_end():
    factor = {e: constant_then_linear(e, epochs=200, decay_epochs=100) for e in (0, 99, 100, 149, 199, 200, 500)}
    assert factor[0] == factor[99] == 1
    assert factor[100] == pytest.approx(100 / 101)
    assert factor[149] == pytest.approx(51 / 101)
    assert factor[199] == pytest.approx(1 / 101)
    assert factor[200] == factor[500] == 0, "a run that goes on for longer gets no negative rate"


def test_the_scheduler_multiplies_the_optimisers_rate():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = linear_decay(optimizer, epochs=6, decay_epochs=3)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.5 * factor for factor in TABLES[6, 3]])


@pytest.mark.parametrize("decay_epochs", [-1, 4])
def test_more_decay_than_training_is_refused(decay_epochs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    with pytest.raises(UserError, match=f"0 ... method.epochs = 3; got {decay_epochs}"):
        linear_decay(optimizer, epochs=3, decay_epochs=decay_epochs)


def sgd():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)


@pytest.mark.parametrize(
    ("lengths", "rates"),
    [
        ((6, 2, 3, 1), [2, 2, 1, 0.5, 0.5 * 2 / 3, 0.5 / 3]),
        ((3, 1, 0, 0), [0.5, 0.5, 0.25]),
        ((2, 0, 2, 0), [2, 2]),
    ],
)
def test_an_initialisation_has_a_rate_and_a_decay_of_its_own(lengths, rates):
    epochs, decay_epochs, initial, initial_decay = lengths
    optimizer, seen = sgd(), []
    scheduler = initialization_then_linear(
        optimizer,
        epochs=epochs,
        decay_epochs=decay_epochs,
        initialization_epochs=initial,
        initialization_decay_epochs=initial_decay,
        initialization_lr=2.0,
    )
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(rates)


@pytest.mark.parametrize(
    ("decays", "message"),
    [((4, 0), r"method.decay_epochs must lie in 0 ... 3, .* 5; got 4"), ((3, 3), r"initialization_decay.* 2, .*got 3")],
)
def test_decays_that_do_not_fit_around_an_initialisation_are_refused(decays, message):
    decay_epochs, initial_decay = decays
    with pytest.raises(UserError, match=message):
        initialization_then_linear(
            sgd(),
            epochs=5,
            decay_epochs=decay_epochs,
            initialization_epochs=2,
            initialization_decay_epochs=initial_decay,
            initialization_lr=2.0,
        )
