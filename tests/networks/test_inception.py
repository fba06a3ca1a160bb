import hashlib
import pickle

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
    find_weights,
    pick_weights,
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


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_wrong_files_are_named(tmp_path, capsys):
    shapes, path = {"a": (2, 3)}, tmp_path / "weights.pth"
    with pytest.raises(UserError, match="no such file; give a state dict of a net"):
        pick_weights(path, shapes, "a net")
    for content, message in (
        ({"b": torch.zeros(1)}, "has no a; give"),
        ({"a": torch.zeros(3, 2)}, r"a should have the shape \(2, 3\) but has \(3, 2\)"),
        ({"a": "text"}, r"a should have the shape \(2, 3\) but has \(\)"),
        ([torch.zeros(1)], "holds a list"),
        (Evil(), "refused, since it holds more than tensors"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=message):
            pick_weights(path, shapes, "a net")
    path.write_bytes(pickle.dumps(3)[:-1])
    with pytest.raises(UserError, match=r"weights.pth: (damaged|refused)"):
        pick_weights(path, shapes, "a net")
    torch.save({"a": torch.ones(2, 3), "more": torch.zeros(1)}, path)
    assert list(pick_weights(path, shapes, "a net")) == ["a"]
    assert "run" not in capsys.readouterr().out


def test_weights_are_fetched_once_and_known_by_their_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    served = tmp_path / f"net-{digits}.pth"
    served.write_bytes(b"weights")
    path = find_weights(served.as_uri(), "stay at home")
    assert path == tmp_path / "hub" / "checkpoints" / served.name
    assert path.read_bytes() == b"weights"
    served.write_bytes(b"others")
    assert find_weights(served.as_uri(), "stay at home") == path, "the file that is there is taken"
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=rf"does not begin with {digits}; delete it, and stay at home"):
        find_weights(served.as_uri(), "stay at home")
    path.unlink()
    with pytest.raises(UserError, match=r"could not be fetched .*invalid hash.*: stay at home"):
        find_weights(served.as_uri(), "stay at home")
