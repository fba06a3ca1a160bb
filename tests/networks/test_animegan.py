from functools import partial

import pytest
import torch
import torch.nn.functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.inference.tiling import mosaic, translate_tiled
from lit_ghibli.networks.animegan import AnimeGenerator, LightAnimeGenerator
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.upsampling import bilinear_upsample

GENERATORS = [AnimeGenerator, LightAnimeGenerator]
SIDES = {AnimeGenerator: 4, LightAnimeGenerator: 8}


@pytest.mark.parametrize(("generator", "count"), [(AnimeGenerator, 2_143_552), (LightAnimeGenerator, 698_240)])
def test_parameter_count_is_the_published_one(generator, count):
    with torch.device("meta"):
        network = generator()
    assert sum(parameter.numel() for parameter in network.parameters()) == count


class Functional:
    """The layers of the authors' code as functions of a network's parameters, which they take in order."""

    def __init__(self, network, sampling):
        self.parameters, self.sampling = iter(network.double().parameters()), sampling

    def normalize(self, x):
        x = (x - x.mean((1, 2, 3), keepdim=True)) / x.var((1, 2, 3), correction=0, keepdim=True).sqrt()
        return x * next(self.parameters).view(-1, 1, 1) + next(self.parameters).view(-1, 1, 1)

    def convolve(self, x, kernel=3, stride=1, groups=1, bias=False):
        before, after = (0, 1) if stride == 2 else (kernel // 2, kernel // 2)
        x = F.pad(x, (before, after, before, after), mode="reflect")
        weight = next(self.parameters)
        return F.conv2d(x, weight, next(self.parameters) if bias else None, stride, groups=groups)

    def block(self, x, *geometry, **options):
        return F.leaky_relu(self.normalize(self.convolve(x, *geometry, **options)), 0.2)

    def enlarge(self, x):
        return bilinear_upsample(x, self.sampling)

    def inverted_residual(self, x, added):
        h = self.block(x, 1)
        h = self.block(h, 3, groups=h.shape[1], bias=True)
        h = self.normalize(self.convolve(h, 1))
        return x + h if added else h

    def published(self, x):
        x = self.block(x, 7)
        for stride in (2, 1, 2, 1, 1):
            x = self.block(x, 3, stride)
        for added in (False, True, True, True):
            x = self.inverted_residual(x, added)
        x = self.block(x)
        x = self.block(self.block(self.enlarge(x)))
        x = self.block(self.block(self.enlarge(x)))
        return self.convolve(self.block(x, 7), 1).tanh()

    def light(self, x):
        full = self.block(x, 7)
        half = self.block(self.block(full, 3, 2))
        quarter = self.block(self.block(half, 3, 2))
        x = self.block(self.block(quarter, 3, 2))
        for _ in range(4):
            x = x + self.convolve(self.block(self.block(x, 1)), 1)
        x = self.block(self.block(self.enlarge(x)) + quarter)
        x = self.block(self.block(self.enlarge(x)) + half)
        x = self.block(self.block(self.enlarge(x)) + full, 7)
        return self.convolve(x, 1).tanh()


def with_trained_norms(network):
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.3)
    return network


