import pytest
import torch
import torch.nn.functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.blur_pool import BlurPool
from lit_ghibli.networks.normalization import InstanceNorm, frozen_statistics, record_statistics
from lit_ghibli.networks.resnet import RELEASED_TAPS, TAPS, Detailed, ResidualBlock, ResnetGenerator


def convolution_parameters(*shapes):
    """Weights and biases of square kernels: (in, out, size)."""
    return sum(inputs * outputs * size * size + outputs for inputs, outputs, size in shapes)


@pytest.mark.parametrize(("num_blocks", "count"), [(9, 11_378_179), (6, 7_837_699), (4, 5_477_379)])
@pytest.mark.parametrize("downsample", ["stride", "blur"])
@pytest.mark.parametrize("upsample", ["transposed", "resize", "bilinear"])
def test_parameter_count(num_blocks, count, upsample, downsample):
    ends = [(3, 64, 7), (64, 128, 3), (128, 256, 3), (256, 128, 3), (128, 64, 3), (64, 3, 7)]
    assert convolution_parameters(*ends, *[(256, 256, 3)] * (2 * num_blocks)) == count
    with torch.device("meta"):
        network = ResnetGenerator(num_blocks=num_blocks, upsample=upsample, downsample=downsample)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def layer_by_layer(network, photos):
    """The network of the paper from functional pieces, with the parameters of ``network`` in order."""
    weights = iter(network.parameters())

    def convolve(x, padding=0, stride=1, reflect=0):
        return F.conv2d(F.pad(x, [reflect] * 4, mode="reflect"), next(weights), next(weights), stride, padding)

    x = F.instance_norm(convolve(photos, reflect=3)).relu()
    for _ in range(2):
        x = F.instance_norm(convolve(x, padding=1, stride=2)).relu()
    for _ in network.bottleneck:
        h = F.instance_norm(convolve(x, reflect=1)).relu()
        x = x + F.instance_norm(convolve(h, reflect=1))
    for _ in range(2):
        x = F.conv_transpose2d(x, next(weights), next(weights), stride=2, padding=1, output_padding=1)
        x = F.instance_norm(x).relu()
    return convolve(x, reflect=3).tanh()


def test_output_and_gradients_are_those_of_the_paper():
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=32, num_blocks=1)  # 128 channels inside: the Winograd route
    photos = torch.rand(1, 3, 128, 136) * 2 - 1
    output = network(photos)
    reference = ResnetGenerator(base_channels=32, num_blocks=1).double()
    reference.load_state_dict(network.state_dict())
    expected = layer_by_layer(reference, photos.double())
    torch.testing.assert_close(output.double(), expected, atol=1e-4, rtol=0)
    grad = torch.randn_like(output)
    output.backward(grad)
    expected.backward(grad.double())
    for (name, actual), wanted in zip(network.named_parameters(), reference.parameters(), strict=True):
        if name.endswith("weight"):  # a norm after it leaves the gradient of a bias 0 but for rounding
            scale = wanted.grad.abs().max()
            torch.testing.assert_close(actual.grad.double() / scale, wanted.grad / scale, atol=1e-3, rtol=0)


def released_layers(width):
    """Layers of CUT's released generator by their place in its sequential.

    Convolutions are (in, out, kernel, zero padding), residual blocks their width.
    """
    full, half, quarter = width, 2 * width, 4 * width
    start = ["pad", (3, full, 7, 0), "norm", "relu"]
    down = [[(inputs, 2 * inputs, 3, 1), "norm", "relu", "blur"] for inputs in (full, half)]
    up = [["enlarge", (2 * outputs, outputs, 3, 1), "norm", "relu"] for outputs in (half, full)]
    return [*start, *down[0], *down[1], *[quarter] * 9, *up[0], *up[1], "pad", (full, 3, 7, 0), "tanh"]


def released_weights(layers):
    """Random weights in the released layout."""
    convolutions = {}
    for number, layer in enumerate(layers):
        if isinstance(layer, int):
            convolutions |= {f"model.{number}.conv_block.{part}": (layer, layer, 3) for part in (1, 5)}
        elif isinstance(layer, tuple):
            convolutions[f"model.{number}"] = layer[:3]
    state = {}
    for name, (inputs, outputs, size) in convolutions.items():
        state[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, dtype=torch.float64) / inputs**0.5 / size
        state[f"{name}.bias"] = torch.randn(outputs, dtype=torch.float64)
    return state


