"""A picture of any kind that a person has at hand as a batch."""

from os import PathLike

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lit_ghibli.data.image_files import open_image, upright_rgb
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_picture, from_picture_uint8

Picture = str | PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor


def to_batch(picture: Picture, device: torch.device | str, uint8: bool = False) -> Tensor:
    """A picture of any kind as ``(N, 3, H, W)`` in ``[-1, 1]``, in float32.

    With ``uint8`` what is no tensor becomes one of that type, with the levels of the picture.

    Raises:
        UserError: It is something else, or a file that cannot be read.
    """
    if isinstance(picture, str | PathLike):
        picture = open_image(picture)
    convert = from_picture_uint8 if uint8 else from_picture
    if isinstance(picture, Image.Image):
        return convert(upright_rgb(picture), device)
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return convert(picture, device)
    shape = tuple(getattr(picture, "shape", ()))
    batch = isinstance(picture, Tensor) and len(shape) in (3, 4) and shape[-3] == 3
    if not (batch and picture.is_floating_point() and picture.numel() and picture.abs().max() <= 1):
        values = f" of {picture.dtype} {shape}" if shape else ""
        unfit = " that is empty or has values beyond [-1, 1]" if batch and picture.is_floating_point() else ""
        raise UserError(
            f"a picture is a path, a PIL image, an array (H, W, 3) of uint8, or a float tensor (3, H, W) or "
            f"(N, 3, H, W) in [-1, 1]; got {type(picture).__name__}{values}{unfit}"
        )
    return picture.detach().to(device, torch.float32).reshape(-1, *shape[-3:])
