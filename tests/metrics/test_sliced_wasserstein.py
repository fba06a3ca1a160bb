import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from lit_ghibli.metrics.sliced_wasserstein import (
    SlicedWassersteinDistance,
    extract_patches,
    laplacian_pyramid,
    level_count,
    normalize_descriptors,
    patch_positions,
    random_directions,
    sliced_wasserstein,
    wasserstein_1d,
)

SMALL = {"seed": 5, "patches_per_image": 16, "projections": 24}


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def noise(count: int, *size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma)))


def distance(real: torch.Tensor, fake: torch.Tensor, **options) -> float:
    metric = SlicedWassersteinDistance(**{**SMALL, **options})
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


# --- an independent implementation in float64, image by image, projection by projection ---------------


def reference_pyramid(channel: np.ndarray, levels: int) -> list[np.ndarray]:
    taps = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(taps, taps)
    bands = [channel]
    for _ in range(levels - 1):
        coarser = ndimage.convolve(bands[-1], kernel, mode="mirror")[::2, ::2]
        spread = np.zeros_like(bands[-1])
        spread[::2, ::2] = coarser
        bands[-1] = bands[-1] - ndimage.convolve(spread, 4 * kernel, mode="mirror")
        bands.append(coarser)
    return bands


def reference_descriptors(numbered: list[tuple[int, np.ndarray]], level: int, levels: int) -> np.ndarray:
    patches = []
    for number, image in numbered:
        band = np.stack([reference_pyramid(channel, levels)[level] for channel in image])
        corners = patch_positions(SMALL["seed"], number, level, SMALL["patches_per_image"], band.shape[1:])
        patches += [band[:, row : row + 7, column : column + 7] for row, column in corners.T.tolist()]
    stacked = np.stack(patches)
    for channel in range(3):
        values = stacked[:, channel]
        stacked[:, channel] = (values - values.mean()) / values.std()
    return stacked.reshape(len(stacked), 147)


def reference_levels(real: list[tuple[int, np.ndarray]], fake: list, levels: int) -> list[float]:
    directions = random_directions(SMALL["seed"], 147, SMALL["projections"]).numpy()
    result = []
    for level in range(levels):
        a, b = (reference_descriptors(numbered, level, levels) for numbered in (real, fake))
        distances = [stats.wasserstein_distance(a @ line, b @ line) for line in directions]
        result.append(1000 * np.mean(distances))
    return result


def numbered(images: torch.Tensor, first: int = 0) -> list[tuple[int, np.ndarray]]:
    return list(enumerate(images.double().numpy(), start=first))


@pytest.mark.parametrize(("size", "levels"), [((32, 32), 2), ((37, 61), 2), ((16, 20), 1)])
def test_matches_the_reference_with_unequal_sets(size, levels):
    real, fake = blurred(noise(3, *size), 1.0), noise(2, *size, seed=1)
    metric = SlicedWassersteinDistance(**SMALL)
    metric.update(real[:1], real=True)
    metric.update(fake, real=False)
    metric.update(real[1:], real=True)
    expected = reference_levels(numbered(real), numbered(fake), levels)
    assert metric.compute().item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert metric.per_level.tolist() == pytest.approx(expected, rel=1e-4)


def test_merged_processes_match_the_reference_in_which_each_numbers_its_own_images():
    real, fake = blurred(noise(4, 32, 32), 1.0), noise(4, 32, 32, seed=1)
    first, second = SlicedWassersteinDistance(**SMALL), SlicedWassersteinDistance(**SMALL)
    for metric, part in ((first, slice(0, 3)), (second, slice(3, 4))):
        metric.update(real[part], real=True)
        metric.update(fake[part], real=False)
    first.merge_state(second)
    # merge_state puts the incoming images first; the order of a set is without effect
    sides = [numbered(images[3:]) + numbered(images[:3]) for images in (real, fake)]
    assert first.compute().item() == pytest.approx(np.mean(reference_levels(*sides, 2)), rel=1e-4)
    assert int(first.real_seen) == 4