@pytest.mark.parametrize("sampling", ["legacy", "half_pixel", "align_corners"])
@pytest.mark.parametrize("generator", GENERATORS)
def test_output_is_that_of_the_layers_one_by_one(generator, sampling):
    torch.manual_seed(0)
    network = with_trained_norms(generator(base_channels=4, upsample=sampling)).double()
    photos = torch.rand(2, 3, 24, 32, dtype=torch.float64) * 2 - 1
    functional = Functional(network, sampling)
    expected = functional.published(photos) if generator is AnimeGenerator else functional.light(photos)
    before, picture = photos.clone(), network(photos)
    assert torch.equal(photos, before)
    torch.testing.assert_close(picture, expected, rtol=0, atol=1e-9)
    assert next(functional.parameters, None) is None
    weight = torch.randn_like(picture)
    wanted = torch.autograd.grad((expected * weight).sum(), tuple(network.parameters()))
    found = torch.autograd.grad((picture * weight).sum(), tuple(network.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_strided_windows_begin_at_the_first_pixel():
    block = AnimeGenerator(base_channels=2).encoder[1]
    block.norm = torch.nn.Identity()
    torch.nn.init.zeros_(block.convolution.weight)
    block.convolution.weight.data[:, :, 0, 0] = 1.0
    hidden = torch.rand(1, 2, 8, 8)
    torch.testing.assert_close(block(hidden)[0, 0], hidden[0, :, ::2, ::2].sum(0))


@pytest.mark.parametrize("output", ["residual", "luminance"])
@pytest.mark.parametrize("generator", GENERATORS)
def test_what_paints_over_the_photograph_starts_from_it(generator, output):
    network = generator(base_channels=4, output=output)
    photos = torch.rand(1, 3, 16, 24) * 2 - 1
    assert torch.equal(network(photos), photos)
    network(photos).square().sum().backward()
    gradients = [parameter.grad.abs().max() for parameter in network.parameters()]
    assert [bool(gradient) for gradient in gradients] == [False] * (len(gradients) - 1) + [True]  # the head's


@pytest.mark.parametrize("generator", GENERATORS)
def test_sizes(generator):
    network, side = generator(base_channels=4), SIDES[generator]
    assert network(torch.rand(1, 3, 2 * side, 3 * side)).shape == (1, 3, 2 * side, 3 * side)
    for size in ((side, 2 * side), (2 * side, 2 * side + 2)):
        with pytest.raises(UserError, match=f"multiples of {side}, at least {2 * side}: set data.crop_size="):
            network(torch.rand(1, 3, *size))


def test_weights_start_as_he_et_al_have_them():
    torch.manual_seed(0)
    network = AnimeGenerator()
    weight = network.decoder[1].convolution.weight
    assert weight.var().item() == pytest.approx(2 / (128 * 9), rel=0.02)
    assert weight.abs().max().item() <= 2 * (2.6 / (128 * 9)) ** 0.5
    depthwise = network.bottleneck[2].depthwise.convolution
    assert depthwise.weight.var().item() == pytest.approx(2 / (512 * 9), rel=0.06)
    assert depthwise.bias.abs().max() == 0


@pytest.mark.parametrize("sampling", ["legacy", "half_pixel"])
@pytest.mark.parametrize("generator", GENERATORS)
def test_context_bounds_what_an_output_pixel_depends_on(generator, sampling):
    torch.manual_seed(0)
    network = generator(base_channels=4, upsample=sampling).double()
    side = 256 if generator is LightAnimeGenerator else 160
    photo = torch.randn(1, 3, side, 16, dtype=torch.float64, requires_grad=True)
    with record_statistics(network) as statistics:
        network(photo)
    seen = []
    for position in range(side // 2, side // 2 + network.size_multiple):  # all phases of the strides
        with frozen_statistics(network, statistics):
            gradient = torch.autograd.grad(network(photo)[0, :, position].sum(), photo)[0]
        rows = gradient.abs().sum((0, 1, 3)).nonzero()
        seen += [position - rows.min().item(), rows.max().item() - position]
    assert network.context - 1 <= max(seen) <= network.context


@pytest.mark.parametrize("generator", [*GENERATORS, partial(AnimeGenerator, upsample="half_pixel")])
def test_tiles_show_no_seams(generator):
    torch.manual_seed(0)
    network = generator(base_channels=4).double()
    photo = torch.rand(1, 3, 32, 288, dtype=torch.float64) * 2 - 1
    with record_statistics(network) as statistics:
        network(mosaic(photo, 96))
    with frozen_statistics(network, statistics):
        whole = network(photo)
    torch.testing.assert_close(translate_tiled(network, photo, tile=96).double(), whole, rtol=0, atol=1e-6)
