"""Which of Lightning's knobs a training here can turn, found before anything is read or made."""

import os
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from lit_ghibli.cluster import environment_plugins, under_torchrun
from lit_ghibli.errors import UserError, did_you_mean

_STEPS_ITSELF = "methods step their optimisers themselves"
# Knobs that every method refuses or that the suite sets, by the values that leave them alone, and what to do instead.
_INSTEAD = {
    "accumulate_grad_batches": ((None, 1), f"{_STEPS_ITSELF}: raise data.batch_size"),
    "gradient_clip_val": ((None,), f"{_STEPS_ITSELF}, and clip nothing: lower method.optimizer_g.lr"),
    "gradient_clip_algorithm": ((None,), f"{_STEPS_ITSELF}, and clip nothing: lower method.optimizer_g.lr"),
    "max_steps": (
        (None, -1),
        "it counts the steps of every optimiser, of which a batch has several: use method.epochs, or "
        "trainer.limit_train_batches for shorter epochs",
    ),
    "overfit_batches": ((None, 0, 0.0), "the data have an order of their own: use trainer.limit_train_batches"),
    "reload_dataloaders_every_n_epochs": ((None, 0), "the data have an order of their own, which a resume restores"),
    "enable_checkpointing": ((None, True), "~callbacks.checkpoints leaves the checkpoints out"),
    "barebones": ((None, False), "~callbacks.NAME and logger=none leave things out"),
    "default_root_dir": ((None,), "the run's folder is --out FOLDER"),
    "callbacks": ((None,), "add one as +callbacks.NAME._target_=..., leave one out by ~callbacks.NAME"),
    "logger": ((None, True), "logger=none switches the loggers off"),
    "plugins": ((None,), "the suite's own cannot do without"),
}

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse what Lightning would answer with a traceback, or wait for in vain.

    Args:
        trainer: The configuration of a ``lightning.Trainer``, interpolations resolved.

    Raises:
        UserError: Naming the key and what to do.
    """
    import torch  # here, so that --help answers at once
    from lightning import Trainer

    hints = get_type_hints(Trainer.__init__)
    for key, value in trainer.items():
        if key == "_target_":
            continue
        if key not in hints:
            raise UserError(f"trainer.{key}={value}: Lightning's trainer has no '{key}'{did_you_mean(key, hints)}")
        untouched, instead = _INSTEAD.get(key, ((value,), ""))
        if value not in untouched:
            raise UserError(f"trainer.{key}={value} cannot be used here: {instead}")
        allowed = _flat(hints[key])
        kinds = [name for kind, name in _KINDS.items() if kind in allowed]
        known = _KINDS.keys() & {type(value), *([float] if type(value) is int else [])}
        if known and kinds and not known & set(allowed) and value not in allowed:
            raise UserError(f"trainer.{key} must be {' or '.join(kinds)}; got {value!r}")
    _check_durations(trainer)
    devices = trainer.get("devices", 1)
    if trainer.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: no GPU that torch can use; choose trainer=cpu or trainer=auto")
    number = len(device_numbers(trainer))
    nodes = trainer.get("num_nodes", 1)
    if nodes > 1 and not (environment_plugins() or under_torchrun() or "MASTER_ADDR" in os.environ):
        raise UserError(
            f"trainer.num_nodes={nodes}: nothing has started the other nodes; use launcher=slurm_nodes, or start the "
            "command under srun or torchrun"
        )
    if max(number, nodes) > 1 and trainer.get("strategy", "auto") == "auto":
        raise UserError(f"trainer.devices={devices}: several processes share a training with trainer=ddp: add that")


def device_numbers(trainer: Mapping[str, Any]) -> list[int]:
    """The devices of this machine that a configuration asks for, one process each; on a CPU merely numbered."""
    import torch  # here, so that --help answers at once

    devices = trainer.get("devices", 1)
    if devices in ("auto", -1, "-1"):
        on_cpu = trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
        return list(range(1 if on_cpu else torch.cuda.device_count()))
    if isinstance(devices, str):
        return [int(each) for each in devices.strip(",").split(",")] if "," in devices else list(range(int(devices)))
    return list(range(devices) if isinstance(devices, int) else devices)


def _check_durations(trainer: Mapping[str, Any]) -> None:
    """Shares and numbers of batches, of which none would train nothing, and the longest time."""
    for key in ("limit_train_batches", "val_check_interval"):
        value = trainer.get(key)
        if isinstance(value, int | float) and not (0 < value <= 1 or (value > 1 and value == int(value))):
            raise UserError(f"trainer.{key} must be a whole number of batches or a share above 0; got {value}")
    longest = trainer.get("max_time")
    if isinstance(longest, str) and not re.fullmatch(r"\d+(:\d+){3}", longest):
        raise UserError(f"trainer.max_time must be DD:HH:MM:SS, such as 00:08:30:00; got {longest!r}")


def _flat(hint: Any) -> list[Any]:
    """The types of a hint, and the values of its literals."""
    return [each for kind in (get_args(hint) or (hint,)) for each in (get_args(kind) or (kind,))]
