"""Translating the frames of a clip so that the pictures flicker no more than the frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_ghibli.extras import packages
from lit_ghibli.images import from_picture
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics.flicker import warping_error
from lit_ghibli.metrics.motion import Motion, motion_between
from lit_ghibli.networks.normalization import SharedStatistics, shared_statistics

MEASURED = 25  # every so many frames the flicker is measured, which costs up to two further translations
_NEW_SCENE = 0.25  # share of the pixels: if no more were to be seen in the frame before, another scene has begun
_SAME = 10.0  # levels: a pixel that has changed by so much, the flow followed, is another one
_STILL = 0.25  # pixels of motion: what moves by less is not blurred by being moved again and again
_EDGE = 5  # pixels around what was hidden, where the flow is not to be trusted either
_SOFTNESS = 1.5  # sigma, in pixels, of the border between what is followed and what is painted anew


class Smoother:
    """Paints one frame after the other.

    What the network measures of each whole picture (of instance normalisation, mean and variance) is averaged over the
    frames, and each picture is blended with the one before, moved along with the scene, where its pixels were to be
    seen there and have not changed. Each picture takes the share ``smooth`` of what was before, so that a moment counts
    for about ``1 / (1 - smooth)`` frames. Where nothing moves, and of statistics, that is for the square of so many:
    these lose no sharpness by it. Where another scene begins, all begins anew.

    Args:
        translator: Paints single frames.
        smooth: From 0, each frame by itself, to 1, where what stays to be seen keeps its first picture.
        shared: The statistics of the translator's network.

    Attributes:
        errors: The warping errors that were measured, of the frames, of pictures without all this, and with it.

    Source: blending as in Bonneel et al. 2015 and the short-term term of Lai et al. 2018, without learning.
    """

    def __init__(self, translator: Translator, smooth: float, shared: SharedStatistics) -> None:
        self.translator, self.smooth, self.shared = translator, smooth, shared
        self.errors: list[list[float]] = []
        self._count = 0
        self._frame: NDArray[np.uint8] | None = None
        self._picture: NDArray[np.float32] | None = None

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture of the next frame, ``(H, W, 3)`` in RGB.

        Raises:
            UserError: OpenCV is not installed.
        """
        measured = self._count % MEASURED == 1
        motion = None
        if self._frame is not None and (self.smooth or measured):
            motion = motion_between(self._frame, frame)
            if motion.seen.mean() <= _NEW_SCENE:
                motion = None
                self.shared.forget()
        painted = self._translate(frame)
        picture = painted
        if motion and self.smooth:
            still = np.exp(-np.square(motion.flow / _STILL).sum(axis=2))
            kept = self.smooth + (_longer(self.smooth) - self.smooth) * still
            kept = (kept * self._followed(motion, frame))[..., None]
            picture = (painted + kept * (motion.fetch(self._picture, cubic=True) - painted)).clip(0, 255)
        if motion and measured:
            with self.shared.applied(sharing=False):
                alone = [self._translate(self._frame), self._translate(frame) if len(self.shared) else painted]
            pairs = (self._frame, frame), alone, (self._picture, picture)
            self.errors.append([warping_error(*pair, motion) for pair in pairs])
        self._count, self._frame, self._picture = self._count + 1, frame, picture
        return picture.round().astype(np.uint8)

    def state_dict(self) -> dict[str, Any]:
        """All but the last frame itself, for `load_state_dict`."""
        return {
            "count": self._count,
            "picture": torch.from_numpy(self._picture).half(),
            "statistics": self.shared.state_dict(),
            "errors": self.errors,
        }

    def load_state_dict(self, state: dict[str, Any], frame: NDArray[np.uint8]) -> None:
        """Go on behind a frame, with what was saved then."""
        self._count, self.errors, self._frame = state["count"], state["errors"], frame
        self._picture = state["picture"].float().numpy()
        self.shared.load_state_dict(state["statistics"])

    def _translate(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        picture = self.translator.translate(from_picture(frame, self.translator.device))
        return ((picture[0].permute(1, 2, 0).float().cpu() + 1) * 127.5).numpy()

    def _followed(self, motion: Motion, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How far the pixels of a frame are those of the frame before, moved, ``(H, W)`` from 0 to 1."""
        (cv2,) = packages("clips", "video", "cv2")
        change = motion.fetch(self._frame.astype(np.float32)) - frame
        same = np.exp(-np.square(change / _SAME).mean(axis=2))
        seen = cv2.erode(motion.seen, np.ones((_EDGE, _EDGE), np.uint8))
        return cv2.GaussianBlur(seen * same, (0, 0), _SOFTNESS)


def _longer(smooth: float) -> float:
    """The share of what was before by which a moment counts for the square of so many frames."""
    return 1 - (1 - smooth) ** 2


@contextmanager
def smoothing(translator: Translator, smooth: float) -> Iterator[Smoother]:
    """A `Smoother`; inside the block the translator's network is its alone."""
    with shared_statistics(translator.network, _longer(smooth)) as shared:
        yield Smoother(translator, smooth, shared)
