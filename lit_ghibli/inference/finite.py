"""Which layer of a network computes values that no picture can be made of."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError

LARGEST = 1e8  # of a layer's values: far beyond what training leads to, far below where float32 overflows


@contextmanager
def watching(network: nn.Module, name: str) -> Iterator[None]:
    """Look at what every layer computes inside the block, also at what a later one hides: tanh of infinity is 1.

    Args:
        network: Any.
        name: What it is called.

    Raises:
        UserError: A value is NaN, infinite or beyond `LARGEST`; the first layer that has such is named.
    """
    extremes: list[tuple[str, nn.Module, Tensor]] = []

    def note(layer_name: str, layer: nn.Module, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
            extremes.append((layer_name, layer, torch.stack(output.detach().aminmax()).abs().amax()))

    hooks = [
        layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
        for name, layer in network.named_modules()
        if name and not any(layer.children())
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    # Not before the end: asking for each value at once, a GPU would wait after every layer.
    bad = ~(torch.stack([value.float().cpu() for *_, value in extremes]) <= LARGEST) if extremes else torch.zeros(0)
    if bad.any():
        layer_name, layer, value = extremes[int(bad.nonzero()[0])]
        state = chain(layer.named_parameters(), layer.named_buffers())
        broken = [key for key, values in state if values.is_floating_point() and not values.isfinite().all()]
        cause = f"; its {broken[0]} is not finite" if broken else ""
        raise _unusable(name, f"layer {layer_name} ({type(layer).__name__}) computes {value.item():.2g}{cause}")


def check_finite(picture: Tensor, name: str) -> None:
    """Refuse a picture with values that are no numbers.

    Raises:
        UserError: It has some.
    """
    if not torch.stack(picture.aminmax()).isfinite().all():  # which of the whole picture would take as much memory
        raise _unusable(name, "its output is not finite")


def check_weights(weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights among which there are values that are no numbers.

    Args:
        weights: By name.
        name: Whose they are.

    Raises:
        UserError: The first of them is named.
    """
    for key, values in weights.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise _unusable(name, f"{key} is not finite")


def _unusable(name: str, found: str) -> UserError:
    return UserError(
        f"{name}: {found}, so that no picture can be made: its weights are damaged, or their training has diverged; "
        "choose an earlier checkpoint"
    )
