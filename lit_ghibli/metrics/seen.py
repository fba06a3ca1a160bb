"""What a suite was fed with: how many images, how large, and which."""

import hashlib
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_ghibli.images import to_uint8

_SETS = ("pairs", "fake", "real", "photos")
_BYTES = 6  # of each image's checksum: sums of many still fit in 64 bits
_NO_SIDE = 2**31


class Seen(Metric):
    """Counts and identifies images over all processes, so that all of them agree on what to compute.

    A set's identity is the sum of its images' checksums, which depends neither on their order nor on who read them.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", default=torch.zeros(len(_SETS), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("checksums", default=torch.zeros(len(_SETS), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("shortest", default=torch.tensor(_NO_SIDE), dist_reduce_fx="min")
        self.add_state("longest", default=torch.tensor(0), dist_reduce_fx="max")

    def update(
        self, which: Literal["pairs", "fake", "real", "photos"] | None = None, images: Tensor | None = None
    ) -> None:
        """Count images ``(N, 3, H, W)`` in ``[-1, 1]`` of one set, of pairs their targets."""
        if images is None:
            return
        place = _SETS.index(which)
        self.counts[place] += len(images)
        if which == "fake":  # other outputs are other numbers, not another protocol
            self.shortest = self.shortest.clamp(max=min(images.shape[-2:]))
            self.longest = self.longest.clamp(min=max(images.shape[-2:]))
        else:
            self.checksums[place] += sum(_checksum(image) for image in to_uint8(images).cpu())

    def compute(self) -> dict[str, Any]:
        """Return ``n_<set>`` of each set, ``image_size``, ``target_set``, ``real_set`` and ``photo_set``."""
        counts = dict(zip(_SETS, self.counts.tolist(), strict=True))
        target_set, _, real_set, photo_set = (f"{checksum:016x}" for checksum in self.checksums.tolist())
        shortest, longest = int(self.shortest), int(self.longest)
        size = f"{shortest}" if shortest == longest else f"{shortest}-{longest}"
        return {
            **{f"n_{name}": count for name, count in counts.items()},
            "image_size": size if counts["fake"] else None,  # pixels on a side, of outputs
            "target_set": target_set if counts["pairs"] else None,
            "real_set": real_set if counts["real"] else None,
            "photo_set": photo_set if counts["photos"] else None,
        }


def _checksum(image: Tensor) -> int:
    header = repr(tuple(image.shape)).encode()
    return int.from_bytes(hashlib.sha256(header + image.contiguous().numpy().tobytes()).digest()[:_BYTES], "big")
