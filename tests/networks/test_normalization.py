import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lit_ghibli.networks.normalization import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    frozen_statistics,
    normalization_layer,
    record_statistics,
    shared_statistics,
)


def test_every_channel_of_every_image_is_normalised():
    x = torch.randn(2, 3, 8, 6) * 5 + 7
    y = InstanceNorm(3)(x)
    expected = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    assert not list(InstanceNorm(3).parameters())
    assert not InstanceNorm(3).state_dict()


def trained(norm):
    """With scales and shifts as after some training."""
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def batch_norm(num_features):
    return trained(BatchNorm(num_features))


def affine_instance_norm(num_features):
    return trained(InstanceNorm(num_features, affine=True))


def layer_norm(num_features):
    return trained(LayerNorm(num_features))


def test_affine_instance_norm_scales_and_shifts_what_it_has_normalised():
    norm = affine_instance_norm(3)
    x = torch.randn(2, 3, 8, 6) * 5 + 7
    expected = InstanceNorm(3)(x) * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected)
    assert norm.state_dict().keys() == {"weight", "bias"}


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_takes_the_statistics_of_the_batch_at_hand_in_both_modes(training):
    norm = batch_norm(3).train(training)
    norm(torch.randn(2, 3, 8, 6))  # leaves no trace
    x = torch.randn(2, 3, 8, 6) * 5 + 7
    deviation = (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    normalized = (x - x.mean((0, 2, 3), keepdim=True)) / deviation
    expected = normalized * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)
    assert norm.state_dict().keys() == {"weight", "bias"}


def test_layer_norm_takes_the_statistics_of_all_channels_and_positions_of_an_image():
    norm = layer_norm(3)
    x = torch.randn(2, 3, 8, 6) * torch.tensor([1.0, 5, 20]).view(3, 1, 1) + 7
    for image, normalized in zip(x, norm(x), strict=True):
        expected = (image - image.mean()) / image.var(correction=0).sqrt()
        expected = expected * norm.weight.view(3, 1, 1) + norm.bias.view(3, 1, 1)
        torch.testing.assert_close(normalized, expected, atol=1e-5, rtol=1e-5)
    with record_statistics(norm) as statistics:
        norm(x)
    [(mean, variance)] = statistics[""]
    torch.testing.assert_close(mean, x.mean((1, 2, 3), keepdim=True))
    torch.testing.assert_close(variance, x.var((1, 2, 3), correction=0, keepdim=True))


def test_group_norm_takes_the_statistics_of_32_groups_or_of_fewer_that_have_four_channels():
    assert [GroupNorm(channels).num_groups for channels in (512, 64, 48, 18, 16, 7, 2)] == [32, 16, 4, 2, 4, 1, 1]
    x = torch.randn(2, 16, 5, 3)
    brighter = x + torch.eye(16)[0].view(-1, 1, 1) * 3
    assert (GroupNorm(16)(brighter) - GroupNorm(16)(x))[:, 0].mean() > 0.5  # a channel a group would hide it
    norm = GroupNorm(64)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 64, 5, 3) * torch.arange(1.0, 65).view(-1, 1, 1) + 7
    with record_statistics(norm) as statistics:
        normalized = norm(x)
    [(mean, variance)] = statistics[""]
    for channel in (0, 1, 2, 63):
        group = x[:, channel // 4 * 4 : channel // 4 * 4 + 4]
        torch.testing.assert_close(mean[:, channel], group.mean((1, 2, 3))[:, None, None])
        torch.testing.assert_close(variance[:, channel], group.var((1, 2, 3), correction=0)[:, None, None])
        expected = (x[:, channel] - mean[:, channel]) / (variance[:, channel] + 1e-6).sqrt() * norm.weight[channel]
        torch.testing.assert_close(normalized[:, channel], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layer", [InstanceNorm, affine_instance_norm, batch_norm, layer_norm, GroupNorm])
def test_frozen_statistics_normalise_another_image_alike(layer):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), layer(4))
    photo = torch.randn(1, 3, 16, 16) + torch.linspace(-3, 3, 16)  # a part has other statistics than the whole
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
    [(mean, variance)] = statistics["0"]
    assert (mean.dtype, mean.shape) == (torch.float32, (2, 2, 1, 1))
    reference = x.double()
    torch.testing.assert_close(mean, reference.mean((2, 3), keepdim=True).float())
    torch.testing.assert_close(variance, reference.var((2, 3), correction=0, keepdim=True).float())


def test_recorded_statistics_of_batch_norm_are_those_of_all_images_together():
    norm = nn.Sequential(batch_norm(2))
    x = torch.randn(3, 2, 9, 9) + torch.arange(3.0).view(-1, 1, 1, 1)
    with record_statistics(norm) as statistics:
        whole = norm(x)
    [(mean, variance)] = statistics["0"]
    torch.testing.assert_close(mean, x.mean((0, 2, 3), keepdim=True))
    torch.testing.assert_close(variance, x.var((0, 2, 3), correction=0, keepdim=True))
    with frozen_statistics(norm, statistics):
        one_by_one = torch.cat([norm(image) for image in x.split(1)])
    torch.testing.assert_close(one_by_one, whole, atol=1e-5, rtol=1e-5)


def test_frozen_batch_norm_passes_gradients_to_its_scale_and_shift():
    norm = batch_norm(2)
    x, mean, variance = torch.randn(1, 2, 5, 5), torch.randn(1, 2, 1, 1), torch.rand(1, 2, 1, 1) + 0.5
    with frozen_statistics(norm, {"": [(mean, variance)]}):
        y = norm(x)
    expected = F.batch_norm(x, mean.flatten(), variance.flatten(), norm.weight, norm.bias)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad(expected.square().sum(), tuple(norm.parameters()))
    actual = torch.autograd.grad(y.square().sum(), tuple(norm.parameters()))
    torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", [InstanceNorm, BatchNorm])
