"""Learning-rate schedules as pure functions of the epoch."""

from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_ghibli.errors import UserError


def constant_then_linear(epoch: int, *, epochs: int, decay_epochs: int) -> float:
    """Factor on the learning rate in ``epoch`` (from 0): 1, then falling linearly over the last epochs.

    The last of the ``decay_epochs`` epochs still learns, at ``1 / (decay_epochs + 1)``; the factor would be 0
    in the epoch after it. Source: Zhu et al. 2017, section 4.

    Args:
        epoch: Current epoch, counted from 0.
        epochs: Length of the whole training.
        decay_epochs: How many of them, at the end, decay; 0 keeps the rate constant.
    """
    past = epoch - (epochs - decay_epochs) + 1
    return 1.0 - min(max(past, 0), decay_epochs + 1) / (decay_epochs + 1) if decay_epochs else 1.0


def linear_decay(optimizer: Optimizer, *, epochs: int, decay_epochs: int) -> LambdaLR:
    """Schedule :func:`constant_then_linear` for ``optimizer``; step it once per epoch.

    Raises:
        UserError: ``decay_epochs`` is negative or more than ``epochs``.
    """
    if not 0 <= decay_epochs <= epochs:
        raise UserError(f"method.decay_epochs must lie in 0 ... method.epochs = {epochs}; got {decay_epochs}")
    return LambdaLR(optimizer, partial(constant_then_linear, epochs=epochs, decay_epochs=decay_epochs))
