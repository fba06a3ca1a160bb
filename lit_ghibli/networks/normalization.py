"""Normalisation whose statistics can be recorded on one image and reused on another; attention does likewise."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Statistics = tuple[Tensor, Tensor]


class _Memory:
    """What a layer has measured of the pictures so far, for each of its calls in a forward pass."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self.calls = 0  # so far in this forward pass
        self.measured: list[Statistics] = []

    def __call__(self, measured: Statistics) -> Statistics:
        self.calls += 1
        if self.calls > len(self.measured):
            self.measured.append(tuple(each.detach() for each in measured))
        else:
            pairs = zip(measured, self.measured[self.calls - 1], strict=True)
            self.measured[self.calls - 1] = tuple(torch.lerp(new.detach(), old, self.keep) for new, old in pairs)
        return self.measured[self.calls - 1]


class Recorded:
    """What a layer measures of a whole picture, unless ``statistics`` are given; goes before PyTorch's class."""

    statistics: list[Statistics] | None = None
    recording = False
    calls = 0  # with given statistics, so far in this forward pass
    memory: _Memory | None = None

    @property
    def is_alone(self) -> bool:
        """Whether neither this pass's statistics are anybody else's business, nor others' are this one's."""
        return self.statistics is None and self.memory is None

    def remembered(self, measured: Statistics) -> Statistics:
        """What was measured; inside ``shared_statistics``, its mean with that of the pictures before."""
        return measured if self.memory is None else self.memory(measured)

    def next_statistics(self) -> Statistics:
        """Those given for this call.

        Raises:
            ValueError: There are none, since this layer did not run when they were recorded.
        """
        if not self.statistics:
            raise ValueError(
                f"the statistics do not fit this network: its {type(self).__name__} had no part in the pass in which "
                "they were recorded; record them over a pass of the same kind"
            )
        self.calls += 1
        return self.statistics[min(self.calls, len(self.statistics)) - 1]


class Norm(Recorded):
    """Normalises by the input's own statistics, unless others are given."""

    _dims: tuple[int, ...]  # over which statistics are taken

    def _measure(self, input: Tensor) -> Statistics:
        variance, mean = torch.var_mean(input.float(), dim=self._dims, correction=0, keepdim=True)
        return mean, variance

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``; the result has the input's shape and dtype."""
        given = None
        if self.statistics is not None and not self.recording:
            given = self.next_statistics()
        elif self.recording or self.memory is not None:
            measured = self.remembered(self._measure(input))
            if self.recording:
                self.statistics.append(tuple(each.detach() for each in measured))
            given = measured if self.memory is not None else None
        if given is not None:
            mean, variance = given
            normalized = (input.float() - mean) * torch.rsqrt(variance + self.eps)
            if self.affine:
                normalized = normalized * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
            return normalized.to(input.dtype)
        if input.device.type == "cpu" and input.dtype in (torch.bfloat16, torch.float16) and not self.affine:
            # The CPU kernel rounds the mean to the input's precision, which the differences then inherit;
            # with float32 weights, as under autocast, it does not.
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)


class _QuickInstanceNorm(nn.InstanceNorm2d):
    """PyTorch's, by another kernel on the CPU: groups of one channel each are the same, in 0.4 of the time."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu":
            return F.group_norm(input, self.num_features, self.weight, self.bias, self.eps)
        return super().forward(input)


class InstanceNorm(Norm, _QuickInstanceNorm):
    """Instance normalisation without running statistics.

    Every channel of every image is brought to mean 0 and variance 1 over its own positions. With
    ``statistics`` set, that mean and variance are used instead: the tiles of a huge photograph are
    then normalised alike, and leave no seams. Statistics are float32 also under autocast.

    Args:
        num_features: channels of the input.
        affine: whether to scale and shift the channels by learned numbers, which start at 1 and 0.

    Attributes:
        statistics: ``None``, or (mean, biased variance) for each call of a forward pass, ``(N or 1, C, 1, 1)``.
        recording: while true, ``statistics`` grows by those of each input, which is normalised as usual.

    Source: Ulyanov et al. 2017, Eq. 4.
    """

    _dims = (2, 3)

    def __init__(self, num_features: int, affine: bool = False) -> None:
        super().__init__(num_features, affine=affine, track_running_stats=False)


class BatchNorm(Norm, nn.BatchNorm2d):
    """Batch normalisation that uses the statistics of the batch at hand in eval mode too.

    Every channel is brought to mean 0 and variance 1 over all images and positions of the batch, then
    scaled and shifted by learned numbers. There are no running statistics: the training of a GAN at
    batch 1 never sees a network that uses them. With ``statistics`` set, they replace the batch's own.

    Args:
        num_features: channels of the input.

    Attributes:
        statistics: ``None``, or (mean, biased variance) for each call of a forward pass, ``(1, C, 1, 1)``.
        recording: while true, ``statistics`` grows by those of each input, which is normalised as usual.

    Source: Ioffe and Szegedy 2015, Algorithm 1; statistics of the test batch: Isola et al. 2017, section 3.3.
    """

    _dims = (0, 2, 3)

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, affine=True, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``; the result has the input's shape and dtype."""
        if torch.compiler.is_compiling() and len(input) == 1:  # where both are the same, and this can be exported
            return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)
        return super().forward(input)


