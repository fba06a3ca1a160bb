import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.losses.straightness import straightness
from lit_ghibli.networks.resnet import two_convolutions


def test_every_block_counts_alike_whatever_its_size():
    gaps = [torch.full((2, 3, 4, 5), 2.0), torch.full((1, 1, 1, 1), -4.0)]
    assert straightness(gaps).item() == (4 + 16) / 2


def test_agrees_with_float64_by_hand_and_pulls_gaps_to_zero():
    torch.manual_seed(0)
    gaps = [torch.randn(2, 3, 5, 4, requires_grad=True) for _ in range(3)]
    expected = sum(float((gap.detach().double() ** 2).sum()) / 120 for gap in gaps) / 3
    loss = straightness(gaps)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    for gap in gaps:
        torch.testing.assert_close(gap.grad, 2 * gap.detach() / (120 * 3))


def test_half_precision_gaps_are_summed_in_float32():
    loss = straightness([torch.full((1, 64, 64, 64), 0.1).half()])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(float(torch.tensor(0.1).half()) ** 2, rel=1e-5)


def test_no_gaps_are_refused_with_both_ways_out():
    with pytest.raises(UserError, match=r"method/bottleneck=ode.*weight of straightness to 0"):
        straightness([])


@pytest.mark.parametrize("std", [0.1, 2.0])
def test_the_kinetic_energy_would_be_one_whatever_the_weights(std):
    torch.manual_seed(0)
    field = two_convolutions(8).double()
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, 0, std)
    energy = field(torch.randn(2, 8, 12, 12, dtype=torch.float64) * 3).square().mean()
    assert energy.item() == pytest.approx(1, abs=1e-3)  # 1 but for the norm's epsilon
    gradients = torch.autograd.grad(energy, field[3].weight)[0]
    assert gradients.abs().max() * std < 1e-3, "nothing to learn from"
