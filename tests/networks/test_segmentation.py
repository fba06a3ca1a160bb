from urllib.error import URLError

import pytest
import torch
from torchvision.models.segmentation import DeepLabV3, deeplabv3_resnet50, lraspp_mobilenet_v3_large

from lit_ghibli.errors import UserError
from lit_ghibli.networks.segmentation import NETWORKS, Segmentation


@pytest.fixture(scope="module")
def original():
    """Random weights, with statistics of real activations, without which all pixels get one label."""
    torch.manual_seed(0)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network(torch.randn(4, 3, 128, 128))
    return network.eval()


@pytest.fixture(scope="module")
def weights(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "lraspp.pth"
    torch.save(original.state_dict(), path)
    return path


@pytest.mark.parametrize("size", [(60, 90), (520, 520)])
def test_labels_are_those_of_torchvision_with_its_own_preprocessing(original, weights, size):
    photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = original(NETWORKS["lraspp_mobilenet_v3_large"][1].transforms()(photo))["out"].argmax(dim=1)
    network = Segmentation(weights)
    labels = network(photo * 2 - 1)
    assert labels.shape == expected.shape
    assert len(expected.unique()) > 3
    assert (labels == expected).float().mean() > 0.999  # but for ties
    assert network.source.startswith("sha256:")


def test_the_other_network_is_recognised_and_its_second_head_left_out(tmp_path):
    with torch.device("meta"):
        shapes = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True).state_dict()
    # One number for each tensor keeps the file small.
    torch.save({key: torch.zeros(()).expand(value.shape) for key, value in shapes.items()}, tmp_path / "deeplab.pth")
    network = Segmentation(tmp_path / "deeplab.pth")
    assert isinstance(network.network, DeepLabV3)
    assert not any("aux" in key for key in network.state_dict())
    assert not any(parameter.requires_grad for parameter in network.parameters())


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def changed(change):
    def make(state):
        state = dict(state)
        change(state)
        return state

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (changed(lambda s: s.pop("backbone.0.0.weight")), r"lacks backbone\.0\.0\.weight"),
        (changed(lambda s: s.update(extra=torch.zeros(1))), "also holds extra"),
        (changed(lambda s: s.update({"classifier.high_classifier.bias": torch.zeros(3)})), r"\(21,\) but has \(3,\)"),
        (changed(lambda s: s.update({"classifier.high_classifier.bias": 3})), r"\(21,\) but has \(\)"),
        (lambda state: list(state), "holds a list"),
        (lambda state: {}, "no weights of deeplabv3_resnet50, for it lacks"),
        (lambda state: {"a": Evil()}, "refused, since it holds more than tensors"),
    ],
)
def test_files_of_other_content_are_refused(tmp_path, original, make, message):
    path = tmp_path / "other.pth"
    torch.save(make(original.state_dict()), path)
    with pytest.raises(UserError, match=rf"other\.pth: .*{message}"):
        Segmentation(path)


def test_damaged_and_missing_files_are_refused(tmp_path, weights):
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut\.pth: damaged"):
        Segmentation(tmp_path / "cut.pth")
    with pytest.raises(UserError, match="segmentation=deeplab: no such file; give deeplabv3_resnet50, lraspp"):
        Segmentation("deeplab")


def test_the_networks_own_weights_are_looked_for_in_the_cache_and_fetched(tmp_path, monkeypatch, weights):
    name = "lraspp_mobilenet_v3_large"
    path = tmp_path / "checkpoints" / "lraspp_mobilenet_v3_large-d234d4ea.pth"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(url, target, hash_prefix):
        assert (target, hash_prefix) == (str(path), "d234d4ea")
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"no route.*internet.*segmentation=<its path>.*segmentation=null"):
        Segmentation(name)
    path.write_bytes(weights.read_bytes())
    with pytest.raises(UserError, match=r"damaged, its SHA-256 .* does not begin with d234d4ea"):
        Segmentation(name)
