import numpy as np
import pytest
import torch
from torch import nn

from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.sizes import pad_to_multiple, translate

SIZES = [(1, 1), (1, 50), (50, 1), (2, 3), (4, 4), (7, 8), (8, 8), (9, 8), (13, 31), (37, 20)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_padding_to_multiples_keeps_the_image_in_its_corner(height, width):
    images = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(images, 4, 8)
    expected = [max(8, 4 * ((side + 3) // 4)) for side in (height, width)]
    assert list(padded.shape) == [2, 3, *expected]
    assert torch.equal(padded[..., :height, :width], images)
    assert set(padded.unique().tolist()) == set(images.unique().tolist()), "only the image's own values are added"


@pytest.mark.parametrize(("height", "width"), [(9, 6), (10, 5), (8, 8), (30, 31)])
def test_padding_mirrors(height, width):
    images = torch.rand(1, 2, height, width)
    bottom, right = -height % 4, -width % 4
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    assert np.array_equal(pad_to_multiple(images, 4).numpy(), expected)


def test_images_smaller_than_their_padding_are_mirrored_back_and_forth():
    images = torch.tensor([[1.0, 2.0, 3.0]]).view(1, 1, 1, 3)
    expected = torch.tensor([1.0, 2, 3, 2, 1, 2, 3, 2, 1, 2]).expand(5, 10)
    assert torch.equal(pad_to_multiple(images, 5, 10)[0, 0, :5], expected)
    assert pad_to_multiple(images, 5, 10).shape == (1, 1, 10, 10)


def test_nothing_is_copied_where_nothing_is_missing():
    images = torch.rand(1, 3, 16, 8)
    assert pad_to_multiple(images, 4, 8) is images


@pytest.mark.parametrize("size", SIZES)
def test_translation_keeps_every_size(size):
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=2, num_blocks=1)
    photo = torch.rand(2, 3, *size) * 2 - 1
    picture = translate(network, photo)
    assert picture.shape == photo.shape
    assert not picture.requires_grad
    assert picture.isfinite().all()


class Brighter(nn.Module):
    size_multiple, minimum_size = 4, 8

    def forward(self, photos):
        return (photos + 0.75).double()


def test_translation_clamps_and_keeps_the_type_and_place():
    photo = torch.linspace(-1, 1, 3 * 5 * 7).view(1, 3, 5, 7)
    picture = translate(Brighter(), photo)
    assert picture.dtype == torch.float32
    assert torch.equal(picture, (photo + 0.75).clamp(max=1))
