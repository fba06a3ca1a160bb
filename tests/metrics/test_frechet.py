import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import _compute_fid

from lit_ghibli.metrics.frechet import frechet_distance, frechet_of_features


def draw(count: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixing + seed


def moments(features: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return features.numpy().mean(axis=0), np.cov(features.numpy(), rowvar=False)


def by_scipy(features: torch.Tensor, others: torch.Tensor) -> float:
    (mean, covariance), (other_mean, other_covariance) = moments(features), moments(others)
    root = scipy.linalg.sqrtm(covariance @ other_covariance)
    return float(((mean - other_mean) ** 2).sum() + np.trace(covariance + other_covariance - 2 * root.real))


def test_commuting_gaussians_have_a_closed_form():
    rotation = torch.linalg.qr(draw(5, 5, 1)).Q
    first, second = torch.tensor([[1.0, 4.0, 9.0, 0.25, 2.0], [4.0, 1.0, 16.0, 0.0, 2.0]], dtype=torch.float64)
    covariances = [rotation @ torch.diag(values) @ rotation.T for values in (first, second)]
    mean, other = torch.zeros(5), torch.tensor([3.0, 0.0, 4.0, 0.0, 0.0])
    expected = 25.0 + float((first.sqrt() - second.sqrt()).square().sum())
    assert float(frechet_distance(mean, covariances[0], other, covariances[1])) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("count", "other_count"), [(200, 150), (200, 9), (24, 25)])
def test_it_is_scipys_and_torchmetrics(count, other_count):
    first, second = draw(count, 24, 1), draw(other_count, 24, 2)
    arguments = [torch.from_numpy(array) for features in (first, second) for array in moments(features)]
    expected = by_scipy(first, second)
    assert float(_compute_fid(*arguments)) == pytest.approx(expected, rel=1e-4)
    assert float(frechet_distance(*arguments)) == pytest.approx(expected, rel=1e-4)
    assert float(frechet_of_features(first, second)) == pytest.approx(expected, rel=1e-4)


def test_few_images_of_many_features_do_no_harm():
    first, second = draw(6, 300, 1).float(), draw(5, 300, 2).float()
    # All variance lies in 5 + 4 directions: in a basis of these the covariances have no room for rounding.
    centres = [features.double() - features.double().mean(dim=0) for features in (first, second)]
    basis = torch.linalg.qr(torch.cat(centres).T).Q
    inside = [torch.cov((centre @ basis).T) for centre in centres]
    root = scipy.linalg.sqrtm((inside[0] @ inside[1]).numpy() + 0j)
    gap = (first.double().mean(dim=0) - second.double().mean(dim=0)).square().sum()
    expected = float(gap + inside[0].trace() + inside[1].trace()) - 2 * np.trace(root).real
    assert float(frechet_of_features(first, second)) == pytest.approx(expected, rel=1e-6)
    arguments = [torch.from_numpy(array) for features in (first, second) for array in moments(features.double())]
    assert float(frechet_distance(*arguments)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [3, 100])
def test_identical_sets_are_not_apart(count):
    features = draw(count, 32, 1).float()
    scale = float(features.double().square().sum(dim=1).mean())
    assert float(frechet_of_features(features, features.flip(0))) < 1e-9 * scale


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 images of each set, got 1"):
        frechet_of_features(draw(4, 3, 1), draw(1, 3, 2))
