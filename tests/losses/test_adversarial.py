import pytest
import torch

from lit_ghibli.losses.adversarial import lsgan_discriminator_loss, lsgan_generator_loss


def test_losses_are_zero_at_their_targets():
    ones, zeros = torch.ones(2, 1, 3, 4), torch.zeros(2, 1, 5, 5)
    assert lsgan_discriminator_loss(ones, zeros).item() == 0.0
    assert lsgan_generator_loss(ones).item() == 0.0


def test_losses_elsewhere_by_hand():
    real, fake = torch.tensor([[3.0, 0.0]]), torch.tensor([[-2.0, 1.0]])
    assert lsgan_discriminator_loss(real, fake).item() == pytest.approx(0.5 * ((4 + 1) / 2 + (4 + 1) / 2))
    assert lsgan_generator_loss(fake).item() == pytest.approx((9 + 0) / 2)


def test_means_run_over_positions_of_each_tensor():
    loss = lsgan_discriminator_loss(torch.full((1, 1, 30, 30), 2.0), torch.full((4, 1, 2, 2), 3.0))
    assert loss.item() == pytest.approx(0.5 * (1 + 9))


def test_losses_are_computed_in_float32_under_autocast():
    # 256 - 1 is not a bfloat16, so a loss in the logits' precision would be 65024.
    logits = torch.tensor([256.0], dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lsgan_generator_loss(logits).item() == 255.0**2
        assert lsgan_discriminator_loss(logits, logits).dtype == torch.float32
