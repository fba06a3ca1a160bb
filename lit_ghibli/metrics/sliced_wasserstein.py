"""Sliced Wasserstein distance between the local structures of two sets of images, scale by scale.

Source: Karras et al. 2018, "Progressive Growing of GANs" (arXiv:1710.10196), section 5.

Differences from the paper: sets of unequal size are compared by their exact quantile functions, borders
are reflected, and a set may hold images of different sizes (its levels are counted from full resolution).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from lit_ghibli.metrics.numbering import image_numbers

PATCH = 7  # pixels on a side
SMALLEST = 16  # pixels on the shorter side of the coarsest level

_FLAT = 1e-6  # standard deviation, in [0, 1] brightness, below which a channel is constant up to rounding
_CHUNK = 2**24  # numbers in the largest temporary tensor of a comparison


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Split images into ``levels`` bands, finest first; the last band is the low-pass remainder.

    Args:
        images: ``(N, C, H, W)``.
        levels: number of bands; each has half the resolution of the one before, rounded up.

    Source: Burt and Adelson 1983, with the 5-tap binomial filter.
    """
    bands = [images]
    for _ in range(levels - 1):
        finer = bands[-1]
        coarser = _blur(finer)[..., ::2, ::2]
        spread = torch.zeros_like(finer)
        spread[..., ::2, ::2] = 4.0 * coarser
        bands[-1] = finer - _blur(spread)
        bands.append(coarser)
    return bands


def level_count(height: int, width: int) -> int:
    """Count the halvings of an image, itself included, whose sides are all at least 16 pixels."""
    levels, side = 0, min(height, width)
    while side >= SMALLEST:
        levels, side = levels + 1, (side + 1) // 2
    return levels


def patch_positions(seed: int, image: int, level: int, count: int, size: tuple[int, int]) -> Tensor:
    """Draw where the 7x7 patches of one level of one image lie: rows and columns of corners, ``(2, count)``.

    The draw depends on nothing but the arguments; ``image`` is the number of the image in its set.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + image) * 64 + level)
    span = torch.tensor([[side - PATCH + 1] for side in size])
    return (torch.rand(2, count, generator=generator, dtype=torch.float64) * span).long()


def extract_patches(images: Tensor, corners: Tensor) -> Tensor:
    """Cut 7x7 patches out of images.

    Args:
        images: ``(N, C, H, W)``.
        corners: rows and columns of the upper left pixels, ``(N, 2, P)``.

    Returns:
        ``(N, P, C, 7, 7)``.
    """
    offset = torch.arange(PATCH, device=images.device)
    rows = corners[:, 0, :, None, None] + offset[:, None]  # (N, P, 7, 1)
    columns = corners[:, 1, :, None, None] + offset  # (N, P, 1, 7)
    number = torch.arange(len(images), device=images.device)[:, None, None, None]
    return images.permute(0, 2, 3, 1)[number, rows, columns].permute(0, 1, 4, 2, 3)


def normalize_descriptors(patches: Tensor) -> Tensor:
    """Give each color channel of a set of patches zero mean and unit variance, and flatten the patches.

    Args:
        patches: ``(P, C, 7, 7)``. A constant channel becomes zero.

    Returns:
        ``(P, C * 49)``.
    """
    centred = patches - patches.mean(dim=(0, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(0, 2, 3), keepdim=True).sqrt()
    scale = torch.where(deviation > _FLAT, 1.0 / deviation, torch.zeros_like(deviation))
    return (centred * scale).flatten(1)


def random_directions(seed: int, dimensions: int, count: int) -> Tensor:
    """Draw ``count`` directions, uniform on the unit sphere: float64 ``(count, dimensions)``."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dimensions, generator=generator, dtype=torch.float64), dim=1)


