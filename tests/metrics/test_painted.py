import math

import numpy as np
import pytest
import torch

from lit_ghibli.metrics.painted import contours_kept, flat_area_gained


def gradient(image):
    """Sobel's, of the luma of an image (3, H, W) in [0, 1], in levels a pixel, position by position."""
    luma = 255 * np.tensordot([0.299, 0.587, 0.114], image, axes=1)
    height, width = luma.shape
    result = np.zeros_like(luma)
    for y in range(height):
        for x in range(width):
            near = [
                [luma[min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1)] for j in (-1, 0, 1)]
                for i in (-1, 0, 1)
            ]
            across = sum(weight * (near[i][2] - near[i][0]) for i, weight in enumerate((1, 2, 1))) / 8
            down = sum(weight * (near[2][j] - near[0][j]) for j, weight in enumerate((1, 2, 1))) / 8
            result[y, x] = math.hypot(across, down)
    return result


def blurred(values, sigma=2.0, radius=6):
    """Under a Gaussian, position by position, mirrored at the border without repeating it."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(values, radius, mode="reflect")
    size = 2 * radius + 1
    return np.array(
        [
            [weights @ padded[y : y + size, x : x + size] @ weights for x in range(values.shape[1])]
            for y in range(values.shape[0])
        ]
    )


def batch(*images):
    return torch.from_numpy(np.stack(images)).float()


def drawing(level, thickness):
    """White with a frame of this grey."""
    image = np.ones((3, 32, 32))
    image[:, 8:24, 8:24] = level
    image[:, 8 + thickness : 24 - thickness, 8 + thickness : 24 - thickness] = 1
    return image


def test_both_agree_with_a_loop_over_pixels():
    draw = np.random.default_rng(0)
    smooth = np.cumsum(draw.uniform(-0.01, 0.01, (2, 3, 20, 24)), axis=3) + 0.5
    smooth[..., 9:13] -= 0.3  # a stroke with two contours
    pictures, photos = smooth, smooth + draw.uniform(-0.06, 0.06, smooth.shape)
    gained, kept = flat_area_gained(batch(*pictures), batch(*photos)), contours_kept(batch(*pictures), batch(*photos))
    for number, pair in enumerate(zip(pictures, photos, strict=True)):
        edges = [gradient(image) for image in pair]
        expected = (edges[0] < 1.25).mean() - (edges[1] < 1.25).mean()
        assert gained[number].item() == pytest.approx(expected, abs=2.1 / edges[0].size)  # a pixel on the threshold
        strong = [blurred(np.clip(values, 8, 28) - 8) for values in edges]
        assert kept[number].item() == pytest.approx(np.corrcoef(*map(np.ravel, strong))[0, 1], abs=1e-4)


def test_a_copy_gains_nothing_and_keeps_all():
    photos = batch(drawing(0.2, 2), drawing(0.5, 4))
    assert flat_area_gained(photos, photos).tolist() == [0, 0]
    torch.testing.assert_close(contours_kept(photos, photos), torch.ones(2))


def test_a_fill_in_place_of_texture_is_gained():
    texture = np.ones((3, 8, 16)) * 0.5
    texture[:, :, :8] += np.tile([0.0, 0.1], 4)[None, None] * np.array([1, 1, 0, 0, 1, 1, 0, 0])[None, :, None]
    gained = flat_area_gained(batch(np.full((3, 8, 16), 0.5)), batch(texture)).item()
    assert gained == pytest.approx(1 - (gradient(texture) < 1.25).mean())
    assert gained > 0.3


def test_contours_may_become_thicker_but_not_leave():
    photo = batch(drawing(0.0, 2))
    assert contours_kept(batch(drawing(0.0, 3)), photo).item() > 0.8
    moved = np.roll(drawing(0.0, 2), 8, axis=(1, 2))
    assert contours_kept(batch(moved), photo).item() < 0.4


def test_without_contours_there_is_nothing_to_keep():
    empty = torch.full((1, 3, 32, 32), 0.3)
    assert contours_kept(empty, batch(drawing(0.0, 2))).item() == 0
    assert contours_kept(empty, empty).item() == 0


@pytest.mark.parametrize("score", [flat_area_gained, contours_kept])
def test_unequal_shapes_are_refused(score):
    with pytest.raises(ValueError, match="must have equal shapes"):
        score(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
