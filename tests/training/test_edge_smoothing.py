import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from lit_ghibli.images import from_uint8
from lit_ghibli.training.edge_smoothing import canny, smooth_edges


def pictures(seed=0):
    """Random but not rough, so that there are weak edges and strong ones: two, in 255 levels."""
    noise = np.random.default_rng(seed).random((2, 3, 26, 21))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 1.3, 1.3), mode="wrap")
    low, high = smooth.min(), smooth.max()
    return from_uint8(torch.from_numpy(np.rint(255 * (smooth - low) / (high - low)).astype(np.uint8)))


def looped_canny(picture, low, high):
    """Of (3, H, W) in 255 levels, by angles, pixel by pixel; edges grow as connected components."""
    grey = np.rint(np.tensordot([0.299, 0.587, 0.114], picture, 1))
    dx, dy = (ndimage.sobel(grey, axis, mode="nearest") for axis in (1, 0))
    length = np.pad(abs(dx) + abs(dy), 1)
    ridges = np.zeros(grey.shape, dtype=bool)
    for y, x in np.ndindex(grey.shape):
        angle = math.degrees(math.atan2(dy[y, x], dx[y, x])) % 180
        # The neighbours before and after in the gradient's direction, rounded to one of four; y points down.
        step = {0: (0, 1), 1: (1, 1), 2: (1, 0), 3: (1, -1)}[int((angle + 22.5) // 45) % 4]
        here = length[y + 1, x + 1]
        first, second = length[y + 1 - step[0], x + 1 - step[1]], length[y + 1 + step[0], x + 1 + step[1]]
        ridges[y, x] = here > first and (here > second or (here == second and 0 in step))
    length = length[1:-1, 1:-1]
    parts, _ = ndimage.label(ridges & (length > low), np.ones((3, 3)))
    strong = np.unique(parts[ridges & (length > high)])
    return np.isin(parts, strong[strong > 0])


@pytest.mark.parametrize("thresholds", [(100, 200), (30, 300)])
def test_edges_are_those_of_canny(thresholds):
    images = pictures()
    expected = [looped_canny(image, *thresholds) for image in (images.double().numpy() + 1) * 127.5]
    found = canny(images, *thresholds)
    assert found.shape == (2, 1, 26, 21)
    assert 20 < found.sum() < found.numel() / 2
    np.testing.assert_array_equal(found[:, 0].numpy(), expected)


def fading_step(first, last):
    """A vertical edge whose contrast fades, in levels, from top to bottom of 80 rows."""
    grey = np.full((80, 12), 100.0)
    grey[:, 6:] += np.linspace(first, last, 80)[:, None]
    return from_uint8(torch.from_numpy(np.rint(grey).astype(np.uint8))).expand(1, 3, 80, 12)


def test_weak_edges_count_where_they_lead_to_strong_ones_however_far():
    # Sobel multiplies a step by 4: it is strong from 50 levels on, and no edge up to 25.
    assert canny(fading_step(60, 27))[0, 0].sum(1).eq(1).all()
    assert not canny(fading_step(49, 27)).any()
    assert canny(fading_step(60, 20))[0, 0].any(1).sum() < 75


def test_edges_are_blurred_and_the_rest_is_left():
    images = 0.6 * pictures(seed=1)  # fewer edges
    edges = canny(images)[:, 0].numpy()
    near = np.stack([ndimage.binary_dilation(mask, np.ones((5, 5))) for mask in edges])
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    blurred = np.stack([[ndimage.convolve(c, kernel, mode="mirror") for c in image] for image in images.numpy()])
    expected = np.where(near[:, None], blurred, images.numpy())
    assert 0.1 < near.mean() < 0.9
    np.testing.assert_allclose(smooth_edges(images).numpy(), expected, atol=1e-6)


def test_autocast_changes_nothing():
    images = pictures(seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = smooth_edges(images)
    assert torch.equal(inside, smooth_edges(images))


def test_no_gradient_and_no_edge_in_a_plain_picture():
    plain = torch.full((1, 3, 9, 9), 0.3, requires_grad=True)
    smoothed = smooth_edges(plain)
    assert not smoothed.requires_grad
    assert torch.equal(smoothed, plain)
