import pytest
import torch
import torch.nn.functional as F
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchmetrics.image.fid import NoTrainInceptionV3
from torchvision.models import inception_v3
from torchvision.transforms.v2.functional import normalize

from lit_ghibli.errors import UserError
from lit_ghibli.networks.inception import (
    TENSORFLOW_URL,
    TorchvisionInception,
    tensorflow_inception,
)

IMAGES = torch.randint(256, (2, 3, 50, 70), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Blank(NoTrainInceptionV3):
    """The network of the original FID with random weights, without a file."""

    def load_state_dict(self, *_, **__):
        pass


def test_torchvisions_features_are_those_before_its_classifier(tmp_path):
    torch.manual_seed(0)
    whole = inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    state = {name: value for name, value in whole.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "weights.pth")
    before = torch.get_rng_state()
    network = TorchvisionInception(tmp_path / "weights.pth")
    assert torch.equal(torch.get_rng_state(), before)
    features = network(IMAGES)
    assert features.shape == (2, 2048)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    resized = F.interpolate(IMAGES.double(), (299, 299), mode="bilinear", antialias=True).float() / 255
    with torch.no_grad():
        logits = whole(normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        assert torch.allclose(whole.fc(features), logits, rtol=1e-3, atol=1e-4)


def test_the_original_features_are_torchmetrics(tmp_path):
    torch.save({}, tmp_path / "empty.pth")
    torch.manual_seed(0)
    blank = Blank("inception-v3-compat", ["2048"], str(tmp_path / "empty.pth"))
    torch.save(blank.state_dict(), tmp_path / "weights.pth")
    before = torch.get_rng_state()
    network = tensorflow_inception(tmp_path / "weights.pth")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(network(IMAGES[:1]), blank(IMAGES[:1]))
    assert network(IMAGES[:1]).shape == (1, 2048)
    assert not network.training
    with pytest.raises(UserError, match="no weights of the original FID's Inception"):
        tensorflow_inception(tmp_path / "empty.pth")


def test_the_url_is_torch_fidelitys():
    assert TENSORFLOW_URL == URL_INCEPTION_V3
