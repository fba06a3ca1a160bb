"""Which heights and widths a generator takes, and how it translates photographs of any others."""

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError


def check_size(name: str, size: tuple[int, int], multiple: int, minimum: int, otherwise: str = "") -> None:
    """Refuse a size that a generator does not take.

    Args:
        name: of the generator.
        size: height and width, in pixels.
        multiple: both must be multiples of it.
        minimum: and at least so large.
        otherwise: another remedy than a fitting crop, such as `` or method.generator.depth=7``.

    Raises:
        UserError: saying which crops would fit.
    """
    height, width = size
    if height % multiple == 0 and width % multiple == 0 and min(size) >= minimum:
        return
    fitting = max(min(size) // multiple * multiple, minimum)
    raise UserError(
        f"{name} received images of {height}x{width} (height x width); both must be multiples of {multiple}, at least "
        f"{minimum}: set data.crop_size={fitting}{otherwise}, or pad the images and crop the results"
    )


class SizedNetwork(nn.Module):
    """A network that takes pictures of some sizes alone.

    Attributes:
        size_multiple: heights and widths must be multiples of it, in pixels.
        minimum_size: smallest height and width, in pixels.
    """

    size_multiple = 4
    minimum_size = 8

    def check_size(self, height: int, width: int) -> None:
        """Refuse sizes that are no multiples of ``size_multiple``, or smaller than ``minimum_size``.

        Raises:
            UserError: on such a size.
        """
        check_size(type(self).__name__, (height, width), self.size_multiple, self.minimum_size)


@torch.no_grad()
def translate(network: nn.Module, photo: Tensor) -> Tensor:
    """Run a generator on photographs of any size.

    Args:
        network: Generator with the attributes ``size_multiple`` and ``minimum_size``, in pixels.
        photo: ``(N, 3, H, W)`` in ``[-1, 1]``; reflect-padded at the right and bottom to a size that the
            network takes.

    Returns:
        Pictures of the photographs' size and type, in ``[-1, 1]``.
    """
    height, width = photo.shape[-2:]
    padded = pad_to_multiple(photo, network.size_multiple, network.minimum_size)
    return network(padded)[..., :height, :width].to(photo.dtype).clamp(-1.0, 1.0)


def check_images(network: str, images: Tensor, minimum: int, tap: str) -> None:
    """Refuse images that a feature network cannot reach its deepest tap with.

    Args:
        network: what it is called.
        images: ``(N, 3, H, W)``.
        minimum: smallest height and width, in pixels.
        tap: the deepest layer that is tapped.

    Raises:
        UserError: on images that are too small or have not three channels.
    """
    if images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < minimum:
        raise UserError(
            f"{network} received images of shape {tuple(images.shape)}; it needs (N, 3, height, width) of at least "
            f"{minimum}x{minimum} pixels for {tap}: use larger images or a shallower layer"
        )


def pad_to_multiple(images: Tensor, multiple: int, minimum: int = 1) -> Tensor:
    """Reflect-pad ``(N, C, H, W)`` at the right and bottom to multiples of ``multiple``, at least ``minimum``.

    Images smaller than their padding are mirrored back and forth, which ``torch.nn.functional.pad`` refuses.
    """
    for dim in (-2, -1):
        length = images.shape[dim]
        padded = max(-(-length // multiple) * multiple, minimum)
        if padded > length:
            period = max(2 * (length - 1), 1)
            positions = torch.arange(padded, device=images.device) % period
            images = images.index_select(dim, torch.where(positions < length, positions, period - positions))
    return images