class LayerNorm(Norm, nn.GroupNorm):
    """Layer normalisation over all channels and positions of an image together, then a scale and shift by channel.

    Not PyTorch's layer norm, whose statistics are those of each position. With ``statistics`` set, that mean and
    variance are used instead. Statistics are float32 also under autocast.

    Args:
        num_features: channels of the input.

    Attributes:
        statistics: ``None``, or (mean, biased variance) for each call of a forward pass, ``(N or 1, 1, 1, 1)``.
        recording: while true, ``statistics`` grows by those of each input, which is normalised as usual.

    Source: Ba et al. 2016, Eq. 3, as TensorFlow 1's ``contrib.layers.layer_norm`` has it for images, its epsilon too.
    """

    _dims = (1, 2, 3)

    def __init__(self, num_features: int) -> None:
        super().__init__(1, num_features, eps=1e-12)


class GroupNorm(Norm, nn.GroupNorm):
    """Group normalisation: 32 groups of channels, or fewer where they would have less than four channels or not divide.

    Then a scale and shift by channel. With a channel a group it would be instance normalisation, which takes from a
    picture how bright and how colored it is.

    With ``statistics`` set, that mean and variance are used instead. Statistics are float32 also under autocast.

    Args:
        num_features: channels of the input.

    Attributes:
        statistics: ``None``, or (mean, biased variance) for each call of a forward pass, ``(N or 1, C, 1, 1)``.
        recording: while true, ``statistics`` grows by those of each input, which is normalised as usual.

    Source: Wu and He 2018, Eq. 1 and section 3.1; groups and epsilon as in Esser et al. 2021.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(math.gcd(32, num_features, max(1, num_features // 4)), num_features, eps=1e-6)

    def _measure(self, input: Tensor) -> Statistics:
        groups = input.float().unflatten(1, (self.num_groups, -1))
        variance, mean = torch.var_mean(groups, dim=(2, 3, 4), correction=0)
        width = self.num_channels // self.num_groups
        return tuple(each.repeat_interleave(width, dim=1)[..., None, None] for each in (mean, variance))


def normalization_layer(name: str, num_features: int) -> nn.Module:
    """Build a normalisation layer from its name.

    Args:
        name: ``instance`` (not affine), ``affine_instance``, ``batch`` (affine, statistics of the batch at hand) or
            ``none``.
        num_features: channels of the layer's input.

    Raises:
        ValueError: on another name.
    """
    if name == "instance":
        return InstanceNorm(num_features)
    if name == "affine_instance":
        return InstanceNorm(num_features, affine=True)
    if name == "batch":
        return BatchNorm(num_features)
    if name == "none":
        return nn.Identity()
    raise ValueError(f"norm is {name!r}; it must be 'instance', 'affine_instance', 'batch' or 'none'")


def _recorded(network: nn.Module) -> dict[str, Recorded]:
    return {name: module for name, module in network.named_modules() if isinstance(module, Recorded)}


@contextmanager
def record_statistics(network: nn.Module) -> Iterator[dict[str, list[Statistics]]]:
    """Record what every norm and attention of a network measures in its last forward pass inside the block.

    Args:
        network: any module.

    Yields:
        A dict, filled when the block ends: the norm's module name -> (mean, variance) of each of its calls, in
        order: one, or as many as an ODE solver makes. Norms that did not run are absent. It is what
        ``frozen_statistics`` takes.
    """
    norms = _recorded(network)
    recorded: dict[str, list[Statistics]] = {}

    def start_pass(*_: object) -> None:
        for norm in norms.values():
            norm.statistics, norm.recording = [], True

    start_pass()
    hook = network.register_forward_pre_hook(start_pass)
    try:
        yield recorded
    finally:
        hook.remove()
        for name, norm in norms.items():
            if norm.statistics:
                recorded[name] = norm.statistics
            norm.statistics, norm.recording = None, False


@contextmanager
def frozen_statistics(network: nn.Module, statistics: dict[str, list[Statistics]]) -> Iterator[None]:
    """Normalise with given statistics, instead of each input's own, inside the block.

    A norm that a forward pass calls several times uses those of its calls in turn, from the first again in the next
    pass. Should it be called more often than when they were recorded, the last ones go on to be used.

    Args:
        network: the network on which, or on whose equal, the statistics were recorded.
        statistics: what ``record_statistics`` filled.

    Raises:
        ValueError: if there are statistics of what this network does not have; in the pass, if there are none of a
            norm that takes part in it.
    """
    norms = _recorded(network)
    if unknown := sorted(statistics.keys() - norms.keys()):
        raise ValueError(
            f"the statistics do not fit this network: it has no {unknown}; record them with record_statistics on this "
            "network"
        )

    def start_pass(*_: object) -> None:
        for norm in norms.values():
            norm.calls = 0

    for name, norm in norms.items():
        norm.statistics = statistics.get(name, [])
    start_pass()
    hook = network.register_forward_pre_hook(start_pass)
    try:
        yield
    finally:
        hook.remove()
        for norm in norms.values():
            norm.statistics = None


class SharedStatistics:
    """What the layers of a network have measured of the pictures so far; see ``shared_statistics``."""

    def __init__(self, layers: dict[str, Recorded], keep: float) -> None:
        self._memories = {name: _Memory(keep) for name in layers}
        self._layers = layers

    def __len__(self) -> int:
        """The number of layers."""
        return len(self._layers)

    def forget(self) -> None:
        """Begin anew with the next picture."""
        self.load_state_dict({})

    def state_dict(self) -> dict[str, list[Statistics]]:
        """What was measured, by the layers' names."""
        return {name: memory.measured for name, memory in self._memories.items() if memory.measured}

    def load_state_dict(self, state: dict[str, list[Statistics]]) -> None:
        """Go on from there."""
        for name, memory in self._memories.items():
            memory.measured = list(state.get(name, []))

    def start_pass(self, *_: object) -> None:
        """Count calls from the first again."""
        for memory in self._memories.values():
            memory.calls = 0

    @contextmanager
    def applied(self, sharing: bool = True) -> Iterator[None]:
        """Share statistics inside the block, or, within another one, do not."""
        before = {name: layer.memory for name, layer in self._layers.items()}
        for name, layer in self._layers.items():
            layer.memory = self._memories[name] if sharing else None
        try:
            yield
        finally:
            for name, layer in self._layers.items():
                layer.memory = before[name]


@contextmanager
def shared_statistics(network: nn.Module, keep: float) -> Iterator[SharedStatistics]:
    """Normalise every picture inside the block with a running mean of its own and earlier pictures' statistics.

    So the frames of a clip look alike, where otherwise something that moves into one of them changes the normalisation,
    and with it every color, of all else. Works with tiles: what is measured of a picture for them is shared. Attention
    that keeps no matrix of the picture but keys of its positions, which move, stays each picture's own.

    Args:
        network: any module; its forward passes are the pictures.
        keep: share of the earlier pictures: 0 for the picture's own, 1 for those of the first one.

    Yields:
        What was measured, to be saved, or forgotten where another scene begins.
    """
    shared = SharedStatistics(_recorded(network) if keep else {}, keep)
    hook = network.register_forward_pre_hook(shared.start_pass)
    try:
        with shared.applied():
            yield shared
    finally:
        hook.remove()
