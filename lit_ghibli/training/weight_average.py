"""A moving average of weights, which makes steadier pictures than those of any single step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError


class WeightAverage:
    """An exponential moving average of the parameters of some networks, on their device, in float32 at least.

    After step n, counted from 1, it keeps the share ``min(decay, (1 + n) / (10 + n))`` of itself: the weights that a
    training begins with would else be most of it for a thousand steps. Buffers are not averaged.

    Args:
        networks: Networks by name, all their parameters made.
        decay: In (0, 1).

    Source: Polyak and Juditsky 1992; the first steps: TensorFlow's ``ExponentialMovingAverage``.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        if not 0 < decay < 1:
            raise UserError(f"callbacks.ema.decay must be between 0 and 1, such as 0.999, or null; got {decay}")
        self.decay = decay
        self.parameters = {
            f"{name}.{key}": parameter.detach()
            for name, network in networks.items()
            for key, parameter in network.named_parameters()
        }
        self.averages = {
            name: value.to(torch.promote_types(value.dtype, torch.float32), copy=True)
            for name, value in self.parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after a step, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        averages = list(self.averages.values())
        current = [value.to(old.dtype) for value, old in zip(self.parameters.values(), averages, strict=True)]
        torch._foreach_lerp_(averages, current, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the networks have the averages as their parameters, in the same memory."""
        parameters = list(self.parameters.values())
        own = [value.clone() for value in parameters]
        torch._foreach_copy_(parameters, list(self.averages.values()))
        try:
            yield
        finally:
            torch._foreach_copy_(parameters, own)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, by the parameters' names in a checkpoint."""
        return self.averages

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        for name, average in self.averages.items():
            average.copy_(state[name])
