"""What a checkpoint says of weights, optimisers and schedules, fitted to the run that goes on with it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from lit_ghibli.checkpoints import CheckpointError

log = logging.getLogger(__name__)


def check_weights(weights: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor]) -> None:
    """Refuse weights of other networks, which torch would list one by one.

    Args:
        weights: Those of the run, by name.
        checkpoint: Those of the checkpoint.

    Raises:
        CheckpointError: Names or shapes differ.
    """
    for name in sorted(weights.keys() | checkpoint.keys()):
        there, here = (_shape(of.get(name)) for of in (checkpoint, weights))
        if there != here:
            raise CheckpointError(
                f"the checkpoint is of other networks: its {name} is {there}, and this run's {here}; go on without "
                "another method, or other values of its networks"
            )


def fit_states(checkpoint: dict[str, Any], optimizers: Sequence[Optimizer], schedules: Sequence[LRScheduler]) -> None:
    """Let a run's own settings count when the states in a checkpoint are loaded, in which older ones are.

    Learning rates, betas, weight decay and all else that optimisers are made with are those of ``optimizers``; a rate
    that follows a schedule is what this schedule says of the epoch that comes. What has not changed stays as it was to
    the last bit. A rate that is another than it would have been is said.

    Args:
        checkpoint: Its ``optimizer_states`` and ``lr_schedulers`` are changed.
        optimizers: As they were made, in the checkpoint's order.
        schedules: Likewise.

    Raises:
        CheckpointError: The states are of other optimisers or of other weights.
    """
    states, saved = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    if len(states) != len(optimizers) or len(saved) != len(schedules):
        raise CheckpointError("the checkpoint is of another number of optimisers: go on with the method that it is of")
    rates = {
        id(schedule.optimizer): _renew(state, schedule)
        for state, schedule in zip(saved, schedules, strict=True)
        if isinstance(schedule, LambdaLR)
    }
    scheduled = {id(schedule.optimizer) for schedule in schedules}
    for state, optimizer in zip(states, optimizers, strict=True):
        _check_state(state, optimizer)
        for number, (old, now) in enumerate(zip(state["param_groups"], optimizer.param_groups, strict=True)):
            new = {**now, "params": old["params"]}
            if id(optimizer) in rates:
                new["lr"] = rates[id(optimizer)][number]
            elif id(optimizer) in scheduled:  # by one that computes each rate from the one before
                new["lr"] = old["lr"]
            if new["lr"] != old["lr"]:
                log.warning("this run goes on with another learning rate: %g instead of %g", new["lr"], old["lr"])
            state["param_groups"][number] = new


def _renew(state: dict[str, Any], schedule: LambdaLR) -> list[float]:
    """Let a schedule's saved state follow the rates that it starts from now; return those of the epoch that comes."""
    rates = [
        base * factor(state["last_epoch"]) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    state |= {"base_lrs": list(schedule.base_lrs), "_last_lr": rates}
    return rates


def _check_state(state: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Refuse what torch would load and then read beyond its end."""
    groups = list(zip(state["param_groups"], optimizer.param_groups, strict=False))
    if len(state["param_groups"]) != len(optimizer.param_groups) or any(
        len(old["params"]) != len(now["params"]) for old, now in groups
    ):
        raise CheckpointError("the checkpoint's optimisers are of other weights than this run's networks have")
    if any(old.keys() - now.keys() and now.keys() - old.keys() for old, now in groups):
        raise CheckpointError(
            f"the checkpoint's optimiser is no {type(optimizer).__name__}: go on with the one that the run began with"
        )
    weights = {key: weight for old, now in groups for key, weight in zip(old["params"], now["params"], strict=True)}
    total = sum(weight.numel() for weight in weights.values())
    for key, values in state["state"].items():
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.shape in ((), (1,), (total,)):  # a count, or L-BFGS' of all
                continue
            if key not in weights or value.shape != weights[key].shape:
                raise CheckpointError(
                    f"the checkpoint is damaged: '{name}' of its optimiser {type(optimizer).__name__} is "
                    f"{_shape(value)} for weights of {_shape(weights.get(key))}; use another one of its run"
                )


def _shape(weights: Tensor | None) -> str:
    return "not there" if weights is None else "x".join(map(str, weights.shape)) or "one number"
