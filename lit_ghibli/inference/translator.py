"""A trained run as a function on pictures."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.images import to_picture, to_pixels
from lit_ghibli.inference.finite import check_finite, watching
from lit_ghibli.inference.painting import Painting
from lit_ghibli.inference.picture_batches import Picture, to_batch
from lit_ghibli.inference.tiling import translate_tiled
from lit_ghibli.networks.flattening import flattened_before
from lit_ghibli.networks.sizes import translate

_SMALLEST = 32  # pixels: what is smaller has no forms


class Translator:
    """Turns photographs of any size into pictures of the same size.

    Args:
        network: The generator that translates photographs.
        device: Where it runs.
        tile: Photographs with more than ``tile * tile`` pixels are translated in tiles of this side; 0 never.
        name: Where the network is from, for messages; None for its class.
    """

    def __init__(
        self, network: nn.Module, device: torch.device | str = "cpu", tile: int = 1024, name: str | None = None
    ) -> None:
        if tile < 0 or 0 < tile < 128:
            raise UserError(f"tile must be 0 (never) or at least 128 pixels; got {tile}")
        self.network = network.eval().to(device)
        self.device, self.tile = torch.device(device), tile
        self.name = name or type(network).__name__
        self._watched = False

    def with_solver(self, solver: str | None, steps: int | None) -> "Translator":
        """A translator with the same weights whose ODE blocks are solved in another way.

        Args:
            solver: Its name; None keeps the training's.
            steps: Of that solver; None takes the number that the network has for it.

        Returns:
            A translator that shares this one's weights; this one itself where neither is given.

        Raises:
            UserError: The network has no ODE blocks, or knows no such solver.
        """
        if solver is None and steps is None:
            return self
        if not hasattr(self.network, "set_solver"):
            given = f"solver={solver} steps={steps}".replace("None", "null")
            raise UserError(
                f"{given}: this run's {type(self.network).__name__} has no ODE to solve: leave both out, or choose a "
                "run of a method with ODE blocks, such as method=nijigan"
            )
        weights = self.network.state_dict(keep_vars=True).values()
        network = copy.deepcopy(self.network, memo={id(tensor): tensor for tensor in weights})
        network.set_solver(solver or network.solver, steps)
        return Translator(network, self.device, self.tile, self.name)

    def with_style(
        self, style: Picture | Sequence[Picture], weights: Sequence[float] | None = None, **options: Any
    ) -> "Translator":
        """A translator with the same weights that paints in the style of pictures.

        Args:
            style: A picture as for :meth:`__call__`, several of them, or a word such as ``nearest:FOLDER``.
            weights: Of several pictures, brought to a sum of 1; None: all equal.
            options: ``strength``, ``keep_colors`` and ``scale`` of
                :class:`~lit_ghibli.inference.stylization.Stylization`.

        Raises:
            UserError: The network takes no style, a picture cannot be used, or an option is out of its range.
        """
        from lit_ghibli.inference.stylization import in_style  # whose networks other translators do without

        stylization = in_style(self.network, style, weights, self.device, self.tile, **options)
        return Translator(stylization, self.device, tile=0)

    def with_size(self, size: int | None, strength: float = 1.0, keep_colors: bool = False) -> "Translator":
        """A translator with the same weights that paints pictures of one size and enlarges them with sharp edges.

        A network's strokes are as many pixels broad as in its training: in a large photograph they are thin, and much
        of its texture is left.

        Args:
            size: Side of a square with as many pixels as what is painted; None: each photograph's own size.
            strength: From 0, the photograph, to 1.
            keep_colors: Take only lightness from the picture, and the colors of the photograph.

        Returns:
            A translator that shares this one's weights; this one itself where nothing is asked for.

        Raises:
            UserError: A value is out of its range, or it paints at a size of its own.
        """
        if (size, strength, keep_colors) == (None, 1, False):
            return self
        if size is not None and isinstance(self.network, Painting):
            raise UserError(f"size={size}: {self.name} is a style, which paints at a size of its own")
        if size is not None and size < _SMALLEST:
            raise UserError(f"size must be at least {_SMALLEST} pixels; got {size}")
        painting = Painting(_Whole(self), size and size**2, strength=strength, keep_colors=keep_colors)
        return Translator(painting, self.device, tile=0, name=self.name)

    def __call__(self, photo: Picture) -> Any:
        """Translate a photograph; the picture is of the same kind and size.

        Args:
            photo: A path or a PIL image of any mode, for which the picture is a PIL image, upright and RGB; an array
                ``(H, W, 3)`` of ``uint8``; or a floating-point tensor ``(3, H, W)`` or ``(N, 3, H, W)`` in
                ``[-1, 1]``, whose type and device the picture has, too.

        Raises:
            UserError: It is something else, or a file that cannot be read.
        """
        # Not kept here, since a large photograph takes as much memory as its picture.
        pictures = self._translate_each(to_batch(photo, self.device, getattr(self.network, "takes_uint8", False)))
        if isinstance(photo, Tensor):
            return pictures.to(photo.device, photo.dtype).reshape(photo.shape)
        return to_pixels(pictures) if isinstance(photo, np.ndarray) else to_picture(pictures)

    def _translate_each(self, photos: Tensor) -> Tensor:
        if len(photos) == 1 or not self._in_tiles(photos):
            return self.translate(photos)
        return torch.cat([self.translate(photo) for photo in photos.split(1)])  # which bounds the memory

    def translate(self, photo: Tensor) -> Tensor:
        """Translate ``(N, 3, H, W)`` in ``[-1, 1]``, N being 1 if in tiles, to the same shape and range.

        Of ``uint8``, too, where the network ``takes_uint8``.

        Raises:
            UserError: A layer computes values, looked at once, or the network a picture, that are not finite.
        """
        if not self._watched:
            with watching(self.network, self.name):
                picture = self._translate(photo)
            self._watched = True
        else:
            picture = self._translate(photo)
        if picture.is_floating_point():
            check_finite(picture, self.name)
        return picture

    def _translate(self, photo: Tensor) -> Tensor:
        if not photo.is_floating_point():
            return self.network(photo)
        if flatten := getattr(self.network, "flatten", None):
            photo = flatten(photo)
        with flattened_before(self.network):
            if self._in_tiles(photo):
                return translate_tiled(self.network, photo, self.tile)
            return translate(self.network, photo)

    def _in_tiles(self, photos: Tensor) -> bool:
        return bool(self.tile) and photos.shape[-2] * photos.shape[-1] > self.tile**2


class _Whole(nn.Module):
    """All that a translator does with a photograph ``(N, 3, H, W)`` in ``[-1, 1]``, as a network."""

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.network, self._translate = translator.network, translator._translate_each

    def forward(self, photos: Tensor) -> Tensor:
        return self._translate(photos)
