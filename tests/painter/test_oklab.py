import pytest
import torch

from lit_ghibli.painter.oklab import from_oklab, to_oklab

# Ottosson 2020, as CSS Color 4 lists them
REFERENCES = [
    ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((1.0, 0.0, 0.0), (0.62796, 0.22486, 0.12585)),
    ((0.0, 1.0, 0.0), (0.86644, -0.23389, 0.17950)),
    ((0.0, 0.0, 1.0), (0.45201, -0.03246, -0.31153)),
]


def pixel(values: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


@pytest.mark.parametrize(("rgb", "lab"), REFERENCES)
def test_published_colors(rgb, lab):
    torch.testing.assert_close(to_oklab(pixel(rgb)), pixel(lab), rtol=0, atol=2e-5)
    torch.testing.assert_close(from_oklab(pixel(lab)), pixel(rgb), rtol=0, atol=2e-3)


def test_there_and_back_is_the_same_color():
    levels = torch.linspace(0, 1, 17)
    cube = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 17, 289)
    torch.testing.assert_close(from_oklab(to_oklab(cube)), cube, rtol=0, atol=1e-4)


def test_greys_have_no_chroma_and_lightness_that_is_the_cube_root_of_light():
    grey = torch.linspace(0, 1, 11)
    lab = to_oklab(grey.expand(1, 3, 1, 11))
    assert lab[:, 1:].abs().max() < 1e-4
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in grey.tolist()]
    expected = torch.tensor([value ** (1 / 3) for value in linear])
    torch.testing.assert_close(lab[0, 0, 0], expected, rtol=0, atol=1e-4)


def test_colors_outside_of_srgb_are_cut():
    for lab in ((1.2, 0.0, 0.0), (-0.2, 0.0, 0.0), (0.6, 0.4, 0.0), (0.6, -0.4, 0.3)):
        rgb = from_oklab(pixel(lab))
        assert rgb.min() >= 0
        assert rgb.max() <= 1 + 1e-6
    assert torch.equal(from_oklab(pixel((-0.2, 0.0, 0.0))), torch.zeros(1, 3, 1, 1))
