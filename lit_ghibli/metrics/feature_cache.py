"""Features of real pictures on disk: they are the same in every evaluation and every epoch."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_ghibli.files import write_atomically
from lit_ghibli.metrics.features import FeatureExtractor

_VERSION = 1  # of how features are made from pictures, where that is not in the extractor's own words
_logger = logging.getLogger(__name__)


class FeatureCache:
    """Extracts features of pictures that it has not seen before, and remembers them by content.

    One file for each picture, under a name made of its pixels and of the extractor, its weights and its way to
    resize: other batches, other sets with the same picture, and other processes find it again. A vector of 2048
    numbers takes 8 kB. Files are written under a name of their own and renamed; a damaged one is replaced.

    Args:
        folder: Of the cache.
        extractor: Whose features are kept.
    """

    def __init__(self, folder: Path, extractor: FeatureExtractor) -> None:
        identity = (_VERSION, extractor.name, extractor.weights, extractor.resize)
        self.folder = folder / "features" / hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
        self.extractor = extractor
        self._writable = True

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features ``(N, D)`` of ``uint8`` images ``(N, 3, H, W)``, on their device."""
        paths = [self.folder / f"{_digest(image)}.npy" for image in images.cpu()]
        features = [_read(path) for path in paths]
        missing = [number for number, found in enumerate(features) if found is None]
        if missing:
            for number, extracted in zip(missing, self.extractor(images[missing]).cpu(), strict=True):
                features[number] = extracted
                self._write(paths[number], extracted)
        return torch.stack(features).to(images.device)

    def _write(self, path: Path, features: Tensor) -> None:
        if not self._writable:
            return
        try:
            with write_atomically(path, "wb") as file:
                np.save(file, features.numpy())
        except OSError as error:  # a cache saves time only
            self._writable = False
            _logger.warning("features of real pictures are not cached: cannot write %s (%s)", path.parent, error)


def _digest(image: Tensor) -> str:
    header = repr(tuple(image.shape)).encode()
    return hashlib.sha256(header + image.contiguous().numpy().tobytes()).hexdigest()[:32]


def _read(path: Path) -> Tensor | None:
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(features) if features.dtype == np.float32 and features.ndim == 1 else None
