"""One optimiser's phase of a GAN step, and the one place where loss weights multiply."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_ghibli.errors import UserError

_EARLY_BYTES = 32 * 2**20  # of gradients: large enough that a step's fixed cost does not matter


@contextmanager
def update(module: LightningModule, optimizer: LightningOptimizer) -> Iterator[None]:
    """One phase of a step: only ``optimizer``'s parameters take gradients, and only for as long as it lasts.

    Inside, backpropagate any number of losses with ``module.manual_backward`` and step the optimiser. Gradients
    are freed at the end, so that they take no memory beside the next step's activations. A phase may stand inside
    another one, whose gradients wait meanwhile: a discriminator then learns from a picture before the generator
    learns from the discriminator, while the picture's graph is kept. The other optimisers' parameters are restored
    even when the phase raises. Lightning's own toggle does neither.
    """
    own = _parameters(optimizer)
    frozen_around = module.__dict__.get("_frozen_by_phase", {})
    thawed = {key: parameter for key, parameter in frozen_around.items() if key in own}
    others = {key: value for other in module.trainer.optimizers for key, value in _parameters(other).items()}
    frozen = {key: value for key, value in others.items() if key not in own and value.requires_grad}
    optimizer.zero_grad()
    try:
        _require_gradients(thawed, True)
        _require_gradients(frozen, False)
        around = {key: value for key, value in frozen_around.items() if key not in own}
        module.__dict__["_frozen_by_phase"] = {**around, **frozen}
        yield
    finally:
        optimizer.zero_grad()
        _require_gradients(thawed, False)
        _require_gradients(frozen, True)
        module.__dict__["_frozen_by_phase"] = frozen_around


def _parameters(optimizer: Optimizer | LightningOptimizer) -> dict[int, Tensor]:
    return {id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]}


def _require_gradients(parameters: dict[int, Tensor], required: bool) -> None:
    for parameter in parameters.values():
        parameter.requires_grad_(required)


@contextmanager
def early_steps(module: LightningModule, optimizer: LightningOptimizer) -> Iterator[None]:
    """Within one backward pass, update parameters as soon as their gradients are complete, and free these.

    The result is the same bit by bit, but the gradients of a large network are never alive all at once. For one
    backward pass in a phase, whose parameters each occur once in its graph, and for optimisers that treat every
    parameter by itself, as Adam does. ``optimizer.step()`` after the backward pass updates the rest.

    Nothing is early with DDP, also of one process, or under a gradient scaler, where gradients are not final before the
    whole backward pass is over.
    """
    scaled = getattr(module.trainer.precision_plugin, "scaler", None) is not None
    handles, pending = [], []

    def step_when_enough(parameter: Tensor) -> None:
        pending.append(parameter)
        if sum(waiting.grad.nbytes for waiting in pending) >= _EARLY_BYTES:
            optimizer.optimizer.step()  # passes over all parameters without a gradient
            for waiting in pending:
                waiting.grad = None
            pending.clear()

    if not (dist.is_available() and dist.is_initialized()) and not scaled:
        parameters = _parameters(optimizer).values()
        handles = [parameter.register_post_accumulate_grad_hook(step_when_enough) for parameter in parameters]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def held(network: nn.Module) -> Iterator[None]:
    """What a network computes inside passes gradients to its input, and none to its parameters."""
    parameters = {id(parameter): parameter for parameter in network.parameters() if parameter.requires_grad}
    _require_gradients(parameters, False)
    try:
        yield
    finally:
        _require_gradients(parameters, True)


def detached(*tensors: Tensor) -> list[Tensor]:
    """Copies, without copied values, that collect gradients by themselves, for :func:`collected`."""
    return [tensor.detach().requires_grad_() for tensor in tensors]


def collected(module: LightningModule, tensors: Iterable[Tensor], copies: Iterable[Tensor]) -> Tensor:
    """A loss whose gradients at ``tensors`` are those that their :func:`detached` copies have collected.

    Where several losses reach the same networks through a few tensors, each is backpropagated to copies of these as
    soon as it is computed, which frees its own part of the graph; what is behind the copies is then passed once.
    """
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    scale = 1.0 if scaler is None else scaler.get_scale()  # which is in the collected gradients already
    pairs = zip(tensors, copies, strict=True)
    return sum((tensor * (copy.grad / scale)).sum() for tensor, copy in pairs if copy.grad is not None)


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of ``weights[name] * terms[name]``, the objective of one backward pass.

    Args:
        terms: Unweighted scalar losses by name.
        weights: Weights by name; may hold more names than ``terms``.

    Raises:
        KeyError: A term has no weight.
        ValueError: There is no term.
    """
    if not terms:
        raise ValueError("weighted_sum needs at least one term")
    unknown = sorted(set(terms) - set(weights))
    if unknown:
        raise KeyError(f"no weight for the loss terms {unknown}; weights exist for {sorted(weights)}")
    return sum(weights[name] * term for name, term in terms.items())


def check_weights(weights: Mapping[str, float], names: set[str], setting: str = "method.weights") -> dict[str, float]:
    """Return ``weights`` as a plain dict after checking that it names exactly the terms ``names``.

    Args:
        weights: Weights by name.
        names: Of all terms.
        setting: What a person calls these weights, for errors.

    Raises:
        UserError: A name is missing or unknown, a weight is negative, or all are 0.
    """
    if set(weights) != names:
        raise UserError(f"{setting} has the names {sorted(weights)}; this method has {sorted(names)}")
    negative = {name: weight for name, weight in weights.items() if weight < 0}
    if negative:
        raise UserError(f"{setting} must not be negative; got {negative}")
    if not any(weights.values()):
        raise UserError(f"{setting} are all 0: nothing would be learned")
    return dict(weights)
