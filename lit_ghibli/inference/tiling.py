"""Translating photographs that are too large for one forward pass."""

import torch
from torch import Tensor, nn

from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.sizes import pad_to_multiple, translate

PATCH = 32  # pixels; many small patches stand for a photograph better than few large ones, for all their seams


@torch.no_grad()
def translate_tiled(network: nn.Module, photo: Tensor, tile: int) -> Tensor:
    """Translate a large photograph in tiles that show no seams.

    Normalisation and attention make every output depend on the whole photograph. What they measure of it is therefore
    measured first, on a mosaic of patches spread evenly over the photograph, and then used for all tiles, which
    overlap by the network's receptive field: tiled and whole translation with these statistics are the same.

    Args:
        network: Generator with ``size_multiple``, ``minimum_size`` and ``context`` (how far an output pixel
            looks, in pixels); ``patch``, if it needs larger ones than others for its statistics, in pixels.
        photo: ``(1, 3, H, W)`` in ``[-1, 1]``.
        tile: Side of a tile without its overlap, in pixels; bounds the memory.

    Returns:
        The picture, of the photograph's size, in ``[-1, 1]``, on the CPU.
    """
    multiple = network.size_multiple
    tile, context = _round_up(tile, multiple), _round_up(network.context, multiple)
    height, width = photo.shape[-2:]
    padded = pad_to_multiple(photo, multiple)
    with record_statistics(network) as statistics:
        translate(network, mosaic(padded, tile, getattr(network, "patch", PATCH)))
    picture = torch.empty(padded.shape)
    with frozen_statistics(network, statistics):
        for top in range(0, padded.shape[-2], tile):
            for left in range(0, padded.shape[-1], tile):
                rows, columns = slice(top, top + tile), slice(left, left + tile)
                picture[..., rows, columns] = _translate_tile(network, padded, top, left, tile, context).cpu()
    return picture[..., :height, :width]


def mosaic(photo: Tensor, side: int, patch: int = PATCH) -> Tensor:
    """Patches of a photograph, spread evenly over it and put together to at most ``side`` x ``side`` pixels.

    Unlike a smaller version of the photograph it keeps the sharpness that the network's features respond to.
    """
    patch = min(patch, side)
    for dim in (-2, -1):
        length = photo.shape[dim]
        if length > side:
            starts = torch.linspace(0, length - patch, side // patch).long()
            indices = (starts[:, None] + torch.arange(patch)).flatten()
            photo = photo.index_select(dim, indices.to(photo.device))
    return photo


def _translate_tile(network: nn.Module, photo: Tensor, top: int, left: int, tile: int, context: int) -> Tensor:
    first_row, first_column = max(top - context, 0), max(left - context, 0)
    around = photo[..., first_row : top + tile + context, first_column : left + tile + context]
    picture = translate(network, around)
    return picture[..., top - first_row :, left - first_column :][..., :tile, :tile]


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