def released_forward(state, layers, x):
    """Outputs of all layers, from functional pieces; the two filters are those of the released file."""
    filters = {row: torch.tensor(row, dtype=torch.float64) / sum(row) for row in ((1, 2, 1), (1, 3, 3, 1))}
    filters = {row: values.outer(values)[None, None] for row, values in filters.items()}
    outputs = []

    def pad(x, width, mode="reflect"):
        return F.pad(x, [width] * 4, mode=mode)

    def convolve(x, name, padding=0):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    for number, layer in enumerate(layers):
        channels = x.shape[1]
        if layer == "pad":
            x = pad(x, 3)
        elif layer == "norm":
            x = F.instance_norm(x)
        elif layer in ("relu", "tanh"):
            x = getattr(x, layer)()
        elif layer == "blur":
            x = F.conv2d(pad(x, 1), filters[1, 2, 1].expand(channels, -1, -1, -1), stride=2, groups=channels)
        elif layer == "enlarge":  # zeros between positions, then a filter of sum 4, since three of four are zeros
            kernel = 4 * filters[1, 3, 3, 1].expand(channels, -1, -1, -1)
            x = F.conv_transpose2d(pad(x, 1, "replicate"), kernel, stride=2, padding=3, groups=channels)
        elif isinstance(layer, int):
            h = F.instance_norm(convolve(pad(x, 1), f"model.{number}.conv_block.1")).relu()
            x = x + F.instance_norm(convolve(pad(h, 1), f"model.{number}.conv_block.5"))
        else:
            x = convolve(x, f"model.{number}", layer[-1])
        outputs.append(x)
    return outputs


OURS = {"1": "encoder.stem.0", "4": "encoder.down1.0", "8": "encoder.down2.0", "30": "decoder.head"}
OURS |= {"22": "decoder.up1.0.1", "26": "decoder.up2.0.1"}
OURS |= {
    f"{12 + i}.conv_block.{part}": f"bottleneck.{i}.branch.{place}"
    for i in range(9)
    for part, place in ((1, 0), (5, 3))
}


def test_blur_and_bilinear_are_the_released_generator_of_cut_and_its_layers():
    torch.manual_seed(0)
    width, layers = 8, released_layers(8)
    state = released_weights(layers)
    network = ResnetGenerator(base_channels=width, downsample="blur", upsample="bilinear").double()
    named = (key.removeprefix("model.").rpartition(".") for key in state)
    network.load_state_dict(
        {f"{OURS[layer]}.{kind}": value for (layer, _, kind), value in zip(named, state.values(), strict=True)}
    )
    photos = torch.rand(2, 3, 24, 32, dtype=torch.float64) * 2 - 1
    outputs = released_forward(state, layers, photos)
    picture, features = network(photos, features=True)
    torch.testing.assert_close(picture, outputs[-1])
    for tap, number in zip(RELEASED_TAPS, (0, 4, 8, 12, 16), strict=True):
        torch.testing.assert_close(features[tap], outputs[number], msg=tap)


@pytest.mark.parametrize("upsample", ["transposed", "resize", "bilinear"])
@pytest.mark.parametrize("downsample", ["stride", "blur"])
@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
def test_size_is_kept_and_values_are_in_range(size, upsample, downsample):
    network = ResnetGenerator(base_channels=4, num_blocks=1, upsample=upsample, downsample=downsample)
    pictures = network(torch.randn(2, 3, *size))
    assert pictures.shape == (2, 3, *size)
    assert pictures.abs().max() <= 1


@pytest.mark.parametrize("size", [(30, 32), (32, 31), (4, 4)])
def test_sizes_that_do_not_fit_are_refused(size):
    network = ResnetGenerator(base_channels=4, num_blocks=1)
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}.*multiples of 4, at least 8: set data.crop_size="):
        network(torch.randn(1, 3, *size))


def test_weights_start_narrow():
    torch.manual_seed(0)
    network = ResnetGenerator(num_blocks=1)
    weights = network.bottleneck[0].branch[0].weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert network.encoder.stem[0].bias.abs().max() == 0
    weights = ResnetGenerator(num_blocks=1, initialization="xavier").bottleneck[0].branch[0].weight
    assert weights.std().item() == pytest.approx(0.02 / (9 * 256) ** 0.5, rel=0.01)


