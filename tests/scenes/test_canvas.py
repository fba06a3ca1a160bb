import numpy as np
import pytest

from lit_ghibli.scenes.canvas import Canvas, clump, noise, polygon
from lit_ghibli.scenes.palette import atmosphere


def blank(size):
    return Canvas(size, atmosphere(0.0, 1.0), {})


@pytest.mark.parametrize("corners", [[(0.2, 0.3), (0.8, 0.3), (0.8, 0.7), (0.2, 0.7)]])
@pytest.mark.parametrize("order", [1, -1])
def test_polygon_is_the_distance_to_the_nearest_side_in_either_winding(corners, order):
    box = blank(50).box()
    inside = np.minimum(np.minimum(box.x - 0.2, 0.8 - box.x), np.minimum(box.y - 0.3, 0.7 - box.y))
    np.testing.assert_allclose(polygon(box, corners[::order]), inside, atol=1e-6)


def test_cover_of_a_disc_sums_to_its_area():
    canvas = blank(64)
    distance, _ = clump(canvas.box(), np.array([[0.45, 0.55, 0.3, 0.0]], np.float32), 1.0)
    assert canvas.cover(distance).mean() == pytest.approx(np.pi * 0.3**2, rel=2e-3)


def test_clump_is_lit_from_above_on_the_side_of_the_sun():
    box = blank(64).box(0.2, 0.2, 0.8, 0.8)
    puff = np.array([[0.5, 0.5, 0.3, 0.0]], np.float32)
    _, light = clump(box, puff, 1.0)
    _, mirrored = clump(box, puff, -1.0)
    np.testing.assert_allclose(light, mirrored[:, ::-1], atol=1e-5)
    rows, cols = light.shape
    assert light[rows // 4, 3 * cols // 4] > light[3 * rows // 4, cols // 4] + 0.3


def test_outline_darkens_the_ghibli_only_and_only_the_rim():
    canvas = blank(40)
    canvas.photo[:], canvas.ghibli[:] = 1.0, 1.0
    box = canvas.box()
    canvas.outline(box, box.y - np.float32(0.5) + 0.0 * box.x, 0.05)
    np.testing.assert_array_equal(canvas.photo, 1.0)
    dark = (canvas.ghibli < 0.99).all(axis=(0, 2))
    np.testing.assert_array_equal(np.flatnonzero(dark), [20, 21])


def test_noise_is_standardised():
    fields = [noise(np.random.default_rng(seed), 128, 12, 12) for seed in range(8)]
    assert abs(np.mean(fields)) < 0.2
    assert 0.7 < np.std(fields) < 1.4


def test_noise_is_the_same_field_at_every_size():
    small = noise(np.random.default_rng(4), 64, 4, 4)
    large = noise(np.random.default_rng(4), 256, 4, 4)
    pooled = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), pooled.ravel())[0, 1] > 0.995
    states = [np.random.default_rng(4) for _ in range(2)]
    for rng, size in zip(states, (32, 256), strict=True):
        noise(rng, size, 40, 40, 4)
    assert states[0].random() == states[1].random()
