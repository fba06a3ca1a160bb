import weakref

import pytest
import torch
import torch.nn.functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.unet import UnetGenerator


def tiny(depth=3, **options):
    return UnetGenerator(base_channels=2, depth=depth, **options)


@pytest.mark.parametrize(("depth", "inner", "count"), [(8, 4, 54_413_955), (7, 3, 41_828_995)])
def test_parameter_count(depth, inner, count):
    down = [(3, 64), (64, 128), (128, 256), (256, 512), *[(512, 512)] * inner]
    up = [(512, 512), *[(1024, 512)] * (inner - 1), (1024, 256), (512, 128), (256, 64)]
    normalized = [outputs for _, outputs in (*down[1:-1], *up)]  # scale and shift
    head = 128 * 3 * 16 + 3
    assert sum(inputs * outputs * 16 for inputs, outputs in down + up) + 2 * sum(normalized) + head == count
    with torch.device("meta"):
        network = UnetGenerator(depth=depth)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def nested(x, weights, level, depth):
    """The block of the authors' code from its leaky ReLU on, whose in-place result is what the skip carries."""
    x = F.leaky_relu(x, 0.2)
    inner = F.conv2d(x, next(weights), stride=2, padding=1)
    if level < depth:
        inner = normalize(inner, next(weights), next(weights))
        inner = nested(inner, weights, level + 1, depth)
    inner = F.conv_transpose2d(inner.relu(), next(weights), stride=2, padding=1)
    return torch.cat([x, normalize(inner, next(weights), next(weights))], dim=1)


def normalize(x, scale, shift):
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


def authors(network, photos):
    """The authors' function, with the parameters of ``network``, which lie in the order of their use."""
    weights = iter(network.parameters())
    outermost = F.conv2d(photos, next(weights), stride=2, padding=1)
    features = nested(outermost, weights, 2, network.depth).relu()
    return F.conv_transpose2d(features, next(weights), next(weights), stride=2, padding=1).tanh()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (dict(depth=4, base_channels=64), (1, 3, 64, 32)),  # wide and small: the convolutions as products
        (dict(depth=7, base_channels=4), (2, 3, 128, 128)),
        (dict(depth=2, base_channels=4), (2, 3, 8, 12)),
    ],
    ids=str,
)
def test_output_and_gradients_are_those_of_the_authors_code(options, shape):
    torch.manual_seed(0)
    network = UnetGenerator(**options).eval()  # without dropout
    photos = torch.rand(shape) * 2 - 1
    output = network(photos)
    reference = UnetGenerator(**options).double()
    reference.load_state_dict(network.state_dict())
    expected = authors(reference, photos.double())
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=0)
    grad = torch.randn_like(output)
    output.backward(grad)
    expected.backward(grad.double())
    for actual, wanted in zip(network.parameters(), reference.parameters(), strict=True):
        scale = wanted.grad.abs().max()
        torch.testing.assert_close(actual.grad.double() / scale, wanted.grad / scale, atol=1e-3, rtol=0)


def dropped(network, size):
    """Fraction of exact zeros that each stage of the decoder but the last gives; a norm gives none."""
    fractions = []
    for stage in network.decoder[:-1]:
        stage.register_forward_hook(lambda module, inputs, output: fractions.append((output == 0).float().mean()))
    with torch.no_grad():
        network(torch.randn(1, 3, size, size))
    return torch.stack(fractions)


@pytest.mark.parametrize(("depth", "noisy"), [(8, 3), (7, 2), (6, 1), (5, 0)])
def test_noise_is_in_the_stages_of_full_width(depth, noisy):
    torch.manual_seed(0)
    fractions = dropped(tiny(depth, dropout=0.25), 2**depth)
    assert len(fractions) == depth - 2
    expected = torch.tensor([0.25] * noisy + [0.0] * (depth - 2 - noisy))
    torch.testing.assert_close(fractions, expected, atol=0.15, rtol=0)
    assert not fractions[noisy:].any()


def test_noise_in_eval_mode_is_an_option():
    photos = torch.randn(1, 3, 64, 64)
    network = tiny(6)
    assert not torch.equal(network(photos), network(photos))
    network.eval()
    assert torch.equal(network(photos), network(photos))
    noisy = tiny(6, test_dropout=True).eval()
    assert not torch.equal(noisy(photos), noisy(photos))


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize(("depth", "size"), [(2, (4, 12)), (3, (16, 8)), (6, (64, 128))])
def test_size_is_kept_and_values_are_in_range(norm, depth, size):
    network = tiny(depth, norm=norm, in_channels=1)
    photos = torch.randn(2, 1, *size)
    before = photos.clone()
    pictures = network(photos)
    assert pictures.shape == (2, 3, *size)
    assert pictures.abs().max() <= 1
    assert torch.equal(photos, before)


