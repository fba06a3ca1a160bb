"""Feature vectors of two sets of images, and the distances between them."""

from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_ghibli.images import to_uint8
from lit_ghibli.metrics.feature_cache import FeatureCache
from lit_ghibli.metrics.features import FeatureExtractor
from lit_ghibli.metrics.numbering import image_numbers, in_order


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
            self.add_state(f"{side}_numbers", default=[], dist_reduce_fx="cat")
            self.add_state(f"{side}_seen", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("width", default=torch.tensor(0), dist_reduce_fx="max")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images ``(N, 3, H, W)`` in ``[-1, 1]``, which are rounded to 8 bits, to one of the two sets."""
        side = "real" if real else "fake"
        features = (self._cached if real else self.extractor)(to_uint8(images.to(self.device)))
        seen = getattr(self, f"{side}_seen")
        getattr(self, f"{side}_features").append(features.flatten())
        getattr(self, f"{side}_numbers").append(features.new_tensor(image_numbers(int(seen), len(images))))
        setattr(self, f"{side}_seen", seen + len(images))
        self.width = torch.full_like(self.width, features.shape[1])

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return features of real and of generated images, both ``(n, D)``, in order, on the CPU.

        The longer set is cut to the length of the shorter: distances are biased by the number of images.
        """
        sets = ((self.real_features, self.real_numbers), (self.fake_features, self.fake_numbers))
        count = min(int(self.real_seen), int(self.fake_seen))
        return tuple(
            in_order(dim_zero_cat(features).view(-1, int(self.width)), dim_zero_cat(numbers))[:count].cpu()
            for features, numbers in sets
        )
