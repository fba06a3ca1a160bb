"""Networks whose weights are broken: what they would paint is refused, and the layer named."""

import numpy as np
import pytest
import torch
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.images import from_picture
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.scenes.scene import render_pair

PHOTO = render_pair(0, 0, 48)[0]
NETWORKS = {
    "resnet": lambda: ResnetGenerator(base_channels=4, num_blocks=2),
    "unet": lambda: UnetGenerator(base_channels=4, depth=3),
    "painting": lambda: PaintingNetwork(channels=4, deep_channels=8, dilations=[1]),
}


class Tinted(nn.Module):
    """One layer, which tanh follows: it hides what is infinite."""

    size_multiple = minimum_size = 1
    context = 0

    def __init__(self):
        super().__init__()
        self.tint = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return torch.tanh(self.tint(images))


def message(network, tile=0, photo=PHOTO):
    with pytest.raises(UserError) as caught:
        Translator(network, tile=tile, name="a.ckpt")(photo)
    return str(caught.value)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("factor", [1e30, float("nan"), float("inf")])
def test_broken_weights_are_refused_with_the_first_layer_they_show_in(kind, factor):
    torch.manual_seed(0)
    network = NETWORKS[kind]().eval()
    Translator(network)(PHOTO)
    name, broken = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)][1]
    with torch.no_grad():
        broken.weight.mul_(factor)
    text = message(network)
    assert text.startswith(f"a.ckpt: layer {name} ({type(broken).__name__}) computes ")
    assert ("its weight is not finite" in text) == (factor != 1e30)
    assert "choose an earlier checkpoint" in text


@pytest.mark.parametrize("tile", [0, 128])
def test_what_tanh_hides_is_seen_also_in_tiles(tile):
    network = Tinted()
    nn.init.constant_(network.tint.weight, -1e12)
    photo = np.full((140, 140, 3), 200, np.uint8)
    with torch.no_grad():
        assert network(from_picture(photo)).isfinite().all(), "all black"
    assert "layer tint (Conv2d) computes 1" in message(network, tile, photo)


def test_every_picture_is_looked_at():
    network = Tinted()
    translator = Translator(network)
    translator(PHOTO)
    nn.init.constant_(network.tint.bias, float("nan"))
    with pytest.raises(UserError, match="Tinted: its output is not finite"):
        translator(PHOTO)


def test_nothing_stays_on_the_network():
    network = Tinted()
    Translator(network)(PHOTO)
    assert not any(layer._forward_hooks for layer in network.modules())
