import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.cartoon_discriminator import CartoonDiscriminator

ANIMEGAN = {"norm": "layer", "bias": False, "spectral_norm": True}
LAYOUTS = pytest.mark.parametrize("options", [{}, ANIMEGAN], ids=["cartoongan", "animegan"])


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts():
    assert count(CartoonDiscriminator(**ANIMEGAN)) == 1_128_800
    assert count(CartoonDiscriminator()) == 1_128_800 + 32 + 64 + 128 + 128 + 256 + 256 + 1


@LAYOUTS
def test_it_is_the_published_network(options):
    network = CartoonDiscriminator(base_channels=2, **options).eval()
    for layer in network.layers:  # as after some training
        if isinstance(layer, nn.InstanceNorm2d | nn.GroupNorm):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    images = torch.rand(2, 3, 20, 14) * 2 - 1
    convolutions = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    norms = iter([layer for layer in network.layers if isinstance(layer, nn.InstanceNorm2d | nn.GroupNorm)])
    x = images
    for number, convolution in enumerate(convolutions):
        x = F.conv2d(x, convolution.weight, convolution.bias, stride=2 if number in (1, 3) else 1, padding=1)
        if number in (2, 4, 5):
            dims, norm = (1, 2, 3) if options else (2, 3), next(norms)
            variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
            x = (x - mean) / (variance + 1e-5).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        if number < 6:
            x = torch.where(x > 0, x, 0.2 * x)
    torch.testing.assert_close(network(images), x, rtol=1e-4, atol=1e-6)
    assert x.shape == (2, 1, 5, 4)


def test_receptive_field_by_gradient():
    network = CartoonDiscriminator(base_channels=1)
    network.layers = nn.Sequential(*(layer for layer in network.layers if not isinstance(layer, nn.InstanceNorm2d)))
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    images = torch.ones(1, 3, 96, 96, requires_grad=True)
    network(images)[0, 0, 12, 12].backward()
    rows, columns = images.grad[0, 0].nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (37, 37)


def test_how_weights_start():
    torch.manual_seed(0)
    network = CartoonDiscriminator(norm="layer", spectral_norm=True)
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            weight = layer.parametrizations.weight.original
            assert abs(weight.std().item() - 0.02) < 0.002
            assert not layer.bias.any()
            largest = torch.linalg.svdvals(weight.flatten(1)).max()
            torch.testing.assert_close(layer.weight, weight / largest, rtol=0.1, atol=1e-3)
        elif isinstance(layer, nn.GroupNorm):
            assert layer.weight.eq(1).all()


def test_spectral_norm_makes_one_power_iteration_a_pass_and_goes_on_where_it_stopped():
    torch.manual_seed(0)
    network = CartoonDiscriminator(base_channels=2, **ANIMEGAN)
    images = torch.rand(1, 3, 12, 12)
    spectral = network.layers[2].parametrizations.weight[0]
    matrix = network.layers[2].parametrizations.weight.original.detach().flatten(1)
    v = F.normalize(matrix.T @ F.normalize(matrix @ spectral._v, dim=0), dim=0)
    network(images)
    torch.testing.assert_close(spectral._v, v)

    resumed = CartoonDiscriminator(base_channels=2, **ANIMEGAN)
    resumed.load_state_dict(copy.deepcopy(network.state_dict()))
    assert torch.equal(resumed(images), network(images))
    before = spectral._u.clone()
    network.eval()(images)
    assert torch.equal(spectral._u, before)


def test_minimum_size_is_the_smallest_that_works():
    network = CartoonDiscriminator(base_channels=2)
    assert network(torch.randn(1, 3, 8, 8)).shape == (1, 1, 2, 2)
    with pytest.raises(UserError, match=r"8x7.*at least 8x8"):
        network(torch.randn(1, 3, 8, 7))


def test_unknown_norm():
    with pytest.raises(ValueError, match="'batch'"):
        CartoonDiscriminator(norm="batch")
