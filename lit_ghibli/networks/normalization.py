"""Instance normalisation whose statistics can be recorded on one image and reused on another."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Statistics = tuple[Tensor, Tensor]


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation without affine parameters or running statistics.

    Every channel of every image is brought to mean 0 and variance 1 over its own positions. With
    ``statistics`` set, that mean and variance are used instead: the tiles of a huge photograph are
    then normalised alike, and leave no seams. Statistics are float32 also under autocast.

    Args:
        num_features: channels of the input.

    Attributes:
        statistics: ``None``, or (mean, biased variance), each ``(N or 1, C, 1, 1)``.
        recording: while true, ``statistics`` is set from each input, which is normalised as usual.

    Source: Ulyanov et al. 2017, Eq. 4.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, affine=False, track_running_stats=False)
        self.statistics: Statistics | None = None
        self.recording = False

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``; the result has the input's shape and dtype."""
        if self.recording:
            variance, mean = torch.var_mean(input.float(), dim=(2, 3), correction=0, keepdim=True)
            self.statistics = (mean.detach(), variance.detach())
        elif self.statistics is not None:
            mean, variance = self.statistics
            return ((input.float() - mean) * torch.rsqrt(variance + self.eps)).to(input.dtype)
        if input.device.type == "cpu" and input.dtype in (torch.bfloat16, torch.float16):
            # The CPU kernel rounds the mean to the input's precision, which the differences then inherit.
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)


def normalization_layer(name: str, num_features: int) -> nn.Module:
    """Build a normalisation layer from its name.

    Args:
        name: ``instance`` (not affine), ``batch`` (affine, running statistics) or ``none``.
        num_features: channels of the layer's input.

    Raises:
        ValueError: on another name.
    """
    if name == "instance":
        return InstanceNorm(num_features)
    if name == "batch":
        return nn.BatchNorm2d(num_features)
    if name == "none":
        return nn.Identity()
    raise ValueError(f"norm is {name!r}; it must be 'instance', 'batch' or 'none'")


def _instance_norms(network: nn.Module) -> dict[str, InstanceNorm]:
    return {name: module for name, module in network.named_modules() if isinstance(module, InstanceNorm)}


@contextmanager
def record_statistics(network: nn.Module) -> Iterator[dict[str, Statistics]]:
    """Record what every ``InstanceNorm`` of a network measures in its last forward pass inside the block.

    Args:
        network: any module.

    Yields:
        A dict, filled when the block ends: the norm's module name -> (mean, variance). Norms that did
        not run are absent. It is what ``frozen_statistics`` takes.
    """
    norms = _instance_norms(network)
    recorded: dict[str, Statistics] = {}
    for norm in norms.values():
        norm.statistics, norm.recording = None, True
    try:
        yield recorded
    finally:
        for name, norm in norms.items():
            if norm.statistics is not None:
                recorded[name] = norm.statistics
            norm.statistics, norm.recording = None, False


@contextmanager
def frozen_statistics(network: nn.Module, statistics: dict[str, Statistics]) -> Iterator[None]:
    """Normalise with given statistics, instead of each input's own, inside the block.

    Args:
        network: the network on which, or on whose equal, the statistics were recorded.
        statistics: what ``record_statistics`` filled.

    Raises:
        ValueError: if the names differ from those of the network's ``InstanceNorm`` modules.
    """
    norms = _instance_norms(network)
    if norms.keys() != statistics.keys():
        differing = sorted(norms.keys() ^ statistics.keys())
        raise ValueError(
            f"the statistics do not fit this network: names in only one of the two are {differing}; "
            "record them with record_statistics on this network, over a whole forward pass"
        )
    for name, norm in norms.items():
        norm.statistics = statistics[name]
    try:
        yield
    finally:
        for norm in norms.values():
            norm.statistics = None
