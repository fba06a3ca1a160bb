import copy
from functools import partial

import pytest
import torch
from torch import nn

from lit_ghibli.networks import convolutions
from lit_ghibli.networks.convolutions import Conv2d, ConvTranspose2d
from lit_ghibli.networks.kernels import channels_last

WIDE = 128


def plain_double(layer):
    """The same layer as PyTorch's own class, in float64, which takes PyTorch's route."""
    return copy.deepcopy(layer).double()


def assert_agrees_with_float64(layer, x, tolerance=2e-5):
    x.requires_grad_()
    x64, layer64 = x.detach().double().requires_grad_(), plain_double(layer)
    y, expected = layer(x), layer64(x64)
    grad_y = torch.randn(y.shape)
    actual = torch.autograd.grad(y, (x, *layer.parameters()), grad_y)
    wanted = torch.autograd.grad(expected, (x64, *layer64.parameters()), grad_y.double())
    # The norms on both sides would copy other layouts, slowly.
    assert y.is_contiguous()
    assert actual[0].is_contiguous()
    for one, other in zip((y, *actual), (expected, *wanted), strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def taken(monkeypatch, name, module=convolutions):
    """Record whether a route of the module is taken."""
    calls = []
    original = getattr(module, name)

    def spy(*args):
        calls.append(name)
        return original(*args)

    monkeypatch.setattr(module, name, spy)
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate"])
@pytest.mark.parametrize(("kernel", "padding"), [(7, 3), (4, 0), ((3, 5), (1, 2)), (5, "same")])
def test_narrow(monkeypatch, bias, padding_mode, kernel, padding):
    torch.manual_seed(0)
    calls = taken(monkeypatch, "convolve_by_columns")
    layer = Conv2d(8, 3, kernel, padding=padding, padding_mode=padding_mode, bias=bias)
    assert_agrees_with_float64(layer, torch.randn(2, 8, 13, 9))
    assert calls


@pytest.mark.parametrize("layer", [(8, 5, 7), (3, 3, 7), (8, 3, 3), (8, 3, 7, 2)], ids=str)
def test_narrow_is_for_few_channels_from_more_and_wide_kernels_at_stride_1(monkeypatch, layer):
    calls = taken(monkeypatch, "convolve_by_columns")
    module, plain = Conv2d(*layer), nn.Conv2d(*layer)
    plain.load_state_dict(module.state_dict())
    x = torch.randn(1, layer[0], 16, 16)
    assert torch.equal(module(x), plain(x))
    assert not calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [dict(kernel_size=3, output_padding=1), dict(kernel_size=4)], ids=str)
@pytest.mark.parametrize(("size", "quick"), [((24, 23), True), ((8, 7), False)])
def test_transposed(monkeypatch, bias, options, size, quick):
    torch.manual_seed(0)
    monkeypatch.setattr(channels_last, "_PORTION", 2)
    calls = taken(monkeypatch, "_from_channels_last", channels_last)
    layer = ConvTranspose2d(6, 5, stride=2, padding=1, bias=bias, **options)
    assert_agrees_with_float64(layer, torch.randn(2, 6, *size))
    assert bool(calls) == quick


def test_transposed_to_a_given_size():
    layer = ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    assert layer(torch.randn(1, 2, 5, 5), output_size=[10, 10]).shape == (1, 3, 10, 10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "size", "quick"), [(3, (64, 48), True), (4, (45, 46), True), (3, (16, 12), False)], ids=str
)
def test_strided(monkeypatch, bias, kernel, size, quick):
    torch.manual_seed(0)
    calls = taken(monkeypatch, "_from_channels_last", channels_last)
    layer = Conv2d(4, 6, kernel, stride=2, padding=1, bias=bias)
    assert_agrees_with_float64(layer, torch.randn(2, 4, *size))
    assert bool(calls) == quick


