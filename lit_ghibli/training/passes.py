"""Several passes of one network as one pass of a larger batch, for devices that a single picture does not fill."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from lit_ghibli.errors import UserError


def check_joinable(name: str, network: nn.Module) -> None:
    """Refuse a network whose output for a picture depends on what else is in its batch or in how many passes.

    Raises:
        UserError: Naming the network and what it has.
    """
    for module in network.modules():
        batch_norm = isinstance(module, _BatchNorm)
        if batch_norm or parametrize.is_parametrized(module):
            what = "batch norm" if batch_norm else "spectral norm"
            raise UserError(f"runtime.batch_passes=true would change what is learned: the {name} has {what}")


def joined(network: nn.Module, *pictures: Tensor) -> tuple[Tensor, ...]:
    """What a network makes of each of several batches ``(N, C, H, W)`` of one size, in one pass."""
    return network(torch.cat(pictures)).split([len(each) for each in pictures])
