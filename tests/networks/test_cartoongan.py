import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.inference.tiling import mosaic, translate_tiled
from lit_ghibli.networks.cartoongan import CartoonGenerator
from lit_ghibli.networks.normalization import InstanceNorm, frozen_statistics, record_statistics
from lit_ghibli.networks.sizes import translate


def lively(std=0.2, **options):
    """Random weights, larger than a training starts from, so that every layer matters to the output."""
    torch.manual_seed(0)
    network = CartoonGenerator(**options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, std)
    return network


def layer_by_layer(network, photos):
    """The published network from functional pieces, with the parameters of ``network`` in order."""
    weights = iter(network.parameters())

    def convolve(x, padding=0, stride=1, reflect=0):
        return F.conv2d(F.pad(x, [reflect] * 4, mode="reflect"), next(weights), next(weights), stride, padding)

    def norm(x):
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * next(weights).view(-1, 1, 1) + next(weights).view(-1, 1, 1)

    x = norm(convolve(photos, reflect=3)).relu()
    for _ in range(2):
        x = norm(convolve(convolve(x, padding=1, stride=2), padding=1)).relu()
    for _ in network.bottleneck:
        x = x + norm(convolve(norm(convolve(x, reflect=1)).relu(), reflect=1))
    for _ in range(2):
        x = F.conv_transpose2d(x, next(weights), next(weights), stride=2, padding=1, output_padding=1)
        x = norm(convolve(x, padding=1)).relu()
    return convolve(x, reflect=3).tanh()


def test_parameter_count():
    with torch.device("meta"):
        network = CartoonGenerator()
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_129_667


def test_output_and_gradients_are_those_of_the_published_network():
    network = lively(std=0.05, base_channels=32, num_blocks=1)  # 128 channels inside: the Winograd route
    photos = torch.rand(1, 3, 128, 136) * 2 - 1
    output = network(photos)
    reference = CartoonGenerator(base_channels=32, num_blocks=1).double()
    reference.load_state_dict(network.state_dict())
    expected = layer_by_layer(reference, photos.double())
    torch.testing.assert_close(output.double(), expected, atol=1e-4, rtol=0)
    grad = torch.randn_like(output)
    output.backward(grad)
    expected.backward(grad.double())
    for (name, actual), wanted in zip(network.named_parameters(), reference.parameters(), strict=True):
        scale = wanted.grad.abs().max()
        if scale > 1e-9:  # a norm after it leaves the gradient of a bias 0 but for rounding
            torch.testing.assert_close(actual.grad.double() / scale, wanted.grad / scale, atol=1e-3, rtol=0, msg=name)


def test_residual_blocks_are_computed_again_rather_than_kept():
    photos, kept, gradients = torch.rand(1, 3, 32, 40) * 2 - 1, [], []
    for checkpoint in (False, True):
        network, storages = lively(base_channels=8, num_blocks=4, checkpoint=checkpoint), {}

        def keep(tensor, storages=storages):
            storages[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network(photos)
        kept.append(sum(storages.values()))
        gradients.append(torch.autograd.grad(output.square().mean(), list(network.parameters())))
    inside = 4 * 3 * (32 * 8 * 10) * 4  # bytes of three tensors in each block, of 32 channels and 8x10 positions
    assert kept[0] - kept[1] >= inside
    assert all(map(torch.equal, *gradients))


def test_how_weights_start():
    torch.manual_seed(0)
    network = CartoonGenerator(base_channels=32, num_blocks=1)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()
    scales, shifts = (
        torch.cat([getattr(norm, name) for norm in network.modules() if isinstance(norm, InstanceNorm)])
        for name in ("weight", "bias")
    )
    assert (scales >= 0).all()
    assert (scales <= 1).all()
    assert scales.std().item() == pytest.approx(12**-0.5, rel=0.1)  # of the uniform distribution
    assert not shifts.any()


def test_context_is_the_distance_at_which_inputs_matter():
    network = lively(base_channels=2, num_blocks=1)
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, InstanceNorm):  # whose statistics look everywhere
                setattr(parent, name, nn.Identity())
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)  # so that none cancels
    for pixel in range(64, 68):
        photos = torch.zeros(1, 3, 128, 128, requires_grad=True)
        network(photos)[0, 0, pixel, pixel].backward()
        rows, columns = photos.grad[0, 0].nonzero(as_tuple=True)
        reach = max((positions - pixel).abs().max().item() for positions in (rows, columns))
        assert network.context - 8 < reach <= network.context


@pytest.mark.parametrize("size", [(201, 170), (129, 40)])
def test_tiles_equal_the_whole_with_the_same_statistics(size):
    network = lively(base_channels=4, num_blocks=1)
    photo = torch.rand(1, 3, *size) * 2 - 1
    padded = F.pad(photo, (0, -size[1] % 4, 0, -size[0] % 4), mode="reflect")
    with record_statistics(network) as statistics:
        translate(network, mosaic(padded, 64))
    with frozen_statistics(network, statistics):
        whole = translate(network, photo)
    assert whole.std() > 0.1, "a flat picture would show no seams either"
    torch.testing.assert_close(translate_tiled(network, photo, 64), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
def test_size_is_kept_and_values_are_in_range(size):
    pictures = lively(base_channels=4, num_blocks=1)(torch.randn(2, 3, *size))
    assert pictures.shape == (2, 3, *size)
    assert pictures.abs().max() <= 1


def test_residual_output_starts_from_the_photograph():
    photos = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(CartoonGenerator(base_channels=4, num_blocks=1, output="residual")(photos), photos)


@pytest.mark.parametrize("size", [(30, 32), (32, 31), (4, 4)])
def test_sizes_that_do_not_fit_are_refused(size):
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}.*multiples of 4, at least 8: set data.crop_size="):
        CartoonGenerator(base_channels=4, num_blocks=1)(torch.randn(1, 3, *size))