def test_statistics_of_bfloat16_inputs_are_accumulated_in_float32(layer):
    torch.manual_seed(0)
    x = (torch.randn(1, 1, 64, 64) + 30).bfloat16()
    reference = x.double()
    expected = (reference - reference.mean()) / (reference.var(correction=0) + 1e-5).sqrt()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(1)(x)
    # Only the result is rounded to bfloat16: half a unit in the last of its 8 bits.
    assert ((y.double() - expected).abs() <= expected.abs() * 2**-8 + 1e-4).all()


class Repeating(nn.Module):
    """Calls its one norm several times, at other states: x, 2 |x|, 4 |x|, ..."""

    def __init__(self, times):
        super().__init__()
        self.norm, self.times = InstanceNorm(2), times

    def forward(self, x):
        outputs = []
        for _ in range(self.times):
            outputs.append(self.norm(x))
            x = 2 * x.abs()
        return torch.stack(outputs)


def test_a_norm_called_several_times_has_statistics_of_each_call():
    network = Repeating(3)
    photo = torch.randn(1, 2, 16, 16)
    with record_statistics(network) as statistics:
        network(torch.randn(1, 2, 16, 16))  # the last pass counts
        whole = network(photo)
    states = [photo, 2 * photo.abs(), 4 * photo.abs()]
    assert [len(calls) for calls in statistics.values()] == [3]
    for (mean, _), state in zip(statistics["norm"], states, strict=True):
        torch.testing.assert_close(mean, state.mean((2, 3), keepdim=True))
    with frozen_statistics(network, statistics):
        for left in (0, 8):  # each pass begins with the first again
            tile = network(photo[..., left : left + 8])
            torch.testing.assert_close(tile, whole[..., left : left + 8], atol=1e-5, rtol=1e-5)


def test_calls_beyond_those_recorded_use_the_last_statistics():
    network = Repeating(2)
    photo = torch.randn(1, 2, 16, 16)
    with record_statistics(network) as statistics:
        network(photo)
    network.times = 3
    with frozen_statistics(network, statistics):
        third = network(photo)[2]
    mean, variance = statistics["norm"][1]
    torch.testing.assert_close(third, (4 * photo.abs() - mean) / (variance + 1e-5).sqrt())


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
    x = torch.randn(1, 1, 5, 5)
    with record_statistics(network) as statistics:
        expected = network[0](x)
    assert statistics.keys() == {"0"}
    with frozen_statistics(network, statistics):
        torch.testing.assert_close(network[0](x), expected)
        with pytest.raises(ValueError, match="its InstanceNorm had no part in the pass"):
            network(x)
    with pytest.raises(ValueError, match=r"it has no \['0'\]"), frozen_statistics(network[1], statistics):
        pass


def test_layers_by_name():
    assert isinstance(normalization_layer("instance", 2), InstanceNorm)
    assert isinstance(normalization_layer("batch", 2), BatchNorm)
    assert [normalization_layer(name, 2).affine for name in ("instance", "affine_instance")] == [False, True]
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(normalization_layer("none", 2)(x), x)
    with pytest.raises(ValueError, match="'layer'"):
        normalization_layer("layer", 2)


@pytest.mark.parametrize("make", [InstanceNorm, batch_norm, layer_norm, GroupNorm])
def test_shared_statistics_are_the_running_mean_of_those_of_each_picture(make):
    norm = make(4)
    pictures = [torch.randn(1, 4, 6, 7) * scale + scale for scale in (1.0, 2.0, 5.0)]
    alone = [norm(picture).detach() for picture in pictures]
    with torch.no_grad():
        running = None
        with shared_statistics(norm, 0.75) as shared:
            for picture in pictures:
                own = [each.double() for each in make(4)._measure(picture)]
                running = own if running is None else [0.75 * a + 0.25 * b for a, b in zip(running, own, strict=True)]
                expected = (picture.double() - running[0]) / (running[1] + norm.eps).sqrt()
                if norm.affine:
                    expected = expected * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
                torch.testing.assert_close(norm(picture).double(), expected, atol=1e-5, rtol=1e-5)
            with shared.applied(sharing=False):
                torch.testing.assert_close(norm(pictures[0]), alone[0])
            shared.forget()
            torch.testing.assert_close(norm(pictures[0]), alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(norm(pictures[2]), alone[2])


def test_shared_statistics_go_on_from_what_was_saved_and_hold_for_tiles():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), InstanceNorm(2), nn.ReLU(), Repeating(3))
    first, second = torch.randn(1, 3, 8, 8), 3 * torch.randn(1, 3, 8, 8) + 1
    with torch.no_grad():
        with shared_statistics(network, 0.9) as shared:
            network(first)
            state = {name: list(measured) for name, measured in shared.state_dict().items()}
            expected = network(second)
        with shared_statistics(network, 0.9) as shared:
            shared.load_state_dict(state)
            torch.testing.assert_close(network(second), expected)
            shared.load_state_dict(state)
            with record_statistics(network) as statistics:
                network(second)
            with frozen_statistics(network, statistics):
                tile = network(second[..., :4])
    torch.testing.assert_close(tile, expected[..., :4])
    with shared_statistics(network, 0.0) as shared:
        assert len(shared) == 0
