import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from helpers.by_hand import connect
from lightning import LightningModule
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.training import updates
from lit_ghibli.training.updates import check_weights, collected, detached, early_steps, held, update, weighted_sum


class Pair(LightningModule):
    """Two optimisers; ``frozen`` is in neither phase."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(1, 1), nn.Linear(1, 1)
        self.discriminator.bias.requires_grad_(False)  # frozen by its owner: must stay so

    def configure_optimizers(self):
        return [torch.optim.SGD(network.parameters(), 0.1) for network in (self.generator, self.discriminator)]


@pytest.fixture
def pair() -> Pair:
    return connect(Pair())


def learning(module: Pair) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


FREE = {"generator.weight": True, "generator.bias": True, "discriminator.weight": True, "discriminator.bias": False}


def test_only_the_phases_own_parameters_take_gradients(pair):
    optimizer_g, optimizer_d = pair.optimizers()
    for parameter in pair.parameters():
        parameter.grad = torch.ones_like(parameter)
    with update(pair, optimizer_g):
        assert learning(pair) == FREE | {"discriminator.weight": False}
        assert pair.generator.weight.grad is None, "gradients of an earlier step would be added"
        pair.manual_backward(pair.discriminator(pair.generator(torch.ones(1, 1))).sum())
        # d(w_d (w_g x + b_g) + b_d) / dw_g = w_d x
        assert pair.generator.weight.grad.item() == pair.discriminator.weight.item()
    assert pair.generator.weight.grad is None, "it would take memory beside the next step's activations"
    assert pair.discriminator.weight.grad.item() == 1, "untouched by the other phase"
    assert learning(pair) == FREE
    with update(pair, optimizer_d):
        assert learning(pair) == {name: name == "discriminator.weight" for name in FREE}
    assert learning(pair) == FREE


def test_an_exception_leaves_nothing_frozen(pair):
    for optimizer in pair.optimizers():
        with pytest.raises(ZeroDivisionError), update(pair, optimizer):
            raise ZeroDivisionError
        assert learning(pair) == FREE


def test_a_phase_inside_another_one_keeps_the_outer_ones_graph_and_gradients(pair):
    optimizer_g, optimizer_d = pair.optimizers()
    with update(pair, optimizer_g):
        fake = pair.generator(torch.ones(1, 1))
        pair.manual_backward(fake.sum())
        with update(pair, optimizer_d):
            assert learning(pair) == {name: name == "discriminator.weight" for name in FREE}
            pair.manual_backward(pair.discriminator(fake.detach()).sum())
            assert pair.discriminator.weight.grad.item() == pytest.approx(fake.item())
            optimizer_d.step()
        assert learning(pair) == FREE | {"discriminator.weight": False}
        pair.manual_backward(pair.discriminator(fake.detach() * 0 + pair.generator(torch.ones(1, 1))).sum())
        # of both backward passes, the second one through the weight that has moved
        assert pair.generator.weight.grad.item() == pytest.approx(1 + pair.discriminator.weight.item())
        assert pair.discriminator.weight.grad is None
    assert learning(pair) == FREE
    with pytest.raises(ZeroDivisionError), update(pair, optimizer_g), update(pair, optimizer_d):
        raise ZeroDivisionError
    assert learning(pair) == FREE


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_gradients_collected_at_copies_pass_on_as_if_nothing_had_been_cut(pair, monkeypatch, scale):
    x = torch.ones(1, 1)
    loss = (pair.generator(x) ** 2 + 3 * pair.generator(x)).sum()
    expected = torch.autograd.grad(loss, list(pair.generator.parameters()))
    if scale is not None:
        scaler = SimpleNamespace(get_scale=lambda: scale)
        monkeypatch.setattr(pair.trainer.precision_plugin, "scaler", scaler, raising=False)
        monkeypatch.setattr(pair, "manual_backward", lambda loss: (loss * scale).backward())
    behind, unreached = pair.generator(x), pair.generator(x)
    copies = detached(behind, unreached)
    pair.manual_backward((copies[0] ** 2).sum())
    pair.manual_backward((3 * copies[0]).sum())
    assert pair.generator.weight.grad is None
    pair.manual_backward(collected(pair, (behind, unreached), copies))
    for parameter, gradient in zip(pair.generator.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad / (scale or 1.0), gradient)


def test_weighted_sum():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(5.0, requires_grad=True)}
    total = weighted_sum(terms, {"a": 10.0, "b": 0.5, "unused": 7.0})
    assert total.item() == 22.5
    total.backward()
    assert terms["b"].grad.item() == 0.5


def test_a_term_of_weight_zero_adds_nothing():
    term = torch.tensor(3.0, requires_grad=True)
    total = weighted_sum({"a": term, "b": torch.tensor(1.0)}, {"a": 0.0, "b": 2.0})
    total.backward()
    assert (total.item(), term.grad.item()) == (2, 0)


def test_terms_without_a_weight_are_named():
    with pytest.raises(KeyError, match=r"\['cycel'\].*\['cycle', 'gan'\]"):
        weighted_sum({"cycel": torch.ones(()), "gan": torch.ones(())}, {"cycle": 1.0, "gan": 1.0})
    with pytest.raises(ValueError, match="at least one term"):
        weighted_sum({}, {"a": 1.0})


@pytest.mark.parametrize("wrong", [{"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "B": 1}, {"a": 1, "b": -0.5}])
def test_weights_that_do_not_fit_the_method_are_refused(wrong):
    with pytest.raises(UserError, match=r"method\.weights"):
        check_weights(wrong, {"a", "b"})


def test_checked_weights_are_a_copy():
    given = {"a": 1, "b": 0}
    checked = check_weights(given, {"a", "b"})
    given["a"] = 2
    assert checked == {"a": 1, "b": 0}


class Deep(LightningModule):
    """Four layers of different sizes, of which one is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layers = nn.Sequential(*(nn.Linear(a, b) for a, b in ((3, 8), (8, 5), (5, 2))))
        self.unused = nn.Linear(2, 2)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1, fused=True)