def wasserstein_1d(first: Tensor, second: Tensor) -> Tensor:
    """Compute the Wasserstein-1 distance between one-dimensional samples, exactly: ``(K,)``.

    Both quantile functions are staircases; their difference is integrated between all their steps. With
    equally many samples this is the mean absolute difference of the sorted samples.

    Args:
        first: ``(K, n)``, K separate problems.
        second: ``(K, m)``; ``n`` and ``m`` may differ.
    """
    n, m = first.shape[1], second.shape[1]
    # Heights of the steps are multiples of 1 / (n m): whole numbers keep their order exact.
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique().to(first.device)
    widths = ends.diff(prepend=ends.new_zeros(1)).to(first.dtype) / (n * m)
    step_first, step_second = (ends - 1) // m, (ends - 1) // n
    difference = _sort_rows(first)[:, step_first] - _sort_rows(second)[:, step_second]
    return difference.abs() @ widths


def sliced_wasserstein(first: Tensor, second: Tensor, directions: Tensor) -> Tensor:
    """Average the Wasserstein-1 distance of two point sets over projections on lines: a scalar.

    Args:
        first: ``(n, D)``.
        second: ``(m, D)``.
        directions: unit vectors, ``(K, D)``.
    """
    rows = max(1, _CHUNK // (len(first) + len(second)))
    with torch.autocast(first.device.type, enabled=False):  # 8-bit mantissas would tie most projections
        distances = [wasserstein_1d(some @ first.T, some @ second.T) for some in directions.split(rows)]
    return torch.cat(distances).mean()


class SlicedWassersteinDistance(Metric):
    """Sliced Wasserstein distance x 1000 between 7x7 patches of the Laplacian pyramids of two image sets.

    Fine levels compare sharpness and texture, coarse ones large structures and colors. The levels that
    both sets have are averaged; `per_level` gives them one by one, finest first. No network is involved.

    Repeatable: patches depend on the seed and on the number of the image within its set, and are the same on
    both sides, so equal sets in equal order are exactly 0 apart. It does not depend on the batch size. Process r
    of w takes its images for the numbers r, r + w, ...: where the images were dealt out like that, the value is
    that of one process; else it differs as much as it would with another seed.

    Two finite samples of one distribution are not 0 apart: the fewer images, the larger the value.
    Compare only values that were computed from equally many images.

    Memory: an image of 256 pixels takes 376 kB. Of more than ``max_images`` images in one set and process
    a uniform random sample is kept.

    Args:
        seed: of patches and projections.
        patches_per_image: 7x7 patches cut from each level of each image (128 in the paper).
        projections: number of directions (512: four rounds of 128 in the released code).
        max_images: most images kept of each set in each process.
        **kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    def __init__(
        self,
        seed: int = 0,
        patches_per_image: int = 128,
        projections: int = 512,
        max_images: int = 2048,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.patches_per_image = patches_per_image
        self.max_images = max_images
        self.directions = random_directions(seed, 3 * PATCH**2, projections).float()
        self._per_level: Tensor | None = None
        for side in ("real", "fake"):
            # One entry per image: its patches, level after level, and how many levels those are. Both are
            # flat floats because torchmetrics stands in a flat float tensor for a process without images.
            self.add_state(f"{side}_patches", default=[], dist_reduce_fx="cat")
            self.add_state(f"{side}_levels", default=[], dist_reduce_fx="cat")
            self.add_state(f"{side}_seen", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images to one of the two sets.

        Args:
            images: ``(N, 3, H, W)`` floating point in ``[0, 1]``, at least 16 pixels on a side. The size
                may differ between calls.
            real: whether they belong to the real set or to the generated one.

        Raises:
            TypeError: the images are not floating point.
            ValueError: wrong shape, size or range.
        """
        _check(images)
        side = "real" if real else "fake"
        levels = level_count(*images.shape[-2:])
        first = int(getattr(self, f"{side}_seen"))
        patches = self._cut(laplacian_pyramid(images.float(), levels), image_numbers(first, len(images)))
        for number, entry in enumerate(patches, start=first):
            self._keep(side, number, entry, entry.new_tensor([levels]))
        setattr(self, f"{side}_seen", getattr(self, f"{side}_seen") + len(images))

    def compute(self) -> Tensor:
        """Return the distance x 1000, averaged over the levels: a scalar.

        Raises:
            ValueError: one of the sets is empty.
        """
        real, fake = self._descriptors("real"), self._descriptors("fake")
        self._per_level = torch.stack(
            [
                1000.0 * sliced_wasserstein(a, b, self.directions.to(a.device))
                for a, b in zip(real, fake, strict=False)  # levels that both sets have
            ]
        )
        return self._per_level.mean()

    @property
    def per_level(self) -> Tensor:
        """The distance x 1000 of each level, finest first: ``(L,)``. Calls `compute` where necessary."""
        self.compute()
        return self._per_level

    def _cut(self, bands: Sequence[Tensor], numbers: Sequence[int]) -> Tensor:
        """Cut the patches of a batch, whose images have these numbers: ``(N, flat)``."""
        cut = []
        for level, band in enumerate(bands):
            size, count = tuple(band.shape[-2:]), self.patches_per_image
            corners = [patch_positions(self.seed, number, level, count, size) for number in numbers]
            cut.append(extract_patches(band, torch.stack(corners).to(band.device)).flatten(1))
        return torch.cat(cut, dim=1)

    def _keep(self, side: str, number: int, patches: Tensor, levels: Tensor) -> None:
        """Keep an image, or, once there are enough, a uniform sample of all (Vitter 1985, algorithm R)."""
        all_patches, all_levels = getattr(self, f"{side}_patches"), getattr(self, f"{side}_levels")
        if number < self.max_images:
            all_patches.append(patches.clone())  # a view would keep its whole batch alive
            all_levels.append(levels)
            return
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        slot = int(torch.randint(number + 1, (1,), generator=generator))
        if slot < self.max_images:
            all_patches[slot], all_levels[slot] = patches.clone(), levels

    def _descriptors(self, side: str) -> list[Tensor]:
        """Gather the normalised descriptors of a set by level, finest first."""
        patches, levels = getattr(self, f"{side}_patches"), getattr(self, f"{side}_levels")
        if len(patches) == 0:
            raise ValueError(f"the {side} set is empty: call update(images, real={side == 'real'}) before compute()")
        patches = torch.cat(patches) if isinstance(patches, list) else patches
        levels = torch.cat(levels) if isinstance(levels, list) else levels
        level_of_block = torch.cat([torch.arange(int(count)) for count in levels.tolist()]).to(patches.device)
        blocks = patches.view(len(level_of_block), self.patches_per_image, 3, PATCH, PATCH)
        return [
            normalize_descriptors(blocks[level_of_block == level].flatten(0, 1)) for level in range(int(levels.max()))
        ]


def _blur(images: Tensor) -> Tensor:
    """Convolve with the binomial filter [1, 4, 6, 4, 1] / 16 along both axes, borders reflected."""
    for axis, border in ((2, (0, 0, 2, 2)), (3, (2, 2, 0, 0))):
        size = images.shape[axis]
        padded = F.pad(images, border, mode="reflect")
        # Sums of shifted views: on a CPU ten times as fast as a convolution of single channels.
        a, b, c, d, e = (padded.narrow(axis, shift, size) for shift in range(5))
        images = (a + e).add_(b + d, alpha=4.0).add_(c, alpha=6.0).div_(16.0)
    return images


def _sort_rows(values: Tensor) -> Tensor:
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))  # ten times as fast as torch's
    return values.sort(dim=1).values


def _check(images: Tensor) -> None:
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point in [0, 1], got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"images must have shape (N, 3, H, W) with N > 0, got {tuple(images.shape)}")
    if min(images.shape[-2:]) < SMALLEST:
        raise ValueError(f"images must have {SMALLEST} pixels or more on a side, got {tuple(images.shape)}")
    low, high = (float(extreme) for extreme in images.aminmax())
    if not (low >= 0.0 and high <= 1.0):  # also true of NaN
        raise ValueError(f"images must lie in [0, 1], got [{low:g}, {high:g}]; see lit_ghibli.images.to_unit")
