"""Photographs of a user's, and what the painter makes of them: training pictures with true partners, without pairs."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from lit_ghibli.data.cache import PackedImages
from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.image_folders import check_disjoint, list_images
from lit_ghibli.data.sources import Domain, Files, Folders, Splits
from lit_ghibli.errors import UserError
from lit_ghibli.painter.painter import Painter

log = logging.getLogger(__name__)


class _Paint:
    """The painter as a step whose ``repr`` changes with what it paints, not only with its settings.

    It paints in one thread: several cut a picture in parts, at whose borders some functions round otherwise, and
    figures against a truth that depends on the number of cores could not stand in one table.
    """

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        ramp = np.add.outer(np.arange(0, 128, 4), np.arange(0, 128, 4)).astype(np.uint8)
        self.sample = hashlib.sha256(self(Image.fromarray(ramp).convert("RGB")).tobytes()).hexdigest()

    def __call__(self, image: Image.Image) -> Image.Image:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # of the calling thread alone: pictures are decoded in several
        try:
            return self.painter(image)
        finally:
            torch.set_num_threads(threads)

    def __repr__(self) -> str:
        return f"{self.painter} {self.sample}"


@dataclass(kw_only=True)
class PaintedPhotos(Folders):
    """Photographs below a folder; some are held out, each with its painted version.

    Held out is the subfolder ``test``, where there is one; else those photographs whose names come first in an order of
    their own, so that all but few of them stay when others are added.

    Attributes:
        painter: Paints the resized photographs.
        held_out: How many photographs are held out where there is no subfolder ``test``.
        crops: How many crops of every picture an epoch has.
        use: ``pairs`` trains on every other photograph with its painted version; ``unpaired`` on half of them and on
            painted versions of the other half; ``semi`` on a third in pairs, and on the other two thirds so.
    """

    painter: Painter
    held_out: int
    crops: int
    use: Literal["pairs", "unpaired", "semi"]

    def check(self, crop_size: int) -> None:
        """Refuse a missing root and numbers that are none, too."""
        if self.root is None:
            raise UserError("data.root is not set: give a folder of photographs")
        super().check(crop_size)
        for field in ("held_out", "crops"):
            if getattr(self, field) < 1:
                raise UserError(f"data.{field} must be at least 1; got {getattr(self, field)}")

    def load(self, training: bool = True) -> Splits:
        """Decode and paint everything once, or find it in the cache; see :class:`~lit_ghibli.data.sources.Source`.

        Raises:
            FolderError: Also where too few photographs are left to train on.
        """
        root = Path(self.root).expanduser()
        photos = sorted(list_images(root), key=lambda path: hashlib.sha256(os.fsencode(path.name)).digest())
        test = [path for path in photos if path.is_relative_to(root / "test")] or photos[: self.held_out]
        rest = [path for path in photos if path not in test]
        share = {"pairs": 0, "unpaired": len(rest) // 2, "semi": len(rest) // 3}[self.use]
        if training and (not rest or (self.use != "pairs" and share < 1)):
            raise FolderError(
                f"{root} has {len(photos)} photographs, of which {len(test)} are held out: too few are left to train "
                "on; add some, or hold out fewer with data.held_out"
            )
        check_disjoint(rest, test)
        splits = Splits(None, None, *(self._open(root, test, painted, cropped=False) for painted in (False, True)))
        if not training:
            return splits
        if self.use == "pairs":
            splits.train_input, splits.train_target = (self._open(root, rest, painted) for painted in (False, True))
            return splits
        splits.train_input = self._open(root, rest[:share], False)
        splits.train_target = self._open(root, rest[share : 2 * share], True)
        if self.use == "semi":
            pairs = rest[2 * share :]
            splits.pair_input, splits.pair_target = (self._open(root, pairs, painted) for painted in (False, True))
        return splits

    def _open(self, root: Path, paths: list[Path], painted: bool, cropped: bool = True) -> PackedImages:
        steps = [_Paint(self.painter)] if painted else []
        pictures = self._decode(Files(root, paths), Domain(None, None, after=steps), cropped)
        return pictures.take(list(range(len(pictures))) * self.crops) if cropped else pictures
