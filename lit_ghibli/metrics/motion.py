"""Where the pixels of a clip's frame were in the frame before it, and which of them were to be seen there."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lit_ghibli.extras import packages

if TYPE_CHECKING:
    Frame = NDArray[np.uint8]  # (H, W, 3), RGB
    Flow = NDArray[np.float32]  # (H, W, 2): x, y

_PIXELS = 640 * 360  # of which the flow is taken: larger frames are reduced
_SMALLEST = 16  # pixels of a side: smaller frames are padded by their borders, which OpenCV's pyramid needs
_RELATIVE, _ABSOLUTE = 0.01, 0.5  # of the check forwards and backwards, the latter in squared pixels


@dataclass(frozen=True)
class Motion:
    """The way back from a frame to the one before.

    Attributes:
        flow: ``(H, W, 2)``: from each pixel of the frame to where it was, in pixels to the right and down.
        seen: ``(H, W)``: 1 where it was to be seen, 0 where it was hidden or outside, in float32.
    """

    flow: "Flow"
    seen: NDArray[np.float32]

    def fetch(self, before: NDArray, cubic: bool = False) -> NDArray:
        """What ``before``, ``(H, W)`` or ``(H, W, 3)``, has at the places where the frame's pixels were."""
        (cv2,) = packages("clips", "video", "cv2")
        return _fetch(before, self.flow, cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR)


def motion_between(before: "Frame", frame: "Frame") -> Motion:
    """The motion from one frame to the next, both of one size, by DIS optical flow on at most 640 x 360 pixels.

    A pixel was to be seen if the flow forwards leads back to it from where the flow backwards has led.

    Raises:
        UserError: OpenCV is not installed.

    Source: Kroeger et al. 2016, of which OpenCV has an implementation; the check with its numbers: Sundaram et al.
    2010, Eq. 5.
    """
    (cv2,) = packages("clips", "video", "cv2")
    height, width = frame.shape[:2]
    scale = min(1.0, math.sqrt(_PIXELS / (height * width)))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    margins = 0, max(_SMALLEST - size[1], 0), 0, max(_SMALLEST - size[0], 0)
    greys = [
        cv2.copyMakeBorder(
            cv2.resize(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA),
            *margins,
            cv2.BORDER_REPLICATE,
        )
        for each in (before, frame)
    ]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, ahead = dis.calc(greys[1], greys[0], None), dis.calc(greys[0], greys[1], None)
    there = _fetch(ahead, back, cv2.INTER_LINEAR)  # which leads back, if all is well
    squares = [np.square(each).sum(axis=2) for each in (back + there, back, there)]
    seen = squares[0] < _RELATIVE * (squares[1] + squares[2]) + _ABSOLUTE
    x, y = _places(back)
    rows, columns = back.shape[:2]
    seen &= (x > -0.5) & (y > -0.5) & (x < columns - 0.5) & (y < rows - 0.5)
    back, seen = (each[: size[1], : size[0]] for each in (back, seen.astype(np.float32)))
    if size != (width, height):
        back = cv2.resize(back, (width, height)) * np.float32([width / size[0], height / size[1]])
        seen = cv2.resize(seen, (width, height), interpolation=cv2.INTER_NEAREST)
    return Motion(back, seen)


def _places(flow: "Flow") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = flow.shape[:2]
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    return x + flow[..., 0], y + flow[..., 1]


def _fetch(image: NDArray, flow: "Flow", interpolation: int) -> NDArray:
    (cv2,) = packages("clips", "video", "cv2")
    return cv2.remap(image, *_places(flow), interpolation, borderMode=cv2.BORDER_REPLICATE)