def test_merged_processes_equal_one_where_positions_do_not_matter():
    colors = torch.rand(6, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(6, 3, 32, 32)
    other = colors.flip(1).square()
    single, first, second = (SlicedWassersteinDistance(**SMALL) for _ in range(3))
    for metric, part in ((single, slice(0, 6)), (first, slice(0, 2)), (second, slice(2, 6))):
        metric.update(colors[part], real=True)
        metric.update(other[part], real=False)
    first.merge_state(second)
    assert single.compute() > 10
    assert torch.allclose(first.compute(), single.compute(), rtol=1e-5)


# --- properties ---------------------------------------------------------------------------------------


def test_equal_sets_are_exactly_zero_apart():
    images = noise(3, 40, 33)
    assert distance(images, images) == 0.0


def test_symmetric():
    a, b = noise(2, 32, 32), blurred(noise(3, 32, 32, seed=1), 1.5)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-6)


def test_grows_with_blur_and_with_noise():
    drawing = noise(4, 8, 8).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    blur = [distance(drawing, blurred(drawing, sigma)) for sigma in (0.0, 0.7, 2.0)]
    grain = [distance(drawing, (drawing + s * noise(4, 64, 64, seed=9)).clamp(0, 1)) for s in (0.0, 0.1, 0.5)]
    assert blur[0] == 0.0 < blur[1] < blur[2]
    assert grain[0] == 0.0 < grain[1] < grain[2]


def test_same_images_give_the_same_value_in_any_batches_and_after_reset():
    real, fake = noise(5, 32, 32), noise(5, 32, 32, seed=1)
    whole = distance(real, fake)
    metric = SlicedWassersteinDistance(**SMALL)
    for _ in range(2):
        for image in range(5):
            metric.update(real[image : image + 1], real=True)
        metric.update(fake[:2], real=False)
        metric.update(fake[2:], real=False)
        assert float(metric.compute()) == pytest.approx(whole, rel=1e-6)
        metric.reset()
    assert distance(real, fake, seed=6) != whole


def test_levels_are_those_that_both_sets_have():
    metric = SlicedWassersteinDistance(**SMALL)
    metric.update(noise(1, 64, 64), real=True)
    metric.update(noise(1, 16, 40), real=True)
    metric.update(noise(1, 48, 32), real=False)
    assert metric.per_level.shape == (2,)  # 64 has 64, 32, 16; 48 x 32 has itself and 24 x 16
    assert metric.compute() == metric.per_level.mean()


def test_flat_images_are_finite():
    assert distance(torch.full((2, 3, 32, 32), 0.3), torch.full((1, 3, 32, 32), 0.9)) == 0.0


def test_memory_is_bounded_by_a_uniform_sample():
    kept = []
    for seed in range(60):
        metric = SlicedWassersteinDistance(seed=seed, patches_per_image=1, projections=2, max_images=3)
        for number in range(9):  # the brightness tells which images were kept
            metric.update(torch.full((1, 3, 16, 16), number / 10), real=True)
        assert len(metric.real_patches) == len(metric.real_levels) == 3
        kept += [round(float(patches[0]) * 10) for patches in metric.real_patches]
        assert int(metric.real_seen) == 9
    counts = np.bincount(kept, minlength=9)  # expected 20 each, deviation about 3.7
    assert counts.min() >= 8
    assert counts.max() <= 32


def test_state_follows_torchmetrics():
    metric = SlicedWassersteinDistance(**SMALL)
    metric.update(noise(1, 16, 16), real=True)
    assert metric.state_dict() == {}
    assert (metric.higher_is_better, metric.is_differentiable, metric.full_state_update) == (False,) * 3


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, "got torch.uint8"),
        (torch.zeros(3, 32, 32), ValueError, r"got \(3, 32, 32\)"),
        (torch.zeros(1, 1, 32, 32), ValueError, r"got \(1, 1, 32, 32\)"),
        (torch.zeros(0, 3, 32, 32), ValueError, "N > 0"),
        (torch.zeros(1, 3, 15, 32), ValueError, "16 pixels or more"),
        (torch.full((1, 3, 32, 32), -1.0), ValueError, r"got \[-1, -1\]; see lit_ghibli.images.to_unit"),
        (torch.full((1, 3, 32, 32), torch.nan), ValueError, "nan"),
    ],
)
def test_wrong_input_is_named(images, error, message):
    with pytest.raises(error, match=message):
        SlicedWassersteinDistance(**SMALL).update(images, real=True)


