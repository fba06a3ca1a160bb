"""Painting photographs of any size at the size that a style was made for, and enlarging with sharp edges."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8, to_uint8, to_unit
from lit_ghibli.networks.sizes import pad_to_multiple
from lit_ghibli.painter.filters import blur, derivatives, pixel_grid
from lit_ghibli.painter.finish import Finish
from lit_ghibli.painter.oklab import from_oklab, to_oklab

PIXELS = 400_000  # that styles paint: somewhat more than the 640x480 of their training, for finer strokes
_LARGEST_ENLARGEMENT = 2.0  # of small photographs: beyond, there is nothing to paint but the blur
_STRIP = 256  # rows that are enlarged at a time, which bounds the memory
_SHARPENING = 5.0  # pixels of the painted picture per unit of the gradient's gradient
_FURTHEST = 0.6  # pixels of the painted picture: edges are drawn together from no further


class Painting(nn.Module):
    """Paints at a size of its own, so that strokes keep their size relative to the picture, whatever its size.

    Args:
        paint: From ``(N, 3, h, w)`` in ``[-1, 1]``, sides multiples of 4, to the same.
        pixels: How many the picture has that is painted; None: as many as the photograph.
        finish: Of a network's picture in ``[0, 1]``, whose edges are drawn together before; None for a painter's.
        strength: From 0, the photograph, to 1.
        keep_colors: Take only lightness from the picture, and the colors of the photograph.
        stroke: How broad the strokes are, 1 as the style was made.

    Raises:
        UserError: A value is out of its range.
    """

    size_multiple = minimum_size = 1
    takes_uint8 = True  # which bounds the memory: the size of the photograph has no floating-point numbers then

    def __init__(
        self,
        paint: Callable[[Tensor], Tensor],
        pixels: int | None,
        finish: Finish | None = None,
        strength: float = 1.0,
        keep_colors: bool = False,
        stroke: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value, low, high in (("strength", strength, 0, 1), ("stroke", stroke, 0.5, 2)):
            if not low <= value <= high:
                raise UserError(f"{name} must lie in {low} ... {high}; got {value}")
        self.paint, self.pixels, self.finish = paint, pixels and pixels / stroke**2, finish
        self.strength, self.keep_colors = strength, keep_colors

    @torch.no_grad()
    def forward(self, photo: Tensor) -> Tensor:
        """Paint ``(N, 3, H, W)`` in ``[-1, 1]``, or of ``uint8``, into the same shape, range and type."""
        height, width = photo.shape[-2:]
        scale = min(math.sqrt(self.pixels / (height * width)), _LARGEST_ENLARGEMENT) if self.pixels else 1
        size = [max(round(side * scale), 1) for side in (height, width)]
        reduced = [
            F.interpolate(_to_float(color), size=size, mode="bicubic", antialias=True)
            for color in photo.split(1, dim=1)
        ]
        small = torch.cat(reduced, dim=1).clamp(-1, 1)
        padded = pad_to_multiple(small, 4).contiguous(memory_format=torch.channels_last)
        picture = self.paint(padded)[..., : size[0], : size[1]].clamp(-1, 1)
        if self.finish:
            picture = self.finish(to_unit(sharpen(picture, *size))) * 2 - 1
        if self.keep_colors:
            picture = in_colors_of(small, picture)
        result = torch.empty_like(photo)
        for rows, strip in _enlarged(picture, height, width):
            if self.strength != 1:
                strip = _to_float(photo[..., rows, :]).lerp(strip, self.strength)
            result[..., rows, :] = strip if photo.is_floating_point() else to_uint8(strip)
        return result


def _to_float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else from_uint8(images)


def in_colors_of(photo: Tensor, picture: Tensor) -> Tensor:
    """The lightness of a picture with the colors of a photograph, both ``(N, 3, H, W)`` in ``[-1, 1]``."""
    lightness, colors = to_oklab(to_unit(picture))[:, :1], to_oklab(to_unit(photo))[:, 1:]
    return from_oklab(torch.cat([lightness, colors], dim=1)) * 2 - 1


def enlarge(picture: Tensor, height: int, width: int) -> Tensor:
    """Resize a painted picture ``(N, 3, h, w)``; what is enlarged keeps edges and outlines sharp."""
    return torch.cat([strip for _, strip in _enlarged(picture, height, width)], dim=-2)


def _enlarged(picture: Tensor, height: int, width: int) -> Iterator[tuple[slice, Tensor]]:
    """What :func:`enlarge` gives, in strips with their rows."""
    if (height, width) == tuple(picture.shape[-2:]):
        yield slice(None), picture
    elif height * width < picture.shape[-2] * picture.shape[-1]:
        yield slice(None), F.interpolate(picture, size=(height, width), mode="bicubic", antialias=True).clamp(-1, 1)
    else:
        yield from _sharpened(picture, height, width)


def sharpen(picture: Tensor, height: int, width: int) -> Tensor:
    """Read a picture ``(N, 3, h, w)`` in ``[-1, 1]`` at as many points, or more, with narrower ramps at its edges.

    The points are moved away from edges: warp sharpening, as drawn pictures have been enlarged with for long. Source:
    Arad and Gotsman, Enhancement by image-dependent warping (1999).
    """
    return torch.cat([strip for _, strip in _sharpened(picture, height, width)], dim=-2)


def _sharpened(picture: Tensor, height: int, width: int) -> Iterator[tuple[slice, Tensor]]:
    """What :func:`sharpen` gives, in strips with their rows."""
    moved = _away_from_edges(picture)
    sides = picture.shape[-2:]
    scale_y, scale_x = sides[0] / height, sides[1] / width
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        x, y = pixel_grid(picture.new_empty(rows.stop - top, width))
        x, y = (x + 0.5) * scale_x - 0.5, (y + top + 0.5) * scale_y - 0.5
        grid = torch.stack([(2 * x + 1) / sides[1] - 1, (2 * y + 1) / sides[0] - 1], dim=-1)
        grid = grid.expand(len(picture), -1, -1, -1)
        move = F.grid_sample(moved, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
        strip = F.grid_sample(picture, grid + move, "bicubic", padding_mode="border", align_corners=False)
        yield rows, strip.clamp_(-1, 1)


def _away_from_edges(picture: Tensor) -> Tensor:
    """By how far each pixel is read aside (N, 2, h, w), in units of ``grid_sample``."""
    gradient = blur(sum(d.square() for d in derivatives(picture)).sum(1, keepdim=True).sqrt(), 0.7)
    moved = [(-_SHARPENING * d).clamp(-_FURTHEST, _FURTHEST) for d in derivatives(gradient)]
    return torch.cat([moved[0] * (2 / picture.shape[-1]), moved[1] * (2 / picture.shape[-2])], dim=1)
