"""Learning-rate schedules as pure functions of the epoch."""

from collections.abc import Mapping
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


def initialization_then_linear(
    optimizer: Optimizer,
    *,
    epochs: int,
    decay_epochs: int,
    initialization_epochs: int,
    initialization_decay_epochs: int,
    initialization_lr: float,
) -> LambdaLR:
    """Schedule :func:`constant_then_linear` after an initialisation at another rate, which has that shape, too.

    Args:
        optimizer: Its learning rate is that of the training behind the initialisation.
        epochs: Length of the whole training, initialisation included.
        decay_epochs: How many of them, at the end, decay.
        initialization_epochs: How many of them, the first, are the initialisation; 0 for none.
        initialization_decay_epochs: How many of those, at their end, decay.
        initialization_lr: Learning rate of the initialisation.

    Raises:
        UserError: One of the decays does not fit into its part of the training.
    """
    for prefix, decay, whole in (
        ("", decay_epochs, epochs - initialization_epochs),
        ("initialization_", initialization_decay_epochs, initialization_epochs),
    ):
        if not 0 <= decay <= whole:
            raise UserError(
                f"method.{prefix}decay_epochs must lie in 0 ... {whole}, which are that part of "
                f"method.epochs = {epochs}; got {decay}"
            )
    start = initialization_lr / optimizer.defaults["lr"]

    def factor(epoch: int) -> float:
        if epoch < initialization_epochs:
            lengths = {"epochs": initialization_epochs, "decay_epochs": initialization_decay_epochs}
            return start * constant_then_linear(epoch, **lengths)
        return constant_then_linear(epoch, epochs=epochs, decay_epochs=decay_epochs)

    return LambdaLR(optimizer, factor)


def check_initialization(
    initialization_epochs: int, epochs: int, decay_epochs: int, learned: Mapping[str, float]
) -> None:
    """Refuse an initialisation, in which a generator learns by some terms alone, that has no room or nothing to learn.

    Args:
        initialization_epochs: The first of ``epochs``.
        epochs: All of them.
        decay_epochs: The last of ``epochs``.
        learned: Weights of these terms.

    Raises:
        UserError: Saying what to set.
    """
    if not 0 <= initialization_epochs <= epochs - decay_epochs:
        raise UserError(
            f"method.initialization_epochs ({initialization_epochs}) and method.decay_epochs ({decay_epochs}) must "
            f"fit into method.epochs = {epochs} and not be negative"
        )
    if initialization_epochs and not any(learned.values()):
        zeros = " and ".join(f"method.weights.{name}=0" for name in learned)
        raise UserError(
            f"with {zeros} there is nothing to learn in the initialisation: also set method.initialization_epochs=0"
        )
