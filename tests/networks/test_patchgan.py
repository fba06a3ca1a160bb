import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.patchgan import PatchDiscriminator


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_count():
    assert count(PatchDiscriminator()) == 2_764_737
    # Three more input channels: 64 kernels of 4x4 for each.
    assert count(PatchDiscriminator(in_channels=6)) == 2_764_737 + 3 * 64 * 16


def released_forward(state, x):
    """CUT's released discriminator from functional pieces and a state dict in its keys."""
    row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4

    def convolve(x, number):
        return F.conv2d(x, state[f"model.{number}.weight"], state[f"model.{number}.bias"], padding=1)

    x = F.leaky_relu(convolve(x, 0), 0.2)
    for number in (3, 7, 11):
        kernel = row.outer(row).expand(x.shape[1], 1, 3, 3)
        x = F.conv2d(F.pad(x, [1] * 4, mode="reflect"), kernel, stride=2, groups=x.shape[1])
        x = F.leaky_relu(F.instance_norm(convolve(x, number)), 0.2)
    return convolve(x, 14)


def test_blur_pools_are_the_released_discriminator_of_cut():
    assert count(PatchDiscriminator(downsample="blur")) == 2_764_737
    torch.manual_seed(0)
    network = PatchDiscriminator(base_channels=4, downsample="blur").double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    state = {key.replace("layers.", "model."): value for key, value in network.state_dict().items()}
    assert list(state) == [f"model.{number}.{kind}" for number in (0, 3, 7, 11, 14) for kind in ("weight", "bias")]
    images = torch.rand(2, 3, 41, 48, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(network(images), released_forward(state, images))


def test_weights_start_narrow():
    torch.manual_seed(0)
    for initialization, std in {"normal": 0.02, "xavier": 0.02 * (2 / (16 * (256 + 512))) ** 0.5}.items():
        weight = PatchDiscriminator(initialization=initialization).layers[8].weight
        assert weight.shape == (512, 256, 4, 4)
        assert weight.std().item() == pytest.approx(std, rel=0.01)


def test_batch_norm_replaces_three_biases_by_scales_and_shifts():
    channels = 128 + 256 + 512
    assert count(PatchDiscriminator(norm="batch")) == 2_764_737 - channels + 2 * channels


@pytest.mark.parametrize(
    ("downsample", "num_layers", "field"),
    [("stride", 1, 16), ("stride", 2, 34), ("stride", 3, 70), ("blur", 1, 18), ("blur", 2, 40), ("blur", 3, 84)],
)
def test_receptive_field_by_gradient(downsample, num_layers, field):
    # Without norms, which would spread the gradient over the image; all weights positive, so none cancels.
    network = PatchDiscriminator(base_channels=2, num_layers=num_layers, norm="none", downsample=downsample)
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    images = torch.ones(1, 3, 192, 192, requires_grad=True)
    logits = network(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = images.grad[0, 0].nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1).item() == field
    assert (columns.max() - columns.min() + 1).item() == field


@pytest.mark.parametrize("downsample", ["stride", "blur"])
def test_output_size(downsample):
    with torch.no_grad():
        assert PatchDiscriminator(base_channels=2, downsample=downsample)(torch.randn(1, 3, 256, 128)).shape == (
            1,
            1,
            30,
            14,
        )


@pytest.mark.parametrize("downsample", ["stride", "blur"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_minimum_size_is_the_smallest_that_works(num_layers, downsample):
    network = PatchDiscriminator(base_channels=2, num_layers=num_layers, downsample=downsample)
    smallest = network.minimum_size
    assert network(torch.randn(1, 3, smallest, smallest)).shape == (1, 1, 1, 1)
    with pytest.raises(UserError, match=f"{smallest}x{smallest - 1}.*at least {smallest}x{smallest}"):
        network(torch.randn(1, 3, smallest, smallest - 1))


def test_one_channel_judges_the_luminance_of_colors():
    network = PatchDiscriminator(in_channels=1, base_channels=2)
    colors = torch.rand(2, 3, 32, 32) * 2 - 1
    grey = 0.299 * colors[:, :1] + 0.587 * colors[:, 1:2] + 0.114 * colors[:, 2:]
    other = grey + torch.tensor([0.587, -0.299, 0.0]).view(1, 3, 1, 1)  # of the same luma, greener
    torch.testing.assert_close(network(colors), network(grey))
    torch.testing.assert_close(network(other), network(grey))
    with pytest.raises(UserError, match=r"6 channels.*in_channels = 1"):
        network(torch.randn(1, 6, 32, 32))


def test_first_and_last_convolutions_have_no_norm():
    kinds = [type(layer).__name__ for layer in PatchDiscriminator(num_layers=1).layers]
    assert kinds == ["Conv2d", "LeakyReLU", "Conv2d", "InstanceNorm", "LeakyReLU", "Conv2d"]


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match="'spectral'"):
        PatchDiscriminator(norm="spectral")
    with pytest.raises(ValueError, match="'pool'"):
        PatchDiscriminator(downsample="pool")


def test_spectral_norm_divides_by_the_largest_singular_value():
    torch.manual_seed(0)
    network = PatchDiscriminator(base_channels=4, num_layers=1, spectral_norm=True)
    for _ in range(50):
        network(torch.zeros(1, 3, 16, 16))
    convolutions = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 3
    for layer in convolutions:
        assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1.0, rel=1e-2)
