import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.inference.tiling import translate_tiled
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.flattening import Flatten
from lit_ghibli.networks.resnet import ResnetGenerator


def grainy(sides: tuple[int, int] = (48, 64)) -> tuple[torch.Tensor, torch.Tensor]:
    """A dark and a bright half, and the same with grain."""
    halves = torch.full((1, 3, *sides), -0.5)
    halves[..., sides[1] // 2 :] = 0.5
    return halves, halves + 0.05 * torch.randn(halves.shape)


def test_grain_goes_and_edges_stay():
    halves, photo = grainy()
    flat = Flatten(0.01)(photo)
    assert (flat - halves).abs().mean() < 0.2 * (photo - halves).abs().mean()
    assert (flat[..., 32] - flat[..., 31]).min() > 0.85
    assert (Flatten(0.01)(halves) - halves).abs().max() < 0.01
    assert Flatten()(photo) is photo


def test_gradients_pass_as_if_nothing_had_been_done():
    _, photo = grainy()
    weights = torch.randn(photo.shape)
    photo.requires_grad_()
    (Flatten(0.01)(photo) * weights).sum().backward()
    assert torch.equal(photo.grad, weights)


def test_precision_is_the_pictures_own():
    _, photo = grainy()
    with torch.autocast("cpu", torch.bfloat16):
        flat = Flatten(0.01)(photo.bfloat16())
    assert flat.dtype == torch.bfloat16
    torch.testing.assert_close(flat.float(), Flatten(0.01)(photo.bfloat16().float()), atol=0.01, rtol=0)


def test_a_price_below_nothing_is_refused():
    with pytest.raises(UserError, match="flatten must be 0 or more; got -1"):
        ResnetGenerator(flatten=-1)


def test_a_photograph_is_flattened_as_a_whole_before_it_is_translated_in_tiles():
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=4, num_blocks=1, flatten=0.01)
    plain = ResnetGenerator(base_channels=4, num_blocks=1)
    plain.load_state_dict(network.state_dict())
    _, photo = grainy((160, 192))
    flat = Flatten(0.01)(photo)
    with torch.no_grad():
        expected = plain(flat)
    assert not torch.equal(expected, plain(photo))
    assert torch.equal(network(photo), expected)
    assert torch.equal(Translator(network, tile=0)(photo), expected)
    assert torch.equal(Translator(network, tile=128)(photo), translate_tiled(plain, flat, 128))


def test_a_photograph_is_flattened_at_the_size_at_which_it_is_painted():
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=4, num_blocks=1, flatten=0.01)
    plain = ResnetGenerator(base_channels=4, num_blocks=1)
    plain.load_state_dict(network.state_dict())
    _, photo = grainy((64, 64))
    painted = Translator(network).with_size(64)(photo)
    torch.testing.assert_close(painted, Translator(plain).with_size(64)(Flatten(0.01)(photo)), rtol=0, atol=1e-4)
    assert not torch.equal(painted, Translator(plain).with_size(64)(photo))
