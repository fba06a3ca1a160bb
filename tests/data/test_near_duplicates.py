import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from lit_ghibli.data.near_duplicates import BITS, find_near_duplicates, perceptual_hash


def photo(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Smooth random colors, as different from one seed to the next as photographs are."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


def distance(first: int, second: int) -> int:
    return (first ^ second).bit_count()


def test_the_hash_is_the_signs_of_the_lowest_cosine_frequencies_about_their_median():
    image = photo(0, 64, 96)
    reduced = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=float)
    lowest = dctn(reduced, type=2)[:8, :8].ravel()
    bits = "".join("1" if value > np.median(lowest) else "0" for value in lowest)
    assert perceptual_hash(image) == int(bits, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((97, 81)),
        jpeg,
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: ImageEnhance.Contrast(image).enhance(0.7),
        lambda image: image.convert("L").convert("RGB"),
    ],
)
def test_changed_copies_are_near_and_other_photographs_far(change):
    hashes = [perceptual_hash(photo(seed)) for seed in range(20)]
    changed = [perceptual_hash(change(photo(seed))) for seed in range(20)]
    assert max(map(distance, hashes, changed)) <= 6
    assert min(distance(hashes[a], changed[b]) for a in range(20) for b in range(20) if a != b) >= 12


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (64, 64)])
def test_flat_pictures_of_any_size_and_shade_are_alike(size):
    hashes = {perceptual_hash(Image.new("RGB", size, (shade,) * 3)) for shade in (1, 100, 201, 255)}
    assert len(hashes) == 1


def greedy(hashes: list[int], most: int) -> list[int | None]:
    """The definition, as a loop."""
    originals, kept = [], []
    for number, value in enumerate(hashes):
        nearest = min(kept, key=lambda other: distance(value, hashes[other]), default=None)
        if nearest is not None and distance(value, hashes[nearest]) <= most:
            originals.append(nearest)
        else:
            originals.append(None)
            kept.append(number)
    return originals


@pytest.mark.parametrize("most", [0, 3, 6])
def test_the_search_finds_what_a_loop_finds_across_blocks(most):
    rng = np.random.default_rng(most)
    hashes = [int(value) for value in rng.integers(0, 2**64, 300, dtype=np.uint64)]
    for _ in range(1000):  # repetitions of repetitions, near and less near
        value = hashes[rng.integers(len(hashes))]
        for bit in rng.integers(0, BITS, rng.integers(0, 4)):
            value ^= 1 << int(bit)
        hashes.append(value)
    expected = greedy(hashes, most)
    assert find_near_duplicates(hashes, most) == expected
    assert 100 < sum(original is None for original in expected) < 1299


def test_a_chain_is_cut_at_its_links_not_down_to_one():
    assert find_near_duplicates([0b0, 0b111, 0b111111], 3) == [None, 0, None]


def test_all_bits_count_and_nothing_is_no_trouble():
    assert find_near_duplicates([0, 1 << 63, 2**64 - 1, 2**64 - 1], 0) == [None, None, None, 2]
    assert find_near_duplicates([5], 6) == [None]
    assert find_near_duplicates([], 6) == []
