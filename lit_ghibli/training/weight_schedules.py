"""Weights that change over the training, as pure functions of time.

Time ``t`` counts from 1 to ``total``, in epochs or in steps; ``warm_up`` has the same unit.
"""

import math
from dataclasses import dataclass

from lit_ghibli.errors import UserError


def constant(t: int, total: int) -> float:
    """Stay at 1."""
    return 1.0


def ramp_up(t: int, total: int, warm_up: int) -> float:
    """Stay at 0 during ``warm_up``, then rise linearly to 1 at ``t = total``.

    Source: Santoso et al. 2024, section 4.2.4, which asks for a weight that is larger in later epochs: linear is our
    reading.
    """
    return min(max((t - warm_up) / (total - warm_up), 0.0), 1.0)


def cosine_decay(t: int, total: int) -> float:
    """Fall from 1 at ``t = 1`` along a quarter of a cosine, which would reach 0 at ``t = total + 1``.

    Source: Jiang et al. 2023, as meant; see :func:`released_cosine_decay`.
    """
    return math.cos(math.pi / 2 * (t - 1) / total)


def released_cosine_decay(t: int, total: int) -> float:
    """Cosine decay as Scenimefy's released code has it, multiplying by ``total`` where dividing is meant.

    It does not decay: it is always 1 where 4 divides ``total``, and else changes its sign, as 1, -1, 1, -1 for an even
    ``total`` and as 1, 0, -1, 0 for an odd one.

    Source: the code of Jiang et al. 2023, for comparison with it only.
    """
    return math.cos(math.pi / 2 * total * (t - 1))


def falling(t: int, total: int, start: float, end: float) -> float:
    """Move linearly from ``start``, before the training, to ``end`` at ``t = total``, and stay there.

    Source: the code of Jung et al. 2022: the curriculum of gamma, 50 to 10.
    """
    return start + (end - start) * min(t, total) / total


_WITHOUT_WARM_UP = {"constant": constant, "cosine_decay": cosine_decay}
_NAMES = ("ramp_up", *_WITHOUT_WARM_UP)
_UNITS = ("epoch", "step")


@dataclass(frozen=True)
class SupervisedWeight:
    """Weight of the supervised branch at every step of a training; call it.

    Args:
        name: ``ramp_up``, ``cosine_decay`` or ``constant``.
        epochs: planned length of the training. In a longer one the last weight stays.
        unit: ``epoch`` changes the weight between epochs, ``step`` at every step.
        warm_up_epochs: epochs of ``ramp_up`` without the branch; the other schedules have none.
        faithful: :func:`released_cosine_decay` in place of :func:`cosine_decay`.

    Raises:
        UserError: on an unknown name or unit, and on a warm-up that is negative or leaves no epoch to rise in.
    """

    name: str
    epochs: int
    unit: str = "epoch"
    warm_up_epochs: int = 0
    faithful: bool = False

    def __post_init__(self) -> None:
        for key, value, accepted in (("name", self.name, _NAMES), ("unit", self.unit, _UNITS)):
            if value not in accepted:
                raise UserError(f"method.schedule.{key} is {value!r}; it must be one of {', '.join(accepted)}")
        if self.name == "ramp_up" and not 0 <= self.warm_up_epochs < self.epochs:
            raise UserError(
                f"method.schedule.warm_up_epochs is {self.warm_up_epochs}; for ramp_up it must be at least 0 and less "
                f"than method.epochs = {self.epochs}"
            )

    def __call__(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Give the weight at ``step`` of ``epoch``, both counted from 0, the step from the epoch's start."""
        if self.unit == "epoch":
            step, steps_per_epoch = 0, 1
        total = self.epochs * steps_per_epoch
        t = min(epoch * steps_per_epoch + step + 1, total)
        if self.name == "ramp_up":
            return ramp_up(t, total, self.warm_up_epochs * steps_per_epoch)
        if self.name == "cosine_decay" and self.faithful:
            return released_cosine_decay(t, total)
        return _WITHOUT_WARM_UP[self.name](t, total)
