"""Photographs that are nearly the same, found by a perceptual hash."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

BITS = 64

_GRID = 32  # pixels per side that a photograph is reduced to
_FREQUENCIES = 8  # per direction, the lowest ones
_COSINES = np.cos(np.pi * np.outer(np.arange(_FREQUENCIES), 2 * np.arange(_GRID) + 1) / (2 * _GRID))
_BLOCK = 512  # hashes compared at once with all that are kept: bounds the memory


def perceptual_hash(image: Image.Image) -> int:
    """Which of the luminance's 8x8 lowest cosine frequencies lie above their median, as 64 bits.

    Copies in another size, quality, brightness or contrast differ in few bits; cropped or mirrored ones in many.

    Source: Zauner 2010, the hash of the discrete cosine transform.
    """
    return hash_luminance(reduced_luminance(image))


def reduced_luminance(image: Image.Image) -> np.ndarray:
    """Luminance of a picture averaged to 32x32 pixels whatever its aspect, ``uint8``."""
    return np.asarray(image.convert("L").resize((_GRID, _GRID), Image.Resampling.BOX))


def hash_luminance(luminance: np.ndarray) -> int:
    """`perceptual_hash` of the picture that `reduced_luminance` was computed of."""
    # Rounded, so that frequencies which are absent are equal rather than noise of the last digit.
    amplitudes = (_COSINES @ luminance.astype(np.float64) @ _COSINES.T).round(6)
    return int.from_bytes(np.packbits(amplitudes > np.median(amplitudes)).tobytes(), "big")


def find_near_duplicates(hashes: Sequence[int], distance: int) -> list[int | None]:
    """For each hash, the index of the earlier one that it repeats; None for those that repeat none.

    An earlier hash that is a repetition itself does not count, so that a chain of small changes is not cut down to
    its first link. Of several, the nearest is named, and the earliest of those.

    Args:
        hashes: Of `BITS` bits each. All are compared, by matrix products: 90,000 take about ten seconds.
        distance: The most bits in which a repetition may differ.
    """
    signs = _signs(hashes)
    required = BITS - 2 * distance  # a product of signs is the number of equal bits less that of unequal ones
    originals: list[int | None] = [None] * len(hashes)
    kept_signs, kept = np.empty_like(signs), np.empty(len(signs), dtype=np.int64)
    count = 0  # of those that are kept
    for start in range(0, len(signs), _BLOCK):
        block = signs[start : start + _BLOCK]
        before, within = count, block @ block.T
        against = block @ kept_signs[:before].T
        nearest = against.argmax(axis=1) if before else np.zeros(len(block), dtype=np.int64)
        products = against[np.arange(len(block)), nearest] if before else np.full(len(block), -np.inf)
        for row in range(len(block)):
            best, place = products[row], nearest[row]
            fresh = within[row, kept[before:count] - start]
            if fresh.size and fresh.max() > best:
                best, place = fresh.max(), before + fresh.argmax()
            if best >= required:
                originals[start + row] = int(kept[place])
            else:
                kept[count], kept_signs[count] = start + row, block[row]
                count += 1
    return originals


def find_nearest(hashes: Sequence[int], others: Sequence[int], distance: int) -> list[int | None]:
    """For each hash, the index of the nearest among others, the earliest of several; None where none is near.

    Args:
        hashes: Of `BITS` bits each.
        others: Likewise.
        distance: The most bits in which a near one may differ.
    """
    if not others:
        return [None] * len(hashes)
    signs, other_signs = _signs(hashes), _signs(others)
    nearest: list[int | None] = []
    for start in range(0, len(signs), _BLOCK):
        products = signs[start : start + _BLOCK] @ other_signs.T
        places = products.argmax(axis=1)
        near = products[np.arange(len(places)), places] >= BITS - 2 * distance
        nearest += [int(place) if found else None for place, found in zip(places, near, strict=True)]
    return nearest


def _signs(hashes: Sequence[int]) -> np.ndarray:
    """Bits as -1 and 1, ``(n, 64)`` in float32, in which sums of 64 are exact."""
    octets = np.array(hashes, dtype=">u8").view(np.uint8).reshape(-1, BITS // 8)
    return np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1
