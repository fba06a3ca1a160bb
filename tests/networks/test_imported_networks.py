"""Generators that exist for published weights: how far they look, which sizes they take, that tiles have no seams.

What they compute is tested where published weights become theirs, in tests/published.
"""

import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.inference.tiling import mosaic, translate_tiled
from lit_ghibli.networks.fast_style import FastStyleGenerator
from lit_ghibli.networks.normalization import InstanceNorm, frozen_statistics, record_statistics
from lit_ghibli.networks.sizes import translate
from lit_ghibli.networks.whitebox import WhiteBoxGenerator, guided_filter


def made(kind: type, blocks: int = 1) -> torch.nn.Module:
    """A network whose every part matters to the picture."""
    torch.manual_seed(0)
    network = kind(base_channels=3, num_blocks=blocks).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 4:
                parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return network


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("kind", [WhiteBoxGenerator, FastStyleGenerator])
def test_no_output_pixel_looks_further_than_the_context(kind, blocks):
    network = made(kind, blocks).double()
    for parameter in network.parameters():
        parameter.data.abs_()
    side = (2 * network.context + 12) // 4 * 4
    photo = torch.rand(1, 3, side, side, dtype=torch.float64) + 1
    with record_statistics(network) as statistics:
        network(photo)
    # With means of 0 nothing is negative, and no ReLU shut.
    zero = {name: [(mean * 0, variance) for mean, variance in each] for name, each in statistics.items()}
    photo.requires_grad_()
    reaches = []
    with frozen_statistics(network, zero):
        picture = network(photo)
        for position in range(side // 2 // 4 * 4, side // 2 // 4 * 4 + 4):  # all places within a position at a quarter
            gradient = torch.autograd.grad(picture[0, :, position, position].sum(), photo, retain_graph=True)[0]
            for axes in ((0, 1, 3), (0, 1, 2)):
                seen = gradient.abs().sum(axes).nonzero()
                reaches += [position - seen.min().item(), seen.max().item() - position]
    assert network.context - 4 < max(reaches) <= network.context


@pytest.mark.parametrize("size", [(150, 141), (128, 260)])
@pytest.mark.parametrize("kind", [WhiteBoxGenerator, FastStyleGenerator])
def test_tiles_equal_the_whole_with_the_same_statistics(kind, size):
    network = made(kind)
    photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    padded = torch.nn.functional.pad(photo, (0, -size[1] % 4, 0, -size[0] % 4), mode="reflect")
    with record_statistics(network) as statistics:
        translate(network, mosaic(padded, 128))
    with frozen_statistics(network, statistics):
        whole = translate(network, photo)
    assert whole.std() > 0.1, "a flat picture would show no seams either"
    torch.testing.assert_close(translate_tiled(network, photo, 128), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "size", "minimum"),
    [(WhiteBoxGenerator, (6, 8), 4), (FastStyleGenerator, (30, 32), 8), (FastStyleGenerator, (4, 8), 8)],
)
def test_sizes_that_do_not_fit_are_refused(kind, size, minimum):
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}.*multiples of 4, at least {minimum}"):
        made(kind)(torch.zeros(1, 3, *size))
    smallest = torch.zeros(1, 3, minimum, minimum)
    assert made(kind)(smallest).shape == smallest.shape


def test_norms_of_fast_style_are_affine_and_white_box_has_none():
    assert all(norm.affine for norm in made(FastStyleGenerator).modules() if isinstance(norm, InstanceNorm))
    assert not any(isinstance(module, InstanceNorm) for module in made(WhiteBoxGenerator).modules())


def test_a_guided_filter_keeps_what_follows_the_guide_and_smooths_the_rest():
    guide = torch.zeros(1, 1, 8, 8)
    guide[..., 4:] = 1  # an edge
    line = 0.5 * guide - 0.25
    torch.testing.assert_close(guided_filter(guide, line, 1, 1e-8), line, rtol=0, atol=1e-5)
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    box = torch.nn.functional.avg_pool2d(noise, 3, 1, 1, count_include_pad=False)
    twice = torch.nn.functional.avg_pool2d(box, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(guided_filter(torch.zeros_like(noise), noise, 1, 1e-2), twice)
