"""Masks that pair regions of one picture with regions of others: by gray levels, or by colors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import UserError

_SAME_SHAPE = 0.02  # by how much a mask that was made of a smaller picture may differ
_MOST = 8  # regions, each of which costs a forward pass's features; a JPEG has more colors than were drawn


def load_regions(files: Sequence[Path], pictures: Sequence[Tensor]) -> list[Tensor]:
    """Read masks with the same regions, in the same order, as how far each pixel belongs to them.

    Of gray masks the first region is what is light and the second what is dark, and pixels in between belong to both
    in part. Of masks with colors each color of the first mask is a region.

    Args:
        files: The first says which regions there are; the others must have them all.
        pictures: ``(1, 3, H, W)`` of each mask, for its shape.

    Returns:
        For each file ``(R, 1, H, W)`` in ``[0, 1]``.

    Raises:
        UserError: A file cannot be read, is of another shape than its picture, lacks a region, or the first has too
            many colors.
    """
    masks = [np.asarray(open_image(file)) for file in files]
    for file, mask, picture in zip(files, masks, pictures, strict=True):
        (height, width), (of_height, of_width) = mask.shape[:2], picture.shape[-2:]
        if abs(width * of_height / (height * of_width) - 1) > _SAME_SHAPE:
            raise UserError(
                f"{file} is {width}x{height}, its picture {of_width}x{of_height}: a mask has the shape of its picture"
            )
    if all((mask == mask[..., :1]).all() for mask in masks):
        light = [mask[..., 0] / 255.0 for mask in masks]
        regions = {"light": light, "dark": [1 - levels for levels in light]}
    else:
        colors = np.unique(masks[0].reshape(-1, 3), axis=0)
        if len(colors) > _MOST:
            raise UserError(
                f"{files[0]} has {len(colors)} colors: a mask has one for each region, at most {_MOST}, and no smooth "
                "edges; save it as PNG. A gray one may have any levels"
            )
        regions = {"#" + bytes(color).hex(): [(mask == color).all(axis=-1) for mask in masks] for color in colors}
    regions = {name: of_files for name, of_files in regions.items() if of_files[0].any()}
    for name, of_files in regions.items():
        if lacking := [file for file, region in zip(files, of_files, strict=True) if not region.any()]:
            raise UserError(f"{lacking[0]} has nothing {name}, which {files[0]} has: each region needs its style")
    return [_stacked(of_file) for of_file in zip(*regions.values(), strict=True)]


def _stacked(regions: Sequence[NDArray]) -> Tensor:
    return torch.from_numpy(np.stack(regions).astype(np.float32)).unsqueeze(1)