@pytest.mark.parametrize("early_bytes", [1, 150, 10**9])
def test_early_steps_end_with_the_same_bits_and_fewer_gradients(monkeypatch, early_bytes):
    torch.manual_seed(0)
    ours = connect(Deep())
    theirs = connect(Deep())
    theirs.load_state_dict(ours.state_dict())
    monkeypatch.setattr(updates, "_EARLY_BYTES", early_bytes)
    alive = []
    for step in range(3):
        images = torch.randn(4, 3)
        for module in (ours, theirs):
            optimizer = module.optimizers()
            early = early_steps(module, optimizer) if module is ours else nullcontext()
            with update(module, optimizer), early:
                module.manual_backward(module.layers(images).square().sum())
                if module is ours:
                    alive.append(sum(p.grad.nbytes for p in module.parameters() if p.grad is not None))
                optimizer.step()
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), (step, name)
    state = ours.optimizers().optimizer.state
    assert {int(values["step"]) for values in state.values()} == {3}
    everything = 4 * (3 * 8 + 8 + 8 * 5 + 5 + 5 * 2 + 2)
    assert alive == [everything if early_bytes > everything else pytest.approx(alive[0])] * 3
    assert alive[0] < max(early_bytes, 1) or early_bytes > everything
    assert ours.trainer.global_step == theirs.trainer.global_step, "Lightning counts one step"
    ours.manual_backward(ours.layers(torch.ones(1, 3)).sum())
    assert ours.layers[0].weight.grad is not None, "outside, gradients stay"


@pytest.mark.parametrize("why", ["processes", "scaler"])
def test_nothing_is_early_where_gradients_are_not_final(monkeypatch, why):
    module = connect(Deep())
    monkeypatch.setattr(updates, "_EARLY_BYTES", 1)
    if why == "processes":
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)  # also of one process
    else:
        monkeypatch.setattr(module.trainer.precision_plugin, "scaler", object(), raising=False)
    before = copy.deepcopy(module.state_dict())
    with early_steps(module, module.optimizers()):
        module.manual_backward(module.layers(torch.ones(1, 3)).sum())
        assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
        assert module.layers[0].weight.grad is not None


def test_a_held_network_passes_gradients_on_and_takes_none(pair):
    x = torch.ones(1, 1, requires_grad=True)
    with held(pair.discriminator):
        y = pair.discriminator(x)
    assert learning(pair) == FREE, "what its owner has frozen stays so, the rest does not"
    y.sum().backward()
    assert x.grad.item() == pair.discriminator.weight.item()
    assert pair.discriminator.weight.grad is None
