"""Painting photographs of any size in the style of given pictures."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.checksums import sha256_of
from lit_ghibli.data.image_files import open_image, picture_size
from lit_ghibli.errors import UserError
from lit_ghibli.inference.painting import in_colors_of
from lit_ghibli.inference.picture_batches import Picture, to_batch
from lit_ghibli.inference.style_pictures import (
    ARBITRARY,
    NUM_STYLES,
    find_style_pictures,
    normalized,
    sample_seed,
    style_number,
)
from lit_ghibli.inference.tiling import translate_tiled
from lit_ghibli.networks.arbitrary import ArbitraryStylization, published_weights
from lit_ghibli.networks.normalization import Recorded
from lit_ghibli.networks.pretrained import magenta
from lit_ghibli.networks.sizes import translate
from lit_ghibli.networks.style_transformer import StyleTransformer

SMALLEST = 32  # pixels of a style picture's shorter side
_CONTRAST = 0.01  # standard deviation that a style picture has at least, in [-1, 1]: about one level of 256


class Stylization(Recorded, nn.Module):
    """Paints in a style that a network takes beside the photograph.

    Args:
        network: Called with photographs and styles ``(N or 1, D)``; ``embed``, if it has that, describes pictures so.
        styles: ``(K, D)``; of several each photograph takes the one that is nearest to its own. None: there is none.
        strength: From 0 to 1 between the photograph's own style, or, where the network cannot describe it, the
            photograph, and the given one.
        keep_colors: Take only lightness from the picture, and the colors of the photograph.
        scale: Paint at so many times the photograph's size: strokes become finer, and grain vanishes.
        tile: Side of the tiles that larger pictures are painted in; 0 never.

    Raises:
        UserError: A value is out of its range.
    """

    size_multiple = minimum_size = 1

    def __init__(
        self,
        network: nn.Module,
        styles: Tensor | None,
        strength: float = 1.0,
        keep_colors: bool = False,
        scale: float = 1.0,
        tile: int = 1024,
    ) -> None:
        super().__init__()
        for name, value, low, high in (("strength", strength, 0, 1), ("scale", scale, 0.25, 4)):
            if not low <= value <= high:
                raise UserError(f"{name} must lie in {low} ... {high}; got {value}")
        self.network, self.styles = network, styles
        self.strength, self.keep_colors, self.scale, self.tile = strength, keep_colors, scale, tile

    @torch.no_grad()
    def forward(self, photo: Tensor) -> Tensor:
        """Paint ``(N, 3, H, W)`` in ``[-1, 1]`` into the same shape and range."""
        if self.styles is None:
            raise UserError(f"{ARBITRARY} needs a style: give a picture in its place, or with_style(PICTURE) in Python")
        style, describes = self.styles, hasattr(self.network, "embed")
        if describes and (self.strength < 1 or len(style) > 1):
            own, _ = self.remembered((self.network.embed(photo), photo.new_empty(0)))  # of a clip, one that stays
            style = own.lerp(style[torch.cdist(own, style).argmin(dim=1)], self.strength)
        size = [max(round(side * self.scale), 1) for side in photo.shape[-2:]]
        picture = _resized(self._paint(_resized(photo, size), style), photo.shape[-2:])
        if self.keep_colors:
            picture = in_colors_of(photo, picture)
        return picture if describes or self.strength == 1 else photo.lerp(picture, self.strength)

    def in_one_style(self) -> "Styled":
        """The network with its style, which paints all photographs at their own size.

        Raises:
            UserError: There is no style, or one for each photograph.
        """
        if self.styles is None or len(self.styles) > 1:
            raise UserError(
                "a network that takes styles is exported with one that is fixed: give style=PICTURE, several with "
                "weights, or mean:FOLDER"
            )
        return Styled(self.network, self.styles)

    def _paint(self, photo: Tensor, style: Tensor) -> Tensor:
        if not self.tile or photo.shape[-2] * photo.shape[-1] <= self.tile**2:
            return translate(Styled(self.network, style), photo)
        pairs = zip(photo.split(1), style.expand(len(photo), -1).split(1), strict=True)
        return torch.cat([translate_tiled(Styled(self.network, s), each, self.tile) for each, s in pairs]).to(photo)


class Styled(nn.Module):
    """A network with its style, which takes photographs alone."""

    def __init__(self, network: nn.Module, style: Tensor) -> None:
        super().__init__()
        self.network, self.style = network, style
        self.size_multiple, self.minimum_size, self.context = (
            network.size_multiple, network.minimum_size, network.context
        )  # fmt: skip
        if hasattr(network, "patch"):
            self.patch = network.patch

    def forward(self, photos: Tensor) -> Tensor:
        """Paint ``(N, 3, H, W)`` in ``[-1, 1]``."""
        return self.network(photos, self.style)


def _resized(images: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bicubic", antialias=True).clamp(-1, 1)


def in_style(
    network: nn.Module,
    style: Picture | Sequence[Picture],
    weights: Sequence[float] | None,
    device: torch.device | str,
    tile: int = 1024,
    **options: Any,
) -> Stylization:
    """A network that paints in the style of pictures, with the same weights.

    Args:
        network: Which describes styles, or one in a style that is to be another.
        style: A picture of any kind, or several; or a word of
            :func:`~lit_ghibli.inference.style_pictures.find_style_pictures`; or ``sample:SEED``, one like those
            that a training of VQ-I2I has seen.
        weights: Of several pictures, brought to a sum of 1; None: all equal.
        device: Where the network is.
        tile: As for :class:`Stylization`; one in a style keeps its own.
        options: ``strength``, ``keep_colors`` and ``scale`` of :class:`Stylization`.

    Raises:
        UserError: The network takes no style, a picture cannot be used, or an option is out of its range.
    """
    if isinstance(network, Stylization):
        network, tile = network.network, network.tile
    if not hasattr(network, "embed"):
        raise UserError(
            f"{type(network).__name__} takes no style: style pictures are for runs of method=arbitrary and vqi2i"
        )
    if isinstance(style, str) and (seed := sample_seed(style)) is not None:
        if not hasattr(network, "sample_style"):
            raise UserError(f"style={style}: styles are drawn by runs of method=vqi2i: give checkpoint=<one of these>")
        styles = network.sample_style(torch.Generator().manual_seed(seed))
        return Stylization(network, styles, tile=tile, **options)
    if isinstance(style, str | PathLike):
        pictures, weights, nearest = find_style_pictures(str(style))
    else:
        pictures, nearest = list(style) if isinstance(style, list | tuple) else [style], False
        weights = normalized(weights or [1.0] * len(pictures), len(pictures))
    with torch.no_grad():
        styles = torch.cat([network.embed(_checked(picture, device)) for picture in pictures])
    if not nearest:
        styles = torch.tensor(weights, device=device)[None] @ styles
    return Stylization(network, styles, tile=tile, **options)


def _checked(picture: Picture, device: torch.device) -> Tensor:
    """A picture that has a style, as the network takes it."""
    pixels = to_batch(picture, device)
    what = picture if isinstance(picture, str | PathLike) else "a style picture"
    if min(pixels.shape[-2:]) < SMALLEST:
        height, width = pixels.shape[-2:]
        raise UserError(f"{what} is {width}x{height} pixels; a style needs at least {SMALLEST}x{SMALLEST}")
    if pixels.std(dim=(-2, -1)).max() < _CONTRAST:
        raise UserError(f"{what} is of one color and has no strokes to take over; give another style")
    return pixels


def open_stylization(word: str, device: torch.device | str, tile: int = 1024, **options: Any) -> Stylization:
    """Magenta's networks with a style.

    Args:
        word: For which :func:`~lit_ghibli.inference.style_pictures.is_style_pictures` holds.
        device: Where it runs.
        tile: As for :class:`Stylization`.
        options: As for :func:`in_style`.

    Raises:
        UserError: The networks or the pictures cannot be used, or an option is out of its range.
    """
    if (number := style_number(word)) is not None:
        network = StyleTransformer((32, 32, 32, 8, 4), 6, NUM_STYLES, "conditional").eval().to(device)
        network.load_state_dict(magenta.multistyle_weights())
        style = F.one_hot(torch.tensor([number], device=device), NUM_STYLES).float()
        return Stylization(network, style, tile=tile, **options)
    if word != ARBITRARY and sample_seed(word) is None:
        for file in find_style_pictures(word).files:
            if picture_size(file) is None:
                open_image(file)  # raises: what is wrong with the word is said before networks are asked for
    network = ArbitraryStylization().eval().to(device)
    network.load_state_dict(published_weights())
    if word == ARBITRARY:
        return Stylization(network, None, tile=tile, **options)
    return in_style(network, word, None, device, tile, **options)


def origin_of(word: str) -> tuple[str, ...]:
    """The checksums of what pictures in this style are made with."""
    if (number := style_number(word)) is not None:
        return (magenta.SHA256[magenta.MULTISTYLE], str(number))
    networks = (magenta.SHA256[magenta.PREDICT], magenta.SHA256[magenta.TRANSFORM])
    if word == ARBITRARY:
        return networks
    files, weights, nearest = find_style_pictures(word)
    return (*networks, *map(sha256_of, files), str(weights), str(nearest))
