"""A family of published weights: generators of one layout, and how their names and values become ours."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]


def same(_: str, tensor: Tensor) -> Tensor:
    """A tensor as it is."""
    return tensor


def of_tensorflow(_: str, tensor: Tensor) -> Tensor:
    """A kernel as PyTorch has it: ``(out, in, height, width)`` of ``(height, width, in, out)``."""
    return tensor.permute(3, 2, 0, 1) if tensor.dim() == 4 else tensor


def nothing(_: dict[str, Tensor]) -> None:
    """Leave weights as they are."""


@dataclass(frozen=True)
class Family:
    """Generators of one layout.

    Attributes:
        name: By which a user chooses it.
        title: What it is.
        source: Where its weights are published.
        licence: As the authors state it.
        network: Our class.
        arguments: Of our class, read from the shapes of the file's tensors.
        names: Ours to theirs, of all tensors; of the shapes, which tell how many blocks there are.
        mark: Names that all its files have, and none of another family has.
        dropped: Names that may be left over.
        layout: From their tensor of a name to ours.
        finish: What is done to all weights at the end, in place, such as another order of colors.
        constant: What a dropped tensor of a name must be, if it matters.
    """

    name: str
    title: str
    source: str
    licence: str
    network: type[nn.Module]
    arguments: Callable[[Shapes], dict[str, Any]]
    names: Callable[[Shapes], dict[str, str]]
    mark: tuple[str, ...]
    dropped: str = r"(?!)"
    layout: Callable[[str, Tensor], Tensor] = same
    finish: Callable[[dict[str, Tensor]], None] = nothing
    constant: Callable[[str, Tensor], Tensor | None] = lambda *_: None

    def disagreement(self, shapes: Shapes) -> str:
        """The first names that a file has too few and too many; empty where its names are this family's."""
        theirs = self.names(shapes).values()
        missing = [name for name in theirs if name not in shapes]
        left = [name for name in shapes if name not in theirs and not re.fullmatch(self.dropped, name)]
        parts = [f"it lacks {_first(missing)}"] if missing else []
        return ", and ".join([*parts, f"it has {_first(left)} besides"] if left else parts)

    def likeness(self, shapes: Shapes) -> float:
        """The part of all names, the file's and the family's, that both have, from 0 to 1."""
        theirs = set(self.names(shapes).values())
        return len(theirs & shapes.keys()) / len(theirs | shapes.keys())

    def convert(
        self, state: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Arguments of our class, and its state dict.

        Args:
            state: A file's, whose names are this family's.
            options: Further arguments, or others.

        Raises:
            UserError: A tensor has another shape, or values that are no numbers, pictures are no RGB ones, or our class
                takes no such option.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        arguments = {**self.arguments(shapes), **options}
        wanted = self._skeleton(arguments)
        weights = {}
        for ours, theirs in self.names(shapes).items():
            tensor = self.layout(theirs, state[theirs])
            if tensor.shape != wanted[ours].shape:
                expected = tuple(self.layout(theirs, torch.empty(shapes[theirs], device="meta")).shape)
                raise UserError(
                    f"{theirs} has the shape {shapes[theirs]}, which is {expected} here, where "
                    f"{tuple(wanted[ours].shape)} belongs"
                )
            if not tensor.is_floating_point() or not (values := tensor.float()).isfinite().all():
                raise UserError(f"{theirs} holds values that are no finite numbers")
            weights[ours] = values.contiguous().clone()
        for name, tensor in state.items():
            if (expected := self.constant(name, tensor)) is not None and not torch.equal(tensor.float(), expected):
                raise UserError(f"{name} holds other values than the constants that belong there")
        self.finish(weights)
        return arguments, {name: weights[name] for name in wanted}

    def _skeleton(self, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
        """The state dict of our class, without values."""
        if (channels := {arguments.get(key, 3) for key in ("in_channels", "out_channels")}) != {3}:
            raise UserError(f"it is for pictures of {max(channels - {3})} channels, and photographs have 3")
        try:
            with torch.device("meta"):
                network = self.network(**arguments).eval()
                network(torch.empty(1, 3, network.minimum_size, network.minimum_size))  # which looks at all options
        except (TypeError, ValueError) as error:
            given = ", ".join(f"{key}={value}" for key, value in arguments.items())
            raise UserError(f"{error} ({given})") from error
        return network.state_dict()


def layers(ours: str, theirs: str, weight: str = "weight", bias: str = "bias") -> dict[str, str]:
    """Names of the weight and the bias of a layer, ours to theirs; without a name for it there is no bias."""
    named = {f"{ours}.weight": f"{theirs}.{weight}"}
    return {**named, f"{ours}.bias": f"{theirs}.{bias}"} if bias else named


def extent(shapes: Shapes, name: str, axis: int) -> int:
    """The extent of a convolution's weight along an axis.

    Raises:
        UserError: It is none of a convolution in two dimensions.
    """
    if len(shapes[name]) != 4 or not all(shapes[name]):
        raise UserError(f"{name} has the shape {shapes[name]}, and is no weight of a convolution")
    return shapes[name][axis]


def numbered(shapes: Shapes, pattern: str, default: int) -> int:
    """How many blocks a file has: different numbers in names that begin with a pattern; without any, a default."""
    found = {match[1] for name in shapes if (match := re.match(pattern, name))}
    return len(found) or default


def swap_red_and_blue(weights: dict[str, Tensor], first: str, last: str) -> None:
    """Let a network of BGR pictures take and give RGB ones: in the channels of its first and last convolution."""
    weights[f"{first}.weight"] = weights[f"{first}.weight"].flip(1).contiguous()
    for name in (f"{last}.weight", f"{last}.bias"):
        weights[name] = weights[name].flip(0).contiguous()


def _first(names: list[str]) -> str:
    return f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
