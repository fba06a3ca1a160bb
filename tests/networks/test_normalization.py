import pytest
import torch
from torch import nn

from lit_ghibli.networks.normalization import (
    InstanceNorm,
    frozen_statistics,
    normalization_layer,
    record_statistics,
)


def test_every_channel_of_every_image_is_normalised():
    x = torch.randn(2, 3, 8, 6) * 5 + 7
    y = InstanceNorm(3)(x)
    expected = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    assert not list(InstanceNorm(3).parameters())
    assert not InstanceNorm(3).state_dict()


def test_frozen_statistics_normalise_another_image_alike():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), InstanceNorm(4))
    photo = torch.randn(1, 3, 16, 16)
    with record_statistics(network) as statistics:
        whole = network(photo)
    with frozen_statistics(network, statistics):
        tile = network(photo[:, :, 4:9, 3:11])
    torch.testing.assert_close(tile, whole[:, :, 4:9, 3:11], atol=1e-5, rtol=1e-5)
    own = network(photo[:, :, 4:9, 3:11])
    assert (own - tile).abs().max() > 0.05


def test_recorded_statistics_are_float32_means_and_biased_variances():
    norm = nn.Sequential(InstanceNorm(2))
    x = (torch.randn(2, 2, 9, 9) + 100).bfloat16()
    with record_statistics(norm) as statistics:
        norm(x)
    mean, variance = statistics["0"]
    assert (mean.dtype, mean.shape) == (torch.float32, (2, 2, 1, 1))
    reference = x.double()
    torch.testing.assert_close(mean, reference.mean((2, 3), keepdim=True).float())
    torch.testing.assert_close(variance, reference.var((2, 3), correction=0, keepdim=True).float())


def test_statistics_of_bfloat16_inputs_are_accumulated_in_float32():
    torch.manual_seed(0)
    x = (torch.randn(1, 1, 64, 64) + 30).bfloat16()
    reference = x.double()
    expected = (reference - reference.mean()) / (reference.var(correction=0) + 1e-5).sqrt()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = InstanceNorm(1)(x)
    # Only the result is rounded to bfloat16: half a unit in the last of its 8 bits.
    assert ((y.double() - expected).abs() <= expected.abs() * 2**-8 + 1e-4).all()


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("inside")


def test_both_blocks_restore_the_network_after_an_error():
    norm = InstanceNorm(1)
    network = nn.Sequential(norm, Failing())
    x = torch.randn(1, 1, 5, 5)
    expected = norm(x)
    with record_statistics(norm) as statistics:
        norm(3 * x + 1)
    assert torch.equal(norm(x), expected)
    with pytest.raises(RuntimeError, match="inside"), record_statistics(network):
        network(2 * x)
    assert torch.equal(norm(x), expected)
    with pytest.raises(RuntimeError, match="inside"), frozen_statistics(network, {"0": statistics[""]}):
        network(x)
    assert torch.equal(norm(x), expected)


def test_statistics_of_another_network_are_refused():
    network = nn.Sequential(InstanceNorm(1), InstanceNorm(1))
    with record_statistics(network) as statistics:
        network[0](torch.randn(1, 1, 5, 5))
    assert statistics.keys() == {"0"}
    with pytest.raises(ValueError, match=r"\['1'\]"), frozen_statistics(network, statistics):
        pass


def test_layers_by_name():
    assert isinstance(normalization_layer("instance", 2), InstanceNorm)
    assert isinstance(normalization_layer("batch", 2), nn.BatchNorm2d)
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(normalization_layer("none", 2)(x), x)
    with pytest.raises(ValueError, match="'layer'"):
        normalization_layer("layer", 2)
