import pytest
import torch

from lit_ghibli.networks.blur_pool import BlurPool

WEIGHTS = {-1: 0.25, 0: 0.5, 1: 0.25}


def looped(image):
    """A float64 image (H, W) blurred and halved, position by position."""
    height, width = image.shape

    def reflected(position, length):
        position = abs(position)
        return position if position < length else 2 * (length - 1) - position

    result = torch.zeros((height + 1) // 2, (width + 1) // 2, dtype=torch.float64)
    for y in range(result.shape[0]):
        for x in range(result.shape[1]):
            for down, row_weight in WEIGHTS.items():
                for across, weight in WEIGHTS.items():
                    place = reflected(2 * y + down, height), reflected(2 * x + across, width)
                    result[y, x] += row_weight * weight * image[place]
    return result


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 3)])
def test_every_channel_is_blurred_by_itself(size):
    torch.manual_seed(0)
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = torch.stack([torch.stack([looped(channel) for channel in image]) for image in features])
    torch.testing.assert_close(BlurPool()(features), expected)


def test_a_constant_stays_and_a_fine_checkerboard_vanishes():
    even = torch.arange(8).view(-1, 1) + torch.arange(8)
    assert torch.equal(BlurPool()(torch.full((1, 2, 8, 8), 0.75)), torch.full((1, 2, 4, 4), 0.75))
    assert BlurPool()((-1.0) ** even[None, None]).abs().max() == 0


def test_impulses_give_the_outer_product():
    """Impulses at the four parities of a place, put together, give the whole kernel."""
    kernel = torch.zeros(5, 5)
    for y in (4, 5):
        for x in (4, 5):
            impulse = torch.zeros(1, 1, 12, 12)
            impulse[0, 0, y, x] = 1
            response = BlurPool()(impulse)[0, 0]
            for row, column in response.nonzero().tolist():
                kernel[2 * row - y + 2, 2 * column - x + 2] = response[row, column]
    row = torch.tensor([0, 1, 2, 1, 0]) / 4
    assert torch.equal(kernel, row.outer(row))


def test_nothing_is_stored_and_the_precision_is_kept():
    assert not BlurPool().state_dict()
    assert not list(BlurPool().buffers())
    assert BlurPool()(torch.ones(1, 2, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
