from functools import partial

import pytest
import torch
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.animegan import AnimeGenerator, LightAnimeGenerator
from lit_ghibli.networks.cartoongan import CartoonGenerator
from lit_ghibli.networks.flattening import Flatten
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.outlining import Ink
from lit_ghibli.networks.outputs import OutputLayer
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.unet import UnetGenerator

GENERATORS = {
    "animegan": partial(AnimeGenerator, base_channels=4),
    "light animegan": partial(LightAnimeGenerator, base_channels=4),
    "cartoongan": partial(CartoonGenerator, base_channels=4, num_blocks=1),
    "ode": partial(OdeGenerator, base_channels=4, num_blocks=1),
    "painting": partial(PaintingNetwork, 4, 6, (1,)),
    "resnet": partial(ResnetGenerator, base_channels=4, num_blocks=1),
    "unet": partial(UnetGenerator, base_channels=4, depth=3, norm="instance"),
}
OPTIONS = {"output": "residual", "smoothing": 1, "outlines": 0.6, "flatten": 0.01}


@pytest.fixture
def photo() -> torch.Tensor:
    """Two grey fields with grain."""
    fields = torch.full((1, 3, 64, 64), -0.4)
    fields[..., 30:] = 0.4
    return fields + 0.05 * torch.randn(fields.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_training_begins_at_the_flattened_photograph(make, photo):
    flat = Flatten(0.01)(photo)
    network = make(**OPTIONS)
    torch.testing.assert_close(network(photo), flat, rtol=0, atol=1e-6)
    network(photo).square().sum().backward()
    assert any(each.grad is not None and each.grad.abs().max() > 0 for each in network.parameters())


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_what_is_painted_over_is_that_of_a_network_without_these_options(make, photo):
    """The same weights give colors, which become broad, and how dark the outlines are, which lie where ``Ink`` says."""
    network, plain = make(**OPTIONS).eval(), make(output="residual").eval()
    torch.manual_seed(0)
    for each in network.parameters():
        nn.init.normal_(each, std=0.2)
    given = []
    network.output.register_forward_pre_hook(lambda _, tensors: given.extend(tensors))
    picture = network(photo)
    values, seen = given
    flat = Flatten(0.01)(photo)
    assert torch.equal(seen, flat)
    assert values.shape == (1, 4, 64, 64)
    assert values.std() > 1e-3
    colors, darkness = values[:, :3], values[:, 3:]
    for _ in range(2):
        colors, darkness = (
            nn.functional.avg_pool2d(each, 3, 1, 1, count_include_pad=False) for each in (colors, darkness)
        )
    expected = flat + colors + darkness * Ink(0.6)(flat)
    torch.testing.assert_close(picture, expected, rtol=0, atol=1e-4)
    assert network.context == plain.context + OutputLayer("residual", 3, 3, 1, 0.6).context


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_what_cannot_be_is_refused(make, photo):
    with pytest.raises(UserError, match=r"outlines=.* for output='tanh'"):
        make(output="tanh", outlines=0.6)
    with pytest.raises(UserError, match="flatten must be 0 or more"):
        make(flatten=-1)
    with pytest.raises(UserError, match="63x64"):
        make()(photo[..., 1:, :])
