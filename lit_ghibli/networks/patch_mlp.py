"""Projection heads: the vectors of single locations of feature maps, which contrastive losses compare."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.initialization import Initialization, draw_weight
from lit_ghibli.networks.resnet import TAPS

# A shorter vector is divided by this instead of its own length. At first the head of the pixels makes vectors around
# 0.07 long, 5e-4 of the greyest pixel of 8 bits, and 0 of a pixel that is exactly 0: its gradient would be multiplied
# by the default's 1e12, and Adam would take no notice of anything else for thousands of steps. Xavier's are around
# 3e-4 and 3e-6 long.
_SHORTEST = {"normal": 1e-4, "xavier": 5e-7}


class PatchMlp(nn.Module):
    """A two-layer perceptron for each tapped feature map, applied to the vectors of chosen locations.

    All heads exist from the start, so that optimisers and DDP see their weights. Biases start at 0.

    Args:
        channels: number of channels of each tap, by name.
        dim: length of the hidden and of the output vectors.
        initialization: of the weights: ``normal``, from N(0, 0.02), or ``xavier``, of gain 0.02, as the released code
            has it.

    Source: Park et al. 2020, section 3 (the network H) and the released code.
    """

    def __init__(self, channels: Mapping[str, int], dim: int = 256, initialization: Initialization = "normal") -> None:
        super().__init__()
        self.heads = nn.ModuleDict({tap: _make_head(width, dim, initialization) for tap, width in channels.items()})
        self.shortest = _SHORTEST[initialization]

    def forward(self, features: Mapping[str, Tensor], locations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Project the feature vectors of chosen locations.

        Args:
            features: for each tap ``(N, C, h, w)``.
            locations: for each tap flat positions ``(P,)`` in ``[0, h * w)``, row by row; see :func:`draw_locations`.

        Returns:
            For each tap ``(N, P, dim)`` in float32 at least, also under autocast: vectors of length 1.

        Raises:
            ValueError: if features or locations are not of exactly the taps that have heads.
        """
        for name, taps in {"features": features, "locations": locations}.items():
            if set(taps) != set(self.heads):
                raise ValueError(f"{name} of the taps {sorted(taps)} but heads of {sorted(self.heads)}")
        return {tap: self._project(head, features[tap], locations[tap]) for tap, head in self.heads.items()}

    def _project(self, head: nn.Sequential, maps: Tensor, positions: Tensor) -> Tensor:
        # Columns are picked before anything is transposed: only they are copied, and the gradient keeps the layout.
        vectors = head(maps.flatten(2).index_select(2, positions).mT)
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        return F.normalize(vectors, dim=-1, eps=self.shortest)

    def compare(
        self, queries: Mapping[str, Tensor], keys: Mapping[str, Tensor], num_patches: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Project the features of an output, and of what it should resemble, at the same random locations.

        Args:
            queries: ``(N, C, h, w)`` for each tap that has a head, and perhaps others.
            keys: of the same shapes.
            num_patches: see :func:`draw_locations`.

        Returns:
            For each tap ``(N, P, dim)``, of queries and of keys; the latter without a graph.
        """
        queries, keys = ({tap: given[tap] for tap in self.heads} for given in (queries, keys))
        locations = draw_locations(keys, num_patches)
        with torch.no_grad():
            keys = self(keys, locations)
        return self(queries, locations), keys


def compared_channels(generator: nn.Module, layers: Sequence[str], num_patches: int) -> dict[str, int]:
    """Channels of the generator's layers that a method compares, by name: those that a :class:`PatchMlp` is made of.

    Raises:
        UserError: unknown or no layers, or no location that could be another's negative.
    """
    if not layers or not set(layers) <= set(TAPS):
        raise UserError(f"method.nce_layers must be some of {', '.join(TAPS)}; got {list(layers)}")
    if num_patches < 2:
        raise UserError(f"method.num_patches must be at least 2, a patch and a negative; got {num_patches}")
    return {layer: generator.feature_channels[layer] for layer in layers}


def draw_locations(features: Mapping[str, Tensor], num_patches: int) -> dict[str, Tensor]:
    """Draw distinct locations of each feature map from torch's global generator, on the map's device.

    All images of a batch share them: processes whose generators are equal then draw alike, whatever their share of
    the batch, so that two processes compute what one does on the doubled batch.

    Args:
        features: for each tap ``(N, C, h, w)``.
        num_patches: how many locations, at least 1; all of a map that has fewer.

    Returns:
        For each tap flat positions ``(min(num_patches, h * w),)`` in ``[0, h * w)``, row by row, in random order.
    """
    return {
        tap: torch.randperm(maps.shape[2:].numel(), device=maps.device)[:num_patches] for tap, maps in features.items()
    }


def _make_head(channels: int, dim: int, initialization: Initialization) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(channels, dim), nn.ReLU(), nn.Linear(dim, dim))
    for layer in (head[0], head[2]):
        draw_weight(layer.weight, 0.02, initialization)
        nn.init.zeros_(layer.bias)
    return head
