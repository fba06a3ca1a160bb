import torch
from torch.nn import functional as F

from lit_ghibli.networks.adain import AdaIN, AdaINResidualBlock
from lit_ghibli.networks.normalization import shared_statistics


def test_each_channel_gets_the_mean_and_the_deviation_that_the_style_asks_for():
    torch.manual_seed(0)
    layer = AdaIN(4, style_dim=3)
    features, style = torch.randn(2, 4, 7, 5) * 6 + 9, torch.randn(2, 3)
    result = layer(features, style)
    shift, scale = (style @ layer.affine.weight.T + layer.affine.bias).split(4, dim=1)
    torch.testing.assert_close(result.mean((2, 3)), shift, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(result.std((2, 3), correction=0), scale.abs(), atol=1e-5, rtol=1e-4)


def test_a_block_adds_two_normalised_convolutions_to_its_input():
    torch.manual_seed(0)
    block = AdaINResidualBlock(3, style_dim=2).double()
    x, style = torch.randn(2, 3, 6, 4, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    hidden = x
    for convolution, norm in ((block.first, block.first_norm), (block.second, block.second_norm)):
        if norm is block.second_norm:
            hidden = hidden.clamp(min=0)
        hidden = F.conv2d(F.pad(hidden, (1, 1, 1, 1), mode="reflect"), convolution.weight, convolution.bias)
        values = norm.affine(style).view(2, 2, 3, 1, 1)  # shift, then scale
        hidden = (hidden - hidden.mean((2, 3), True)) / (hidden.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        hidden = values[:, 1] * hidden + values[:, 0]
    torch.testing.assert_close(block(x, style), x + hidden)


def test_frames_share_what_is_measured_of_them():
    torch.manual_seed(0)
    layer, style = AdaIN(4, style_dim=3), torch.randn(1, 3)
    first, second = torch.randn(1, 4, 7, 5) * 6 + 9, torch.randn(1, 4, 7, 5)
    with torch.no_grad(), shared_statistics(layer, 1.0):
        layer(first, style)
        result = layer(second, style)
    shift, scale = (style @ layer.affine.weight.T + layer.affine.bias).view(2, 1, 4, 1, 1)
    deviation = (first.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(result, shift + scale * (second - first.mean((2, 3), keepdim=True)) / deviation)