def test_strided_without_a_gradient_to_the_input():
    layer = Conv2d(2, 3, 3, stride=2)
    layer(torch.randn(1, 2, 65, 65)).sum().backward()
    assert layer.bias.grad.tolist() == [1024.0, 1024.0, 1024.0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "route"),
    [
        (partial(Conv2d, 5, 6, 4, stride=2, padding=1), "convolve_as_product"),
        (partial(Conv2d, 5, 6, (3, 5), stride=(2, 3), padding=(0, 2)), "convolve_as_product"),
        (partial(ConvTranspose2d, 5, 6, 4, stride=2, padding=1), "convolve_transposed_as_product"),
        (partial(ConvTranspose2d, 5, 6, 3, stride=2, padding=1, output_padding=1), "convolve_transposed_as_product"),
        (partial(ConvTranspose2d, 5, 6, (3, 4), stride=(2, 3), padding=(0, 1)), "convolve_transposed_as_product"),
    ],
)
def test_products(monkeypatch, layer, route, bias):
    torch.manual_seed(0)
    monkeypatch.setattr(convolutions, "_MINIMUM_PRODUCT_WEIGHTS", 1)
    calls = taken(monkeypatch, route)
    layer = layer(bias=bias)
    assert_agrees_with_float64(layer, torch.randn(1, 5, 7, 9))
    assert calls
    batch = torch.randn(3, 5, 7, 9)
    together = layer(batch)
    assert together.is_contiguous()
    torch.testing.assert_close(together, torch.cat([layer(image) for image in batch.split(1)]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "size", "pays"),
    [
        (partial(Conv2d, 256, 256, 4, padding=1), (32, 32), True),
        (partial(Conv2d, 256, 256, 4, padding=1), (34, 32), False),
        (partial(Conv2d, 255, 256, 4, padding=1), (8, 8), False),
        (partial(ConvTranspose2d, 256, 256, 4), (16, 16), True),
        (partial(ConvTranspose2d, 256, 256, 4), (16, 17), False),
        (partial(ConvTranspose2d, 256, 255, 4), (4, 4), False),
        (partial(ConvTranspose2d, 2, 4, 4), (16, 17), True),
    ],
)
def test_products_are_for_few_positions_and_many_weights_or_few_channels(monkeypatch, layer, size, pays):
    routes = [taken(monkeypatch, f"convolve_{kind}as_product") for kind in ("", "transposed_")]
    with torch.no_grad():
        layer = layer(stride=2)
        layer(torch.randn(1, layer.in_channels, *size))
    assert any(routes) == pays


@pytest.mark.parametrize(
    ("channels", "size", "pays"),
    [
        ((128, 128), (32, 32), True),
        ((128, 128), (31, 33), False),
        ((64, 128), (128, 128), True),
        ((128, 64), (128, 128), True),
        ((127, 128), (127, 128), False),
        ((63, 128), (128, 128), False),
        ((64, 127), (128, 128), False),
    ],
)
def test_winograd_is_for_many_channels_or_half_as_many_on_one_side_in_large_pictures(monkeypatch, channels, size, pays):
    calls = taken(monkeypatch, "winograd_conv3x3")
    with torch.no_grad():
        Conv2d(*channels, 3, padding=1)(torch.randn(1, channels[0], *size))
    assert bool(calls) == pays


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_winograd_layer(monkeypatch, padding_mode):
    torch.manual_seed(0)
    calls = taken(monkeypatch, "winograd_conv3x3")
    layer = Conv2d(WIDE, WIDE, 3, padding=1, padding_mode=padding_mode)
    assert_agrees_with_float64(layer, torch.randn(1, WIDE, 33, 34))
    assert calls


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=3), 16),
        (dict(in_channels=WIDE - 1, out_channels=WIDE, kernel_size=3), 32),
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=3, stride=2), 32),
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=3, dilation=2), 32),
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=3, groups=2), 32),
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=3, padding=2), 32),
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=3, padding="same"), 32),
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=3, padding=1, padding_mode="circular"), 32),
        (dict(in_channels=WIDE, out_channels=WIDE, kernel_size=1), 32),
    ],
    ids=str,
)
def test_winograd_layer_leaves_other_geometries_to_pytorch(monkeypatch, layer, size):
    calls = taken(monkeypatch, "winograd_conv3x3")
    x = torch.randn(1, layer["in_channels"], size, size)
    module = Conv2d(**layer)
    plain = nn.Conv2d(**layer)
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(x), plain(x))
    assert not calls


def test_no_route_is_taken_in_other_precisions_or_while_tracing(monkeypatch):
    calls = taken(monkeypatch, "winograd_conv3x3")
    layer = Conv2d(WIDE, WIDE, 3)
    x = torch.randn(1, WIDE, 34, 34)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    exported = torch.export.export(layer.float(), (x,))
    assert any("conv2d" in str(node.target) for node in exported.graph.nodes)
    assert not calls


@pytest.mark.parametrize(
    ("fast", "plain"),
    [
        (Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)),
        (Conv2d(3, 2, 5), nn.Conv2d(3, 2, 5)),
        (Conv2d(3, 4, 3, stride=2), nn.Conv2d(3, 4, 3, stride=2)),
        (ConvTranspose2d(3, 4, 3, stride=2), nn.ConvTranspose2d(3, 4, 3, stride=2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_parameters_and_state_are_those_of_pytorch(fast, plain):
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(fast(x), plain(x), atol=1e-5, rtol=1e-5)