@pytest.mark.parametrize(("depth", "size", "fitting"), [(8, 128, 7), (8, 96, 5), (3, 4, 2)])
def test_a_size_that_is_too_small_names_the_depth_that_fits(depth, size, fitting):
    with pytest.raises(
        UserError,
        match=rf"{size}x{2 * size} .*multiples of {2**depth},.* or method\.generator\.depth={fitting}, or pad",
    ):
        tiny(depth)(torch.randn(1, 3, size, 2 * size))
    assert tiny(fitting)(torch.randn(1, 3, size, 2 * size)).shape == (1, 3, size, 2 * size)


@pytest.mark.parametrize(("size", "crop"), [((33, 32), 32), ((47, 50), 32), ((16, 2), 16)])
def test_other_sizes_are_to_be_cropped_or_padded(size, crop):
    with pytest.raises(
        UserError, match=rf"depth 4 .*{size[0]}x{size[1]} .*multiples of 16,.*set data\.crop_size={crop}, or pad"
    ):
        tiny(4)(torch.randn(1, 3, *size))


def test_options_that_cannot_be():
    with pytest.raises(UserError, match="depth is 1; it must be at least 2"):
        tiny(1)
    with pytest.raises(UserError, match="'sigmoid'"):
        tiny(output="sigmoid")
    with pytest.raises(UserError, match=r"in_channels \(1\) and out_channels \(3\)"):
        tiny(in_channels=1, output="residual")
    with pytest.raises(ValueError, match="'layer'"):
        tiny(norm="layer")


def test_residual_output_starts_from_the_photograph_and_learns_beyond_its_range():
    network = tiny(output="residual")
    head = network.decoder[-1][-1]
    photos = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(network(photos), photos)
    torch.nn.init.constant_(head.bias, 5.0)
    pictures = network(photos)
    assert pictures.min() > 1
    pictures.sum().backward()
    assert head.bias.grad.tolist() == [256.0] * 3
    assert head.weight.grad.abs().max() > 0


def test_luminance_output_adds_one_channel_to_all():
    network = tiny(output="luminance")
    photos = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(network(photos), photos)
    torch.nn.init.constant_(network.decoder[-1][-1].bias, 0.25)
    torch.testing.assert_close(network(photos), photos + 0.25)
    assert network.decoder[-1][-1].bias.shape == (1,)


def test_weights_start_narrow_and_nothing_but_parameters_is_kept():
    torch.manual_seed(0)
    network = UnetGenerator(depth=3)
    assert network.decoder[0][1].weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert network.decoder[0][2].weight.mean().item() == pytest.approx(1.0, abs=0.01)
    assert network.decoder[-1][-1].bias.abs().max() == 0
    assert not list(network.buffers())


@pytest.mark.parametrize("depth", [3, 4])
def test_context_is_how_far_an_output_pixel_looks(depth):
    torch.manual_seed(0)
    network = tiny(depth, norm="none").double()
    for parameter in network.parameters():
        parameter.data.abs_()  # so that nothing cancels and no ReLU is shut
    size = 8 * 2**depth
    photo = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    picture = network(photo)
    seen = []
    for position in range(size // 2, size // 2 + 2**depth):  # all phases of the strides
        gradient = torch.autograd.grad(picture[0, :, position, position].sum(), photo, retain_graph=True)[0]
        rows = gradient.abs().sum((0, 1, 3)).nonzero()
        seen.append((position - rows.min().item(), rows.max().item() - position))
    above, below = zip(*seen, strict=True)
    assert max(above) == max(below) == network.context


def test_statistics_of_a_photograph_are_those_that_a_part_of_it_is_given():
    torch.manual_seed(0)
    network = tiny(2).eval()
    photo = torch.randn(1, 3, 64, 64)
    with record_statistics(network) as statistics:
        whole = network(photo)
    margin = 12  # the context, rounded up to a whole number of innermost pixels
    with frozen_statistics(network, statistics):
        part = network(photo[..., 8:48, 8:48])
    inside = whole[..., 8 + margin : 48 - margin, 8 + margin : 48 - margin]
    torch.testing.assert_close(part[..., margin:-margin, margin:-margin], inside, atol=1e-6, rtol=1e-5)
    assert (network(photo[..., 8:48, 8:48])[..., margin:-margin, margin:-margin] - inside).abs().max() > 1e-4


def test_what_is_joined_is_freed_before_the_next_stage_begins():
    network, joined, left = tiny().eval(), [], []
    *_, above, head = network.decoder
    for stage in (network.encoder[0], above):
        stage.register_forward_hook(lambda stage, inputs, output: joined.append(weakref.ref(output)))
    head.register_forward_pre_hook(lambda stage, inputs: left.extend(reference() for reference in joined))
    with torch.inference_mode():
        network(torch.randn(1, 3, 16, 16))
    assert left == [None, None]
