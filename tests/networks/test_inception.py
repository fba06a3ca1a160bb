import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchmetrics.image.fid import NoTrainInceptionV3
from torchvision.models import inception_v3

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


def test_torchvisions_features_are_those_of_nijigans_fid(tmp_path):
    """Against the report's listing: Pillow squeezes, ImageNet's statistics, no transform_input, no classifier."""
    torch.manual_seed(0)
    whole = inception_v3(weights=None, init_weights=False, transform_input=False).eval()
    state = {name: value for name, value in whole.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "weights.pth")
    before = torch.get_rng_state()
    network = TorchvisionInception(tmp_path / "weights.pth")
    assert torch.equal(torch.get_rng_state(), before)
    features = network(IMAGES)
    assert features.shape == (2, 2048)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    pillow = [Image.fromarray(image.permute(1, 2, 0).numpy()).resize((299, 299), Image.BILINEAR) for image in IMAGES]
    unit = np.stack([np.asarray(picture) for picture in pillow]) / 255.0
    normalized = (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    whole.fc = torch.nn.Identity()
    with torch.no_grad():
        expected = whole(torch.from_numpy(normalized).permute(0, 3, 1, 2).float())
        whole.transform_input = True
        other = whole(torch.from_numpy(normalized).permute(0, 3, 1, 2).float())
    assert (features - expected).norm() < 0.01 * expected.norm(), "Pillow rounds the squeezed pictures to 8 bits"
    assert (other - expected).norm() > 0.05 * expected.norm()


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
