import logging

import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.networks.feature_scale import FeatureScale
from lit_ghibli.networks.vgg import VggFeatures


@pytest.fixture(scope="module")
def vgg():
    return VggFeatures(["conv1_1", "conv2_2"], weights="random")


@pytest.fixture
def photographs():
    torch.manual_seed(0)
    return [torch.rand(1, 3, 16, 16) * 2 - 1 for _ in range(3)]


def test_features_get_the_magnitude_whatever_the_network(vgg, photographs, caplog):
    scale = FeatureScale(magnitude=100.0)
    with caplog.at_level(logging.INFO):
        scale.measure(vgg, photographs)
    features = torch.cat([vgg(photo)["conv2_2"] for photo in photographs])
    assert scale.measured.item() == pytest.approx(features.double().abs().mean().item(), rel=1e-6)
    assert scale(features).abs().mean().item() == pytest.approx(100, rel=1e-5)
    assert f"{scale.measured:.4g} on 3 training photographs; they are multiplied by" in caplog.text


def test_what_was_measured_is_kept_and_in_checkpoints(vgg, photographs):
    scale, resumed = FeatureScale(), FeatureScale()
    scale.measure(vgg, photographs[:1])
    resumed.load_state_dict(scale.state_dict())
    resumed.measure(vgg, photographs)
    assert resumed.measured == scale.measured > 0


def test_without_a_magnitude_features_stay(vgg, photographs):
    scale = FeatureScale(magnitude=None)
    scale.measure(vgg, photographs)
    assert scale.measured > 0
    assert scale(photographs[0]) is photographs[0]


@pytest.mark.parametrize("magnitude", [100.0, None])
def test_losses_of_few_bits_are_computed_in_more(vgg, photographs, magnitude):
    scale = FeatureScale(magnitude)
    scale.measure(vgg, photographs)
    assert scale(photographs[0].bfloat16()).dtype == torch.float32
    assert scale(photographs[0].double()).dtype == torch.float64


def test_what_cannot_be_is_refused(vgg, photographs):
    with pytest.raises(UserError, match=r"magnitude must be above 0, or null; got 0"):
        FeatureScale(magnitude=0)
    with pytest.raises(UserError, match=r"photographs must be at least 1; got 0"):
        FeatureScale(photographs=0)
    with pytest.raises(UserError, match=r"\(random\) at conv2_2 have a mean absolute value of nan"):
        FeatureScale().measure(vgg, [photographs[0] * torch.nan])
