import math

import pytest
import torch

from lit_ghibli.losses.adversarial import (
    bce_discriminator_loss,
    bce_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
    r1_penalty,
)


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


def test_cross_entropy_is_that_of_the_paper():
    torch.manual_seed(0)
    real, fake = torch.randn(2, 1, 5, 4, dtype=torch.float64), torch.randn(3, 1, 2, 2, dtype=torch.float64)
    d = [1 / (1 + math.exp(-logit)) for logit in real.flatten().tolist()]
    d_fake = [1 / (1 + math.exp(-logit)) for logit in fake.flatten().tolist()]
    expected = -(sum(map(math.log, d)) / len(d) + sum(math.log(1 - p) for p in d_fake) / len(d_fake)) / 2
    assert bce_discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert bce_generator_loss(fake).item() == pytest.approx(-sum(map(math.log, d_fake)) / len(d_fake), rel=1e-12)


def test_cross_entropy_is_log_2_at_chance_and_finite_at_certainty():
    zero = torch.zeros(1, 1, 3, 3)
    assert bce_discriminator_loss(zero, zero).item() == pytest.approx(math.log(2))
    assert bce_generator_loss(zero).item() == pytest.approx(math.log(2))
    sure = torch.full((1, 1, 2, 2), 500.0)
    assert bce_discriminator_loss(sure, -sure).item() == 0.0
    assert bce_discriminator_loss(-sure, sure).item() == 500.0
    assert bce_generator_loss(-sure).item() == 500.0


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([[3.0, 0.5, -1.0]]), torch.tensor([[-2.0, 1.0]])
    # max(0, 1 - 3), max(0, 0.5), max(0, 2); max(0, -1), max(0, 2)
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(0.5 * (2.5 / 3 + 2 / 2))
    assert hinge_generator_loss(fake).item() == pytest.approx(0.5)
    assert hinge_discriminator_loss(torch.ones(2, 1, 3, 3), -torch.ones(1, 1, 5, 5)).item() == 0.0
    logits = torch.tensor([256.0], dtype=torch.bfloat16)
    assert hinge_discriminator_loss(-logits, -logits).item() == 0.5 * 257


def test_the_penalty_of_a_linear_judge_is_half_the_square_of_its_weights():
    weight = torch.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)  # two patches of two pixels
    images = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    penalty = r1_penalty(images @ weight.T, images)
    assert penalty.item() == pytest.approx(0.5 * (2.0**2 + 0.5**2))  # of the mean patch, (2, 0.5)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 0.25], [1.0, 0.25]]))