def test_residual_output_starts_from_the_photograph_and_learns():
    network = ResnetGenerator(base_channels=4, num_blocks=1, output="residual")
    photos = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(network(photos), photos)
    network(photos).square().sum().backward()
    assert network.decoder.head.weight.grad.abs().max() > 0


def test_residual_output_has_a_gradient_where_it_leaves_the_range():
    network = ResnetGenerator(base_channels=4, num_blocks=1, output="residual")
    torch.nn.init.constant_(network.decoder.head.bias, 5.0)
    pictures = network(torch.zeros(1, 3, 16, 16))
    assert pictures.min() > 1
    pictures.sum().backward()
    assert network.decoder.head.bias.grad.tolist() == [256.0] * 3


def test_luminance_output_keeps_the_differences_of_color():
    network = ResnetGenerator(base_channels=4, num_blocks=1, output="luminance")
    photos = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(network(photos), photos)
    torch.nn.init.normal_(network.decoder.head.weight)
    painted = network(photos) - photos
    assert painted.std() > 0.1
    torch.testing.assert_close(painted, painted[:, :1].expand(-1, 3, -1, -1))


def test_smoothing_paints_the_mean_of_the_means_over_squares():
    reach, side = 2, 12
    network = ResnetGenerator(base_channels=4, num_blocks=1, output="luminance", smoothing=reach).double()
    torch.nn.init.normal_(network.decoder.head.weight)
    photos = torch.rand(1, 3, side, side, dtype=torch.float64) * 2 - 1
    bare = network.decoder(network.bottleneck(network.encoder(photos)))[0, 0]

    def mean_over_squares(image):
        starts, ends = ([f(k) for k in range(side)] for f in (lambda k: max(k - reach, 0), lambda k: k + reach + 1))
        squares = [[image[starts[i] : ends[i], starts[j] : ends[j]] for j in range(side)] for i in range(side)]
        return torch.stack([torch.stack([square.mean() for square in row]) for row in squares])

    expected = photos[0] + mean_over_squares(mean_over_squares(bare))
    torch.testing.assert_close(network(photos)[0], expected)


def test_options_that_cannot_be():
    with pytest.raises(UserError, match="'sigmoid'"):
        ResnetGenerator(output="sigmoid")
    with pytest.raises(ValueError, match="'bicubic'"):
        ResnetGenerator(upsample="bicubic")
    with pytest.raises(ValueError, match="'pool'"):
        ResnetGenerator(downsample="pool")
    with pytest.raises(UserError, match=r"in_channels \(1\) and out_channels \(3\)"):
        ResnetGenerator(in_channels=1, output="residual")
    with pytest.raises(UserError, match="smoothing is 4 pixels for output='tanh'"):
        ResnetGenerator(smoothing=4)
    with pytest.raises(UserError, match="smoothing is -1 pixels"):
        ResnetGenerator(output="residual", smoothing=-1)
    with pytest.raises(UserError, match="output='luminance' adds to the photograph"):
        ResnetGenerator(in_channels=1, output="luminance")


def test_a_block_adds_its_branch_to_an_input_that_stays_as_it_was():
    block = ResidualBlock(8)
    x = torch.randn(1, 8, 8, 8)
    before = x.clone()
    torch.testing.assert_close(block(x), before + block.branch(before))
    assert torch.equal(x, before)


def test_norms_have_no_parameters_and_no_running_statistics():
    network = ResnetGenerator(base_channels=4, num_blocks=2)
    assert sum(isinstance(module, InstanceNorm) for module in network.modules()) == 5 + 2 * 2
    assert not list(network.buffers())


@pytest.mark.parametrize(
    "options",
    [
        {"upsample": "transposed"},
        {"upsample": "resize"},
        {"upsample": "bilinear"},
        {"upsample": "bilinear", "downsample": "blur"},
        {"smoothing": 4},
    ],
    ids=str,
)
def test_context_bounds_what_an_output_pixel_depends_on(options):
    torch.manual_seed(0)
    output = "residual" if "smoothing" in options else "tanh"
    network = ResnetGenerator(base_channels=2, num_blocks=2, output=output, **options).double()
    torch.nn.init.normal_(network.decoder.head.weight)
    photo = torch.randn(1, 3, 96, 96, dtype=torch.float64, requires_grad=True)
    with record_statistics(network) as statistics:
        network(photo)
    seen = []
    for position in (44, 45, 46, 47):  # all phases of the two strides
        with frozen_statistics(network, statistics):
            gradient = torch.autograd.grad(network(photo)[0, :, position, position].sum(), photo)[0]
        rows = gradient.abs().sum((0, 1, 3)).nonzero()
        seen += [position - rows.min().item(), rows.max().item() - position]
    assert network.context - 4 <= max(seen) <= network.context


