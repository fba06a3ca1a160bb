import copy

import pytest
import torch
from torch.optim import LBFGS, SGD, Adam, AdamW
from torch.optim.lr_scheduler import ExponentialLR

from lit_ghibli.checkpoints import CheckpointError
from lit_ghibli.training.resumed import check_weights, fit_states
from lit_ghibli.training.schedules import linear_decay


def begin(make=Adam, epochs=6, decay_epochs=3, shape=(2, 3), **settings):
    """An optimiser of one weight, and its schedule."""
    optimizer = make([torch.nn.Parameter(torch.ones(shape))], **settings)
    return optimizer, linear_decay(optimizer, epochs=epochs, decay_epochs=decay_epochs)


def train(optimizer, schedule, epochs):
    """Rates of some epochs of one step each."""
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        (weight,) = optimizer.param_groups[0]["params"]
        weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()
        schedule.step()
    return rates


def saved(*begun):
    optimizer, schedule = begun
    states = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": [schedule.state_dict()]}
    return copy.deepcopy(states)


def load(checkpoint, optimizer, schedule):
    """As Lightning does."""
    fit_states(checkpoint, [optimizer], [schedule])
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    schedule.load_state_dict(checkpoint["lr_schedulers"][0])


@pytest.mark.parametrize("done", [1, 4, 6])
def test_what_has_not_changed_stays_as_it_was_to_the_last_bit(done, caplog):
    straight = begin(lr=0.3, betas=(0.5, 0.9), weight_decay=0.1, fused=True)
    train(*straight, done)
    checkpoint = saved(*straight)
    before = copy.deepcopy(checkpoint)
    resumed = begin(lr=0.3, betas=(0.5, 0.9), weight_decay=0.1, fused=True)
    load(checkpoint, *resumed)
    for ours, theirs in zip(checkpoint["optimizer_states"], before["optimizer_states"], strict=True):
        assert ours["param_groups"] == theirs["param_groups"]
        assert all(torch.equal(value, theirs["state"][0][name]) for name, value in ours["state"][0].items())
    assert checkpoint["lr_schedulers"] == before["lr_schedulers"]
    assert not caplog.messages
    assert train(*straight, 3) == train(*resumed, 3)


@pytest.mark.parametrize(
    ("now", "lengths", "rates"),
    [
        ({"lr": 0.1}, (6, 3), [0.1, 0.075, 0.05, 0.025]),
        ({"lr": 0.3}, (10, 2), [0.3] * 6 + [0.2, 0.1]),  # the decay moves to the new end
        ({"lr": 0.3}, (6, 0), [0.3] * 4),
    ],
)
def test_another_rate_or_length_counts_from_the_epoch_that_comes(caplog, now, lengths, rates):
    first = begin(lr=0.3)
    train(*first, 2)
    resumed = begin(**now, epochs=lengths[0], decay_epochs=lengths[1])
    load(saved(*first), *resumed)
    assert train(*resumed, len(rates)) == pytest.approx(rates)
    assert any("another learning rate: 0.1 instead of 0.3" in line for line in caplog.messages) == (now["lr"] == 0.1)


def test_a_run_that_ended_at_rate_0_goes_on_at_the_rate_of_its_new_length(caplog):
    first = begin(lr=0.3)
    train(*first, 6)
    assert first[0].param_groups[0]["lr"] == 0
    resumed = begin(lr=0.3, epochs=12)
    load(saved(*first), *resumed)
    assert train(*resumed, 6) == pytest.approx([0.3] * 3 + [0.225, 0.15, 0.075])
    assert "0.3 instead of 0" in caplog.text


def test_all_else_that_an_optimiser_is_made_with_counts_and_what_it_has_learned_stays():
    first = begin(lr=0.3, betas=(0.5, 0.9))
    train(*first, 2)
    resumed = begin(AdamW, lr=0.3, betas=(0.1, 0.2), weight_decay=0.5, eps=0.25)
    load(saved(*first), *resumed)
    group = resumed[0].param_groups[0]
    assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.1, 0.2), 0.5, 0.25)
    moments, kept = (of[0].state_dict()["state"][0] for of in (resumed, first))
    assert torch.equal(moments["exp_avg"], kept["exp_avg"])
    assert moments["step"] == 2


def test_rates_without_a_schedule_count_and_those_of_other_schedules_stay():
    (plain, _), (now, _) = begin(SGD, lr=0.3), begin(SGD, lr=0.2)
    checkpoint = {"optimizer_states": [plain.state_dict()], "lr_schedulers": []}
    fit_states(checkpoint, [now], [])
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.2

    schedule = ExponentialLR(optimizer := SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0), 0.5)
    optimizer.step()
    schedule.step()
    checkpoint = saved(optimizer, schedule)
    again = ExponentialLR(fresh := SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0), 0.5)
    load(checkpoint, fresh, again)
    assert fresh.param_groups[0]["lr"] == 0.5


def of_another_shape(checkpoint):
    state = checkpoint["optimizer_states"][0]["state"][0]
    state["exp_avg"] = state["exp_avg"][:1]


def of_a_weight_too_many(checkpoint):
    checkpoint["optimizer_states"][0]["state"][7] = {"exp_avg": torch.ones(5, 5)}


def of_two_weights(checkpoint):
    checkpoint["optimizer_states"][0]["param_groups"][0]["params"] = [0, 1]


def of_two_groups(checkpoint):
    checkpoint["optimizer_states"][0]["param_groups"] *= 2


def of_two_optimisers(checkpoint):
    checkpoint["optimizer_states"] *= 2


@pytest.mark.parametrize(
    ("damage", "make", "message"),
    [
        (of_another_shape, Adam, "'exp_avg' of its optimiser Adam is 1x3 for weights of 2x3"),
        (of_a_weight_too_many, Adam, "'exp_avg' of its optimiser Adam is 5x5 for weights of not there"),
        (of_two_weights, Adam, "of other weights than this run's networks have"),
        (of_two_groups, Adam, "of other weights than this run's networks have"),
        (of_two_optimisers, Adam, "of another number of optimisers"),
        (dict, SGD, "optimiser is no SGD: go on with the one that the run began with"),
        (dict, LBFGS, "optimiser is no LBFGS"),
    ],
)
def test_states_of_something_else_are_refused(damage, make, message):
    """Torch would load most of them, and a fused step would then read beyond their end."""
    first = begin(lr=0.3, fused=True)
    train(*first, 2)
    checkpoint = saved(*first)
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        load(checkpoint, *begin(make, lr=0.3))


def test_lbfgs_goes_on_with_what_it_knows_of_all_weights():
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = LBFGS([weight])

    def closure():
        optimizer.zero_grad()
        loss = (weight**4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    checkpoint = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": []}
    fit_states(checkpoint, [LBFGS([torch.nn.Parameter(torch.ones(2, 3))])], [])


def test_weights_of_other_networks_are_one_line():
    small, large = (torch.nn.Linear(2, width).state_dict() for width in (3, 4))
    check_weights(small, small)
    with pytest.raises(CheckpointError, match="its bias is 4, and this run's 3"):
        check_weights(small, large)
    with pytest.raises(CheckpointError, match="its bias is not there, and this run's 3"):
        check_weights(small, {"weight": small["weight"]})
