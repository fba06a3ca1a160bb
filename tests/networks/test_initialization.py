import pytest
import torch
from torch import nn

from lit_ghibli.networks.initialization import init_weights


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolutions_are_narrow_normals_without_bias(layer):
    torch.manual_seed(0)
    module = init_weights(layer(64, 64, 4), std=0.05)
    assert module.weight.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert module.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert module.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("layer", "ends"), [(nn.Conv2d(64, 192, 3), (64, 192)), (nn.ConvTranspose2d(64, 192, 3), (64, 192))], ids=str
)
def test_xavier_makes_wide_layers_narrower(layer, ends):
    torch.manual_seed(0)
    init_weights(layer, initialization="xavier")
    # Glorot and Bengio's: gain sqrt(2 / (fan in + fan out)), 9 positions of a kernel
    assert layer.weight.std().item() == pytest.approx(0.02 * (2 / (9 * sum(ends))) ** 0.5, rel=0.02)
    assert layer.weight.mean().abs() < 1e-5
    assert layer.bias.abs().max() == 0


def test_unknown_initialization():
    with pytest.raises(ValueError, match="'kaiming'"):
        init_weights(nn.Conv2d(1, 1, 1), initialization="kaiming")


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4096), nn.InstanceNorm2d(4096, affine=True)])
def test_affine_norms_start_around_one(norm):
    torch.manual_seed(0)
    init_weights(norm)
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=2e-3)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert norm.bias.abs().max() == 0


def test_layers_inside_are_reached_and_others_left_alone():
    linear = nn.Linear(3, 3)
    before = linear.weight.clone()
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1)), linear, nn.InstanceNorm2d(3))
    nn.init.ones_(network[1][0].weight)
    assert init_weights(network) is network
    assert network[1][0].weight.abs().max() < 0.5
    assert torch.equal(linear.weight, before)


def test_draws_come_from_the_global_generator():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(init_weights(nn.Conv2d(3, 8, 3)).weight)
    assert torch.equal(*weights)
