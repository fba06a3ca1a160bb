"""Comparing images by a generator's own features at random locations."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.patch_mlp import draw_locations
from lit_ghibli.networks.resnet import TAPS

Features = dict[str, Tensor]


class PatchComparison:
    """Layers of a generator, and how many locations of each are compared.

    Args:
        layers: Some of ``TAPS`` in ``lit_ghibli.networks.resnet``.
        num_patches: Locations in each layer; all of a layer that has fewer.

    Raises:
        UserError: Unknown or no layers, or no location that could be another's negative.
    """

    def __init__(self, layers: Sequence[str], num_patches: int) -> None:
        if not layers or not set(layers) <= set(TAPS):
            raise UserError(f"method.nce_layers must be some of {', '.join(TAPS)}; got {list(layers)}")
        if num_patches < 2:
            raise UserError(f"method.num_patches must be at least 2, a patch and a negative; got {num_patches}")
        self.layers, self.num_patches = tuple(layers), num_patches

    def project(self, head: nn.Module, queries: Features, keys: Features) -> tuple[Features, Features]:
        """Projections of both at the same random locations.

        Args:
            head: A :class:`~lit_ghibli.networks.patch_mlp.PatchMlp` of the layers.
            queries: Features of an output, ``(N, C, h, w)`` for each layer and perhaps others.
            keys: Features of what it should resemble, of the same shapes.

        Returns:
            For each layer ``(N, P, D)``, vectors of length 1, of queries and of keys; the latter without a graph.
        """
        queries, keys = ({layer: given[layer] for layer in self.layers} for given in (queries, keys))
        locations = draw_locations(keys, self.num_patches)
        with torch.no_grad():
            keys = head(keys, locations)
        return head(queries, locations), keys


def mean_over_layers(loss: Callable[[Tensor, Tensor], Tensor], queries: Features, keys: Features) -> Tensor:
    """Mean over the layers of a loss between their projections."""
    return sum(loss(queries[layer], keys[layer]) for layer in queries) / len(queries)