@pytest.mark.parametrize(("given", "missing"), [(True, "fake"), (False, "real")])
def test_an_empty_set_is_named(given, missing):
    metric = SlicedWassersteinDistance(**SMALL)
    metric.update(noise(1, 16, 16), real=given)
    with pytest.raises(ValueError, match=f"the {missing} set is empty"):
        metric.compute()


# --- the pure functions -------------------------------------------------------------------------------


def test_shift_of_a_distribution_is_its_distance():
    sample = torch.randn(3, 200, dtype=torch.float64)
    shift = torch.tensor([[0.5], [-2.0], [0.0]], dtype=torch.float64)
    assert torch.allclose(wasserstein_1d(sample, sample + shift), shift.abs().flatten())


def test_unequal_samples_are_compared_exactly():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(4, 30)), generator.normal(size=(4, 17)) + 0.3
    expected = [stats.wasserstein_distance(x, y) for x, y in zip(a, b, strict=True)]
    found = wasserstein_1d(torch.from_numpy(a), torch.from_numpy(b))
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    repeated = wasserstein_1d(torch.from_numpy(a), torch.from_numpy(a).repeat(1, 3))
    assert repeated.max() < 1e-12  # the same distribution, in three times as many samples


def test_sliced_distance_of_a_shift_is_its_mean_projection():
    points, shift = torch.randn(50, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    directions = random_directions(0, 6, 40)
    assert torch.allclose(directions.norm(dim=1), torch.ones(40, dtype=torch.float64))
    expected = (directions @ shift).abs().mean()
    assert torch.allclose(sliced_wasserstein(points, points + shift, directions), expected)


def test_flat_image_lives_in_the_last_band_alone():
    flat = torch.full((1, 3, 32, 48), 0.4, dtype=torch.float64)
    bands = laplacian_pyramid(flat, 3)
    assert [tuple(band.shape[2:]) for band in bands] == [(32, 48), (16, 24), (8, 12)]
    assert max(bands[0].abs().max(), bands[1].abs().max()) < 1e-12
    assert torch.allclose(bands[2], torch.full_like(bands[2], 0.4))


def test_level_count():
    sizes = [(256, 256), (16, 16), (31, 400), (15, 90), (17, 17)]
    assert [level_count(*size) for size in sizes] == [5, 1, 2, 0, 1]


def test_patches_are_cut_at_their_corners_and_stay_inside():
    images = torch.arange(2 * 3 * 20 * 9).view(2, 3, 20, 9)
    corners = torch.tensor([[[0, 13], [2, 0]], [[5, 1], [1, 2]]])
    patches = extract_patches(images, corners)
    assert torch.equal(patches[0, 1], images[0, :, 13:20, 0:7])
    assert torch.equal(patches[1, 0], images[1, :, 5:12, 1:8])
    drawn = patch_positions(0, 3, 1, 4000, (20, 9))
    assert drawn.amin(dim=1).tolist() == [0, 0]
    assert drawn.amax(dim=1).tolist() == [13, 2]


def test_descriptors_have_unit_statistics_by_channel():
    patches = torch.randn(30, 3, 7, 7) * torch.tensor([0.1, 1.0, 5.0]).view(3, 1, 1) + 2.0
    channels = normalize_descriptors(patches).view(30, 3, 49)
    assert torch.allclose(channels.mean(dim=(0, 2)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(channels.var(dim=(0, 2), correction=0), torch.ones(3), rtol=1e-4)
