import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.color import deltaE_cie76, rgb2lab

from lit_ghibli.images import from_uint8
from lit_ghibli.metrics.structure import label_agreement, structure_consistency, style_strength
from lit_ghibli.scenes.scene import render_pair


def scene(index: int, size: int = 64, painted: bool = False) -> torch.Tensor:
    return from_uint8(torch.from_numpy(render_pair(0, index, size)[painted].copy()).permute(2, 0, 1).unsqueeze(0))


def noise(size: int, seed: int) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def levels(images: torch.Tensor) -> np.ndarray:
    """RGB of one image in [0, 1], (H, W, 3), float64."""
    return (images[0].double().permute(1, 2, 0).numpy() + 1) / 2


# --- structure -------------------------------------------------------------------


def test_structure_is_the_correlation_of_sobel_magnitudes():
    photo, picture = scene(0), scene(0, painted=True)
    magnitudes = []
    for image in (photo, picture):
        luma = levels(image) @ [0.299, 0.587, 0.114]
        magnitudes.append(np.hypot(*(ndimage.sobel(luma, axis, mode="nearest") for axis in (0, 1))).ravel())
    expected = np.corrcoef(*magnitudes)[0, 1]
    assert 0.1 < expected < 0.99
    assert structure_consistency(photo, picture).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (3, 50), (300, 280)])
def test_a_copy_has_the_whole_structure_also_brighter_flatter_or_inverted(size):
    photo = noise(300, 0)[..., : size[0], : size[1]]
    for changed in (photo, 0.5 * photo, 0.3 * photo + 0.6, -photo):
        assert structure_consistency(photo, changed).item() == pytest.approx(1.0, abs=1e-4)


def test_unrelated_noise_has_no_structure_in_common():
    assert structure_consistency(noise(256, 0), noise(256, 1)).item() < 0.02


def test_edges_where_the_photograph_has_none_count_as_nothing_rather_than_less():
    halves = [torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)]
    halves[0][..., :32] = noise(64, 0)[..., :32]
    halves[1][..., 32:] = noise(64, 1)[..., 32:]
    assert structure_consistency(*halves).item() == 0.0


@pytest.mark.parametrize("size", [(1, 1), (40, 40), (600, 600)])
def test_without_edges_there_is_no_structure(size):
    flat = torch.full((1, 3, *size), 0.3)
    assert structure_consistency(flat, flat).item() == 0.0
    assert structure_consistency(flat, noise(600, 0)[..., : size[0], : size[1]]).item() == 0.0


def test_texture_finer_than_a_drawing_does_not_count():
    photo = scene(0, 512)
    rows, columns = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    checkerboard = ((rows + columns) % 2 * 2.0 - 1) * 0.2
    assert structure_consistency(photo, photo + checkerboard).item() > 0.95


def test_each_pair_of_a_batch_is_judged_by_itself():
    photos, pictures = torch.cat([scene(0), scene(1)]), torch.cat([scene(0), scene(0)])
    for score in (structure_consistency, style_strength):
        apart = torch.cat([score(photos[n : n + 1], pictures[n : n + 1]) for n in range(2)])
        torch.testing.assert_close(score(photos, pictures), apart)
        assert apart[0] != apart[1]


# --- style -----------------------------------------------------------------------


def test_style_is_the_mean_color_difference():
    photo, picture = noise(48, 0), noise(48, 1) * 0.5
    expected = deltaE_cie76(*(rgb2lab(levels(image)) for image in (photo, picture))).mean()
    assert style_strength(photo, picture).item() == pytest.approx(expected, rel=1e-3)


def test_black_is_a_hundred_from_white_and_a_copy_nothing():
    white = torch.ones(1, 3, 8, 8)
    assert style_strength(-white, white).item() == pytest.approx(100.0, abs=0.01)
    assert style_strength(scene(0), scene(0)).item() == 0.0


# --- meaning ---------------------------------------------------------------------


def test_agreement_is_the_mean_over_classes_of_shared_over_joint_area():
    first = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    second = torch.tensor([[[0, 0, 0, 1], [0, 0, 0, 2]]])
    # Class 0: 4 of 6 pixels; class 1: 1 of 4; class 2: 0 of 1.
    expected = (4 / 6 + 1 / 4 + 0) / 3
    assert label_agreement(first, second, num_classes=21).item() == pytest.approx(expected)
    assert label_agreement(second, first, num_classes=21).item() == pytest.approx(expected)
    assert label_agreement(first, first, num_classes=21).item() == 1.0


def test_specks_do_not_count_as_classes_but_a_small_person_does():
    empty = torch.zeros(1, 20, 20, dtype=torch.long)
    speck, person = empty.clone(), empty.clone()
    speck[0, 0, :3] = 15
    person[0, :2, :2] = 15  # exactly one hundredth
    assert label_agreement(empty, speck, num_classes=21).item() == pytest.approx(397 / 400)
    assert label_agreement(empty, person, num_classes=21).item() == pytest.approx(396 / 400 / 2)


@pytest.mark.parametrize("score", [structure_consistency, style_strength])
def test_unequal_shapes_are_refused(score):
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\) and pictures \(1, 3, 8, 9\)"):
        score(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
