"""Feature vectors of two sets of images, and the distances between them."""

from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_ghibli.images import to_uint8
from lit_ghibli.metrics.feature_cache import FeatureCache
from lit_ghibli.metrics.features import FeatureExtractor


class FeatureSets(Metric):
    """Gathers the features of real and of generated images, each extracted once for all distances.

    Those of real images are looked up in a `FeatureCache`. Memory: 8 kB for an image with 2048 features.

    Args:
        extractor: Whose features.
        cache_dir: Where those of real images are kept.
    """

    full_state_update = False

    def __init__(self, extractor: FeatureExtractor, cache_dir: Path) -> None:
        super().__init__()
        self.extractor, self._cached = extractor, FeatureCache(cache_dir, extractor)
        for side in ("real", "fake"):
            # Flat, because torchmetrics stands in a flat float tensor for a process without images.
            self.add_state(f"{side}_features", default=[], dist_reduce_fx="cat")
        self.add_state("width", default=torch.tensor(0), dist_reduce_fx="max")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images ``(N, 3, H, W)`` in ``[-1, 1]``, which are rounded to 8 bits, to one of the two sets."""
        features = (self._cached if real else self.extractor)(to_uint8(images.to(self.device)))
        (self.real_features if real else self.fake_features).append(features.flatten())
        self.width = torch.full_like(self.width, features.shape[1])

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the features of the real images ``(n, D)`` and of the generated ones ``(m, D)``, on the CPU."""
        return tuple(
            dim_zero_cat(features).view(-1, int(self.width)).cpu()
            for features in (self.real_features, self.fake_features)
        )
