import pytest
import torch
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.inference.tiling import mosaic, translate_tiled
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.sizes import translate
from lit_ghibli.networks.vqi2i import VqGenerator


def small(multipliers=(1, 2), **options) -> VqGenerator:
    torch.manual_seed(0)
    sizes = {"base_channels": 4, "num_blocks": 1, "attention_strides": [2], "z_channels": 4, "code_dim": 4}
    sizes |= {"num_codes": 16, "num_adain_blocks": 1, "style_dim": 3, "style_channels": 2, "style_downs": 2}
    network = VqGenerator(multipliers=multipliers, **sizes | options).eval()
    nn.init.normal_(network.quantizer.codebook)
    network.style_std.fill_(1.0)
    return network


@pytest.mark.parametrize("attention", ["linear", "full"])
def test_a_picture_of_any_multiple_of_the_stride_keeps_its_size(attention):
    network = small((1, 2, 2), attention=attention, style_hidden=5)
    assert (network.size_multiple, network.minimum_size) == (4, 8)
    for size in ((8, 8), (12, 20)):
        photos = torch.rand(2, 3, *size) * 2 - 1
        assert network.encode_content(photos).codes.shape == (2, size[0] // 4, size[1] // 4)
        assert network(photos).shape == network.reconstruct(photos).shape == photos.shape
    with pytest.raises(UserError, match=r"multiples of 4, at least 8: set data\.crop_size=12"):
        network(torch.zeros(1, 3, 12, 14))


def test_a_translation_has_the_photographs_content_and_the_given_style():
    network, photos = small(), torch.rand(2, 3, 12, 12) * 2 - 1
    content = network.encode_content(photos).nearest
    style = torch.randn(1, 3)
    torch.testing.assert_close(network(photos, style), network.decode(content, style.expand(2, 3), "b"))
    torch.testing.assert_close(network(photos), network(photos, network.style_mean[None]))
    assert (network(photos, style) - network(photos)).abs().max() > 1e-3
    own = network.decode(content, network.encode_style(photos, "a"), "a")
    torch.testing.assert_close(network.reconstruct(photos), own)


def test_a_run_paints_in_the_style_of_a_picture_in_a_drawn_one_and_in_tiles():
    translator, photo = Translator(small(), tile=128), torch.rand(1, 3, 130, 140) * 2 - 1
    painting = torch.rand(1, 3, 600, 300) * 2 - 1
    network = translator.network
    smaller = nn.functional.interpolate(painting, (512, 256), mode="bilinear", antialias=True)
    torch.testing.assert_close(network.embed(painting), network.encode_style(smaller, "b"))
    part = photo[..., :120, :120]
    with torch.no_grad():
        expected = network(part, network.encode_style(smaller, "b")).clamp(-1, 1)
        drawn = network(part, network.sample_style(torch.Generator().manual_seed(7))).clamp(-1, 1)
    styled = translator.with_style(painting)
    torch.testing.assert_close(styled(part), expected)
    torch.testing.assert_close(translator.with_style("sample:7")(part), drawn)
    assert (drawn - expected).abs().max() > 1e-3
    tiled = styled(photo)
    assert tiled.shape == photo.shape
    torch.testing.assert_close(tiled, translate_tiled(Fixed(network, network.embed(painting)), photo, 128))


class Fixed(nn.Module):
    """A network with a style, written down once more."""

    size_multiple, minimum_size = 2, 8

    def __init__(self, network: VqGenerator, style: torch.Tensor) -> None:
        super().__init__()
        self.network, self.style, self.context, self.patch = network, style, network.context, network.patch

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.network(photos, self.style)


def test_mean_and_deviation_of_styles_follow_those_seen():
    network, seen = small(), torch.randn(3, 4, 3) * 5 + 2
    network.style_std.zero_()
    for styles in seen:
        network.observe_styles(styles)
    torch.testing.assert_close(network.style_mean, seen.flatten(0, 1).mean(0))
    torch.testing.assert_close(network.style_std, seen.flatten(0, 1).std(0, correction=0))
    draws = torch.Generator().manual_seed(0)
    sampled = torch.cat([network.sample_style(draws) for _ in range(4000)])
    torch.testing.assert_close(sampled.mean(0), network.style_mean, atol=0.3, rtol=0)
    torch.testing.assert_close(sampled.std(0), network.style_std, atol=0.3, rtol=0)
    network._styles_seen.fill_(1000)
    before = network.style_mean.clone()
    network.observe_styles(torch.full((1, 3), 100.0))
    torch.testing.assert_close(network.style_mean, 0.99 * before + 1)


@pytest.mark.parametrize("multipliers", [(1, 2), (1, 1, 2)])
def test_an_output_pixel_looks_no_further_than_the_context(multipliers):
    network = small(multipliers).double()
    for module in list(network.modules()):  # what spreads over the whole picture
        for name, child in list(module.named_children()):
            if type(child).__name__ in ("GroupNorm", "InstanceNorm", "SelfAttention"):
                setattr(module, name, nn.Identity())
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.01, 0.1)  # all positive: nothing cancels
    side = 2 * network.context + 32
    photos = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    encoded = network.before_quantizer(network.content_encoder(photos))
    picture = network.decode(encoded, torch.ones(1, 3, dtype=torch.float64), "b")
    reach = []
    for position in (side // 2, side // 2 + network.size_multiple - 1):
        (gradient,) = torch.autograd.grad(picture[0, :, position, position].sum(), photos, retain_graph=True)
        seen = gradient[0].abs().sum(0).sum(0).nonzero().flatten()
        reach += [position - seen.min().item(), seen.max().item() - position]
    assert network.context - 2 * network.size_multiple <= max(reach) <= network.context


@pytest.mark.parametrize("attention", ["linear", "full"])
def test_tiles_equal_the_whole_with_the_same_statistics(attention):
    network = small((1, 1, 2), attention=attention, attention_strides=[], num_codes=2)
    photo = torch.nn.functional.interpolate(torch.rand(1, 3, 20, 30) * 2 - 1, (132, 250), mode="bicubic").clamp(-1, 1)
    with record_statistics(network) as statistics:
        translate(network, mosaic(photo, 128, network.patch))
    with frozen_statistics(network, statistics):
        whole = translate(network, photo)
    tiled = translate_tiled(network, photo, 128)
    assert whole.std() > 0.05
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)
