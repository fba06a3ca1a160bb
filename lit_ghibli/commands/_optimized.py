"""Whether a training measures what it is asked to return, found before it is over."""

from collections.abc import Collection, Sequence
from typing import Any

from lit_ghibli.errors import UserError, did_you_mean

_ALWAYS = "train_seconds"


def check_optimized(names: Sequence[str], method: Any) -> None:
    """Refuse metrics of validations that a method does not measure; its losses show in the first epoch.

    Args:
        names: Of what is optimised, such as ``val/swd``.
        method: The LightningModule.

    Raises:
        UserError: Naming one of them, and those that there are.
    """
    suite = getattr(method, "metrics", None)
    own = [] if suite is None else [*suite.titles.values(), *method.extra_metrics]
    known = [_ALWAYS, *(f"val/{name}" for name in own)]
    for name in names:
        if name not in known and not name.startswith("train/"):
            raise _unknown(name, [*known, "train/LOSS"])


def watch_optimized(names: Sequence[str]) -> Any:
    """A callback that ends a training after its first epoch if one of the losses that are optimised is not logged."""
    from lightning.pytorch.callbacks import LambdaCallback  # here, so that --help answers at once

    def compare(trainer: Any, _: Any) -> None:
        for name in names:
            if name.startswith("train/") and name not in trainer.callback_metrics:
                raise _unknown(name, trainer.callback_metrics)

    return LambdaCallback(on_train_epoch_end=compare)


def _unknown(name: str, known: Collection[str]) -> UserError:
    return UserError(f"optimized_metric={name} is not logged; there are {', '.join(known)}{did_you_mean(name, known)}")
