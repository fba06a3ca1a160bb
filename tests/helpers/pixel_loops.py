"""What the painter's filters share, pixel by pixel in float64: slow, and plain to read."""

import math

import numpy as np
from numpy.typing import NDArray


def looped_blur(picture: NDArray, sigma: float) -> NDArray:
    """A Gaussian of 3 sigma each way over (C, H, W), with borders mirrored about the outermost pixels."""
    _, height, width = picture.shape
    reach_y, reach_x = (min(round(3 * sigma), side - 1) for side in (height, width))
    result = np.zeros_like(picture, dtype=np.float64)
    for y in range(height):
        for x in range(width):
            total = 0.0
            for dy in range(-reach_y, reach_y + 1):
                for dx in range(-reach_x, reach_x + 1):
                    weight = math.exp(-(dx * dx + dy * dy) / (2 * sigma**2))
                    result[:, y, x] += weight * picture[:, _mirrored(y + dy, height), _mirrored(x + dx, width)]
                    total += weight
            result[:, y, x] /= total
    return result


def looped_sample(picture: NDArray, x: float, y: float) -> NDArray:
    """The color of (C, H, W) between four pixels; beyond the borders, that of the nearest point inside."""
    _, height, width = picture.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = (1 - (x - left)) * picture[:, top, left] + (x - left) * picture[:, top, right]
    lower = (1 - (x - left)) * picture[:, bottom, left] + (x - left) * picture[:, bottom, right]
    return (1 - (y - top)) * upper + (y - top) * lower


def _mirrored(index: int, size: int) -> int:
    while not 0 <= index < size:
        index = -index if index < 0 else 2 * (size - 1) - index
    return index