def convolve_and_normalize(convolution, x):
    """Output of a convolution, and of the norm and ReLU after it, out of place."""
    y = convolution(x)
    return y, F.instance_norm(y).relu()


@pytest.mark.parametrize("downsample", ["stride", "blur"])
@pytest.mark.parametrize(("num_blocks", "middle"), [(1, 1), (4, 2), (5, 3), (9, 5)])
def test_taps_are_the_tensors_at_their_places(num_blocks, middle, downsample):
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=4, num_blocks=num_blocks, downsample=downsample)
    photos = torch.rand(2, 3, 16, 24) * 2 - 1
    picture, features = network(photos, features=True)
    assert torch.equal(picture, network(photos))
    expected = {"pixels": photos, "padded_pixels": F.pad(photos, [3] * 4, mode="reflect")}
    _, x = convolve_and_normalize(network.encoder.stem[0], photos)
    for name in ("down1", "down2"):
        expected[name], x = convolve_and_normalize(getattr(network.encoder, name)[0], x)
        x = x if downsample == "stride" else BlurPool()(x)
    expected["bottleneck_in"] = x
    for block in network.bottleneck[:middle]:
        _, h = convolve_and_normalize(block.branch[0], x)
        x = x + F.instance_norm(block.branch[3](h))
        expected.setdefault("first_block", x)
    expected["bottleneck_middle"] = x
    assert tuple(features) == TAPS
    for tap in TAPS:
        torch.testing.assert_close(features[tap], expected[tap], atol=1e-5, rtol=1e-5)
        assert features[tap].shape[1] == network.feature_channels[tap]


def test_every_tap_passes_gradients_to_all_before_it_and_to_nothing_after():
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=4, num_blocks=3)
    photos = (torch.rand(1, 3, 16, 16) * 2 - 1).requires_grad_()
    weights = [network.encoder.stem, network.encoder.down1, network.encoder.down2, *network.bottleneck.children()]
    weights = [next(iter(part.parameters())) for part in weights]
    for tap, depth in zip(TAPS, (0, 0, 2, 3, 3, 4, 5), strict=True):
        tapped = network(photos, features=True).features[tap]
        loss = (tapped * torch.linspace(-1, 1, tapped.numel()).view_as(tapped)).sum()
        gradients = torch.autograd.grad(loss, [photos, *weights], allow_unused=True)
        assert [gradient is not None and gradient.any().item() for gradient in gradients] == [True] * (depth + 1) + [
            False
        ] * (len(weights) - depth)


def test_a_pass_without_a_picture_ends_at_the_middle():
    network = ResnetGenerator(base_channels=4, num_blocks=4)
    ran = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    photos = torch.rand(1, 3, 16, 16)
    features_alone = network(photos, picture=False, features=True)
    assert isinstance(features_alone, Detailed)
    assert features_alone.picture is None
    assert [name for name in ran if name.startswith(("bottleneck.", "decoder")) and name.count(".") == 1] == [
        "bottleneck.0",
        "bottleneck.1",
    ]
    whole = network(photos, features=True).features
    assert all(torch.equal(features_alone.features[tap], whole[tap]) for tap in TAPS)


def test_features_come_out_of_a_compiled_network_too():
    network = ResnetGenerator(base_channels=4, num_blocks=2)
    photos = torch.rand(1, 3, 16, 16)
    expected = network(photos, features=True)
    network.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(network(photos, features=True), expected)


def test_nothing_is_kept_for_taps_that_nobody_asks_for():
    network = ResnetGenerator(base_channels=4, num_blocks=2)
    assert isinstance(network(torch.rand(1, 3, 16, 16)), torch.Tensor)
    assert network(torch.rand(1, 3, 16, 16), picture=False).features == {}
