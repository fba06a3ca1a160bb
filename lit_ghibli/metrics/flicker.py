"""How much the pictures of a clip's frames change where the frames themselves only move."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from lit_ghibli.errors import UserError
from lit_ghibli.images import to_pixels
from lit_ghibli.metrics.motion import Motion, motion_between
from lit_ghibli.metrics.picture_scores import PictureScores


def warping_error(before: NDArray, picture: NDArray, motion: Motion) -> float:
    """The warping error of two successive pictures of a clip.

    ``sum(M * (V_t - W(V_t-1))^2) / sum(M)``, where V are the pictures in ``[0, 1]``, W moves one along with the motion
    of the clip's own frames, and M is 1 where a pixel was to be seen in the frame before. The mean is over colors, too.

    Args:
        before: ``(H, W, 3)`` from 0 to 255: of the frame before.
        picture: Of the same shape and range.
        motion: From the frame before to the frame; M is its ``seen``.

    Returns:
        From 0 to 1; 0 also where nothing was to be seen before.

    Source: Lai et al. 2018, section 4.3, with DIS flow in place of FlowNet 2.
    """
    squares = np.square((picture.astype(np.float32) - motion.fetch(before.astype(np.float32))) / 255).mean(axis=2)
    return float((squares * motion.seen).sum() / max(motion.seen.sum(), 1))


def warping_errors(pictures: Tensor, photos: Tensor) -> Tensor:
    """`warping_error` of each picture but the first, and the one before it.

    Args:
        pictures: ``(N, 3, H, W)`` in ``[0, 1]``, of successive frames.
        photos: The frames, of the same shape and range.

    Returns:
        ``(N - 1,)``.
    """
    painted, frames = ([to_pixels(image * 2 - 1) for image in images] for images in (pictures, photos))
    motions = [motion_between(*pair) for pair in itertools.pairwise(frames)]
    pairs = zip(itertools.pairwise(painted), motions, strict=True)
    return torch.tensor([warping_error(*pair, motion) for pair, motion in pairs])


class Flicker(PictureScores):
    """Gathers the `warping_errors` of pictures that are given in the order of their clip, and of their frames."""

    def __init__(self) -> None:
        super().__init__(warping_errors)
        self._last: tuple[Tensor, Tensor] | None = None

    def update(self, output: Tensor, photo: Tensor) -> None:
        """Add pictures and frames ``(N, 3, H, W)`` that follow those before.

        Raises:
            UserError: They have another size, or several processes share the frames out.
        """
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise UserError("flicker is of successive frames: measure it in one process")
        if self._last and self._last[1].shape[-2:] != photo.shape[-2:]:
            sizes = [f"{each.shape[-1]}x{each.shape[-2]}" for each in (self._last[1], photo)]
            raise UserError(f"flicker is of the frames of one clip, all of one size: {sizes[1]} follows {sizes[0]}")
        last = self._last or (output[:0], photo[:0])
        super().update(*(torch.cat(each) for each in zip(last, (output, photo), strict=True)))
        self._last = output[-1:], photo[-1:]

    def reset(self) -> None:
        """Forget all pictures."""
        super().reset()
        self._last = None
