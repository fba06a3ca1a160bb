"""The style predictor, the transformer that its numbers steer, and MobileNetV2's features."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.inference.tiling import mosaic, translate_tiled
from lit_ghibli.networks.arbitrary import ArbitraryStylization
from lit_ghibli.networks.mobilenet import LAYERS, InvertedResidual, MobileNetFeatures, SameConv2d
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.sizes import translate
from lit_ghibli.networks.style_predictor import StylePredictor
from lit_ghibli.networks.style_transformer import StyleTransformer

NARROW = (4, 5, 6, 5, 4)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def made(encoder_norm: str = "none", num_blocks: int = 1, dtype=torch.float32) -> StyleTransformer:
    torch.manual_seed(0)
    network = StyleTransformer(NARROW, num_blocks, 3, encoder_norm).eval().to(dtype)
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4:
            nn.init.normal_(parameter, std=1.2 / parameter[0].numel() ** 0.5)
        elif "affine.bias" in name:
            nn.init.uniform_(parameter, 0.3, 1)
    return network


@pytest.mark.parametrize(
    ("kind", "arguments", "parameters"),
    [
        (StylePredictor, {}, 2_334_916),
        (StyleTransformer, {"channels": (8, 16, 32, 16, 8), "encoder_norm": "none"}, 177_718),
        # c9s1 3-32-3, 3x3 32-64-128 and back, ten of 128; batch norm of 224; 2 x 101 for each of 1,379 channels.
        (StyleTransformer, {}, 2 * 7_776 + 2 * 92_160 + 10 * 147_456 + 2 * 224 + 2 * 101 * 1_379),
    ],
)
def test_parameters(kind, arguments, parameters):
    with torch.device("meta"):
        assert count(kind(**arguments)) == parameters


def by_hand(network: StyleTransformer, photo: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """The transformer of one residual block by the definitions of its layers."""

    def conditional(x, norm):
        shift, scale = (norm.affine.weight @ style + norm.affine.bias).chunk(2)
        rows = []
        for channel, plane in enumerate(x[0]):
            variance = (plane - plane.mean()).square().mean()
            rows.append((plane - plane.mean()) / (variance + 1e-5).sqrt() * scale[channel] + shift[channel])
        return torch.stack(rows)[None]

    def convolve(x, layer, stride=1):
        side = layer.weight.shape[-1] // 2
        return F.conv2d(F.pad(x, (side,) * 4, mode="reflect"), layer.weight, layer.bias, stride)

    x = (photo + 1) / 2
    for number, stride in enumerate((1, 2, 2)):
        x = convolve(x, network.contract[number], stride).relu()
    (block,) = network.blocks
    hidden = conditional(convolve(x, block.first), block.first_norm).relu()
    x = x + conditional(convolve(hidden, block.second), block.second_norm)
    for number in range(2):
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        x = conditional(convolve(x, network.expand[number]), network.expand_norms[number]).relu()
    x = conditional(convolve(x, network.expand[2]), network.expand_norms[2])
    return 2 / (1 + (-x).exp()) - 1


def test_the_transformer_is_the_layers_of_its_definition():
    network = made(dtype=torch.float64)
    photos = torch.rand(2, 3, 24, 32, dtype=torch.float64) * 2 - 1
    styles = torch.randn(2, 3, dtype=torch.float64)
    expected = torch.cat([by_hand(network, photos[n : n + 1], styles[n]) for n in range(2)])
    assert expected.std() > 0.1
    torch.testing.assert_close(network(photos, styles), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(network(photos, styles[:1])[1:], by_hand(network, photos[1:], styles[0]))
    alone = network.float()(photos[:1].float(), styles[:1].float())  # which takes a route of its own
    torch.testing.assert_close(alone, expected[:1].float(), rtol=0, atol=1e-4)


def test_batch_norm_folds_into_the_biases():
    network, plain = made("batch"), made("none")
    for norm in network.contract_norms:
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith("contract_norms")}
    for number, norm in enumerate(network.contract_norms):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        weights[f"contract.{number}.weight"] = weights[f"contract.{number}.weight"] * scale[:, None, None, None]
        weights[f"contract.{number}.bias"] = norm.bias - norm.running_mean * scale
    plain.load_state_dict(weights)
    photo, style = torch.rand(1, 3, 16, 16), torch.randn(1, 3)
    torch.testing.assert_close(network(photo, style), plain(photo, style), rtol=0, atol=1e-5)


class Styled(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.style = network, torch.randn(1, 3)
        self.size_multiple, self.minimum_size, self.context = 4, 8, network.context

    def forward(self, photo: torch.Tensor) -> torch.Tensor:
        return self.network(photo, self.style)


def test_tiles_equal_the_whole_with_the_same_statistics():
    network = Styled(made())
    photo = torch.rand(1, 3, 132, 260, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with record_statistics(network) as statistics:
        translate(network, mosaic(photo, 128))
    with frozen_statistics(network, statistics):
        whole = translate(network, photo)
    assert whole.std() > 0.1
    torch.testing.assert_close(translate_tiled(network, photo, 128), whole, rtol=0, atol=1e-4)


def test_a_style_is_the_square_in_the_middle():
    torch.manual_seed(0)
    network = StylePredictor().eval()
    picture = torch.rand(1, 3, 256, 300) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(network.embed(picture), network(picture[..., 22:278]))
        assert network.embed(picture[..., :40, :50]).shape == (1, 100)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"backbone": "vgg"}, "backbone"), ({"encoder_norm": "x"}, "batch")]
)
def test_other_parts_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        ArbitraryStylization(**arguments)


# --- MobileNetV2 ---------------------------------------------------------------


@pytest.mark.parametrize(("size", "before"), [((8, 8), (0, 0)), ((7, 8), (1, 0)), ((9, 5), (1, 1))])
def test_same_padding_is_tensorflows(size, before):
    """As many zeros before as behind, and one more behind if their number is odd."""
    convolve = SameConv2d(1, 1, stride=2)
    image = torch.randn(1, 1, *size)
    for axis, side in enumerate(size):
        total = max((-(-side // 2) - 1) * 2 + 3 - side, 0)
        assert (before[axis], total - before[axis]) == (total // 2, 1)
    padded = F.pad(image, (before[1], 1, before[0], 1))
    torch.testing.assert_close(convolve(image), F.conv2d(padded, convolve.weight, convolve.bias, 2))


def test_a_block_adds_its_input_where_shapes_allow():
    block, other = InvertedResidual(4, 4, 6, 1), InvertedResidual(4, 4, 6, 2)
    x = torch.randn(1, 4, 6, 6)
    for each in (block, other):
        nn.init.zeros_(each.project.weight)
        nn.init.zeros_(each.project.bias)
    assert torch.equal(block.narrow(block.widen(x), x), x)
    assert torch.equal(other.narrow(other.widen(x), x), torch.zeros(1, 4, 3, 3))
    assert block.widen(100 * x).max() == 6


def test_features_are_frozen_and_stored_nowhere():
    features = MobileNetFeatures(["block_5", "stem", "expand_1"], weights="random")
    images = torch.rand(2, 3, 40, 33) * 2 - 1
    images.requires_grad_()
    found = features.train()(images)
    shapes = {"stem": (32, 20, 17), "expand_1": (96, 20, 17), "block_5": (32, 5, 5)}
    assert {name: tuple(each.shape[1:]) for name, each in found.items()} == shapes
    assert features.taps == tuple(shapes)
    assert not features.training
    found["block_5"].sum().backward()
    assert images.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in features.parameters())
    around = nn.ModuleDict({"features": features, "other": nn.Linear(1, 1)})
    assert set(around.state_dict()) == {"other.weight", "other.bias"}
    around.load_state_dict(around.state_dict())
    again = MobileNetFeatures(["block_5"], weights="random")(images)
    assert torch.equal(again["block_5"], found["block_5"])
    other = MobileNetFeatures(["block_5"], weights="random", seed=1)(images)
    assert not torch.equal(other["block_5"], found["block_5"])


def test_layers_have_names():
    assert len(LAYERS) == 34
    for taps, message in ((["block_17"], "no layer 'block_17'; did you mean block_"), ([], "taps is empty")):
        with pytest.raises(UserError, match=message):
            MobileNetFeatures(taps, weights="random")
    with pytest.raises(UserError, match="'magenta' or 'random'; got 'imagenet'"):
        MobileNetFeatures(["stem"], weights="imagenet")
    with pytest.raises(UserError, match="at least 8x8 pixels for block_5"):
        MobileNetFeatures(["block_5", "stem"], weights="random")(torch.zeros(1, 3, 7, 40))
