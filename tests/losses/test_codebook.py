import pytest
import torch

from lit_ghibli.losses.codebook import codebook_loss


@pytest.mark.parametrize(("beta_weighs", "factors"), [("commitment", (1.0, 0.25)), ("codebook", (0.25, 1.0))])
def test_each_term_moves_one_side_only(beta_weighs, factors):
    torch.manual_seed(0)
    z, e = (torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss = codebook_loss(z, e, 0.25, beta_weighs)
    assert loss.item() == pytest.approx(1.25 * ((z - e) ** 2).mean().item())
    loss.backward()
    difference = 2 * (e - z).detach() / z.numel()
    torch.testing.assert_close(e.grad, factors[0] * difference)
    torch.testing.assert_close(z.grad, -factors[1] * difference)


def test_it_is_computed_in_float32_under_autocast():
    features = torch.full((1, 1, 1, 1), 256.0, dtype=torch.bfloat16)
    assert codebook_loss(features, torch.ones(1, 1, 1, 1), 0.0).item() == 255.0**2


def test_another_term_is_refused():
    with pytest.raises(ValueError, match="beta_weighs is 'both'; it must be 'commitment' or 'codebook'"):
        codebook_loss(torch.zeros(1), torch.zeros(1), 0.25, "both")
