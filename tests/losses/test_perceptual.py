import pytest
import torch

from lit_ghibli.losses.perceptual import content_loss


def some_features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_a_loop_in_float64():
    output, photo = some_features(2, 3, 4, 5), some_features(2, 3, 4, 5, seed=1)
    values = zip(output.double().flatten().tolist(), photo.double().flatten().tolist(), strict=True)
    expected = sum((a - b) ** 2 for a, b in values) / (2 * 3 * 4 * 5)
    assert content_loss(output, photo).item() == pytest.approx(expected, rel=1e-6)
    assert content_loss(output.double(), photo.double()).item() == pytest.approx(expected, rel=1e-13)


def test_the_same_features_have_none():
    features = some_features(1, 3, 4, 5)
    assert content_loss(features, features) == 0


def test_only_the_output_has_a_gradient():
    output, photo = some_features(1, 2, 3, 3).requires_grad_(), some_features(1, 2, 3, 3, seed=1).requires_grad_()
    content_loss(output, photo).backward()
    assert photo.grad is None
    torch.testing.assert_close(output.grad, (2 / 18 * (output - photo)).detach())


def test_the_loss_is_the_mean_over_images():
    output, photo = some_features(2, 3, 4, 5), some_features(2, 3, 4, 5, seed=1)
    apart = [content_loss(output[n : n + 1], photo[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(sum(apart) / 2, content_loss(output, photo))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_features_are_compared_in_float32(dtype):
    output, photo = torch.full((1, 1, 2, 2), 300.0, dtype=dtype), torch.full((1, 1, 2, 2), 3.0, dtype=dtype)
    assert content_loss(output, photo).item() == 297.0**2  # neither a bfloat16 nor within float16


def test_other_shapes_are_refused_rather_than_broadcast():
    with pytest.raises(ValueError, match=r"output \(2, 3, 4, 4\) but of the photograph \(1, 3, 4, 4\)"):
        content_loss(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))
