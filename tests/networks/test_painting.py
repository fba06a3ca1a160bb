import pytest
import torch
import torch.nn.functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.painting import PaintingNetwork


def photos(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def tiny(dilations=(1, 2), **options) -> PaintingNetwork:
    """A network that has learned something."""
    torch.manual_seed(0)
    network = PaintingNetwork(4, 6, dilations, **options)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    torch.nn.init.normal_(network.last.bias, std=0.1)
    return network


@pytest.mark.parametrize(
    ("channels", "deep", "dilations", "count"), [(20, 48, (1, 2, 1, 2), 192_912), (4, 6, (1,), 2_346)]
)
def test_parameter_count(channels, deep, dilations, count):
    kernels = [(12, channels, 3), *[(channels, channels, 3)] * 4, (channels, 12, 3)]
    kernels += [(4 * channels, deep, 1), (deep, 4 * channels, 1), *[(deep, deep, 3)] * (2 * len(dilations))]
    assert sum(inputs * outputs * size**2 + outputs for inputs, outputs, size in kernels) == count
    with torch.device("meta"):
        network = PaintingNetwork(channels, deep, dilations)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("size", [(4, 4), (16, 24)])
def test_it_begins_as_the_photograph_itself_and_learns(size):
    network = PaintingNetwork(4, 6, (1, 2))
    given = photos(2, 3, *size)
    assert torch.equal(network(given), given)
    network(given).square().sum().backward()
    assert network.last.weight.grad.abs().max() > 0


def folded(x: torch.Tensor) -> torch.Tensor:
    """Squares of 2x2 pixels as channels, written out."""
    parts = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.stack(parts, dim=2).flatten(1, 2)


def unfolded(x: torch.Tensor) -> torch.Tensor:
    count, channels, height, width = x.shape
    result = x.new_zeros(count, channels // 4, 2 * height, 2 * width)
    for part in range(4):
        result[:, :, part // 2 :: 2, part % 2 :: 2] = x[:, part::4]
    return result


def test_output_is_that_of_the_layers_one_by_one():
    network = tiny().double()
    weights = dict(network.named_parameters())

    def convolve(name, x, reach=1, dilation=1):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.conv2d(F.pad(x, [reach * dilation] * 4), weight, bias, dilation=dilation)

    def block(name, x, dilation=1):
        inner = convolve(f"{name}.first", x).clamp_min(0)
        return x + convolve(f"{name}.second", inner, dilation=dilation)

    given = photos(2, 3, 12, 20, dtype=torch.float64)
    half = block("before", convolve("first", folded(given)).clamp_min(0))
    quarter = convolve("down", folded(half), reach=0)
    for number, dilation in enumerate((1, 2)):
        quarter = block(f"deep.{number}", quarter, dilation)
    half = block("after", half + unfolded(convolve("up", quarter, reach=0)))
    expected = unfolded(folded(given) + convolve("last", half))
    torch.testing.assert_close(network(given), expected, rtol=0, atol=1e-12)
    assert (expected - given).abs().max() > 0.05


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (1, 2, 1, 2)])
def test_no_output_pixel_looks_further_than_the_context(dilations):
    network = tiny(dilations).double()
    for parameter in network.parameters():
        parameter.data.abs_()  # so that nothing cancels and no ReLU is shut
    size = 2 * network.context + 8
    photo = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    picture = network(photo)
    reaches = []
    for position in range(size // 2 // 4 * 4, size // 2 // 4 * 4 + 4):  # all places within a folded square
        gradient = torch.autograd.grad(picture[0, :, position, position].sum(), photo, retain_graph=True)[0]
        for axes in ((0, 1, 3), (0, 1, 2)):
            seen = gradient.abs().sum(axes).nonzero()
            reaches += [position - seen.min().item(), seen.max().item() - position]
    assert network.context - network.size_multiple < max(reaches) <= network.context


def test_a_part_is_painted_as_in_the_whole():
    network = tiny((1,))
    assert network.context == 24
    photo = photos(1, 3, 80, 80)
    part = network(photo[..., 8:72, 8:72])
    torch.testing.assert_close(part[..., 24:-24, 24:-24], network(photo)[..., 32:48, 32:48], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "crop"), [((30, 32), 28), ((32, 31), 28), ((2, 4), 4)])
def test_sizes_that_do_not_fit_are_refused(size, crop):
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}.*multiples of 4, at least 4: set data.crop_size={crop}"):
        tiny()(torch.zeros(1, 3, *size))
