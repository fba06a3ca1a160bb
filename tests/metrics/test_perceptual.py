import pytest
import torch
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchvision.models.vgg import cfgs, make_layers

from lit_ghibli.errors import UserError
from lit_ghibli.metrics import perceptual
from lit_ghibli.metrics.perceptual import PerceptualDistance
from lit_ghibli.networks.lpips import build_lpips

MEAN, STD = (torch.tensor(of).view(3, 1, 1) for of in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def images(seed: int, side: int = 40) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_it_is_torchmetrics_with_the_weights_of_a_file(tmp_path):
    reference = _NoTrainLpips(net="alex", pnet_rand=True)  # a random backbone, with the heads that it ships
    state = {f"features.{name.split('.', 1)[1]}": value for name, value in reference.net.state_dict().items()}
    torch.save({**state, "classifier.6.bias": torch.zeros(1000)}, tmp_path / "alexnet.pth")
    ours = PerceptualDistance("alex", str(tmp_path / "alexnet.pth"))
    expected = reference(images(0), images(1), normalize=True).flatten()
    assert torch.allclose(ours(images(0), images(1)), expected, rtol=1e-5)
    assert expected.min() > 0
    assert ours(images(0), images(0)).tolist() == [0.0, 0.0]
    assert len(ours.source) == 16


def test_vgg19_has_no_heads_and_is_not_called_lpips():
    """Eq. 1 of Zhang et al. 2018 by a loop over torchvision's own layers, every channel with the same weight."""
    ours = PerceptualDistance("vgg19", "random")
    with torch.device("meta"):
        layers = make_layers(cfgs["E"])
    pictures = [(images(seed) - MEAN) / STD for seed in (0, 1)]
    convolutions = [
        layer for stage in ours._network.features.stages for name, layer in stage.items() if name[:4] == "conv"
    ]
    expected = torch.zeros(2, dtype=torch.float64)
    for index, layer in enumerate(layers):
        with torch.no_grad():
            if isinstance(layer, torch.nn.Conv2d):
                layer = convolutions.pop(0)
            pictures = [layer(picture) for picture in pictures]
        if index in (3, 8, 17, 26, 35):
            first, second = (torch.nn.functional.normalize(picture.double(), dim=1) for picture in pictures)
            expected += (first - second).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(ours(images(0), images(1)).double(), expected, rtol=1e-4, atol=0)
    assert ours(images(0), images(0)).tolist() == [0.0, 0.0]


def test_names_of_distances(monkeypatch):
    monkeypatch.setattr(perceptual, "build_lpips", lambda backbone, weights, _: (torch.nn.Module(), weights))
    titles = {(b, w): PerceptualDistance(b, w).title for b in ("alex", "vgg", "vgg19") for w in ("random", "file")}
    assert [titles[backbone, "random"] for backbone in ("alex", "vgg19")] == ["perceptual_random"] * 2
    assert [titles[backbone, "file"] for backbone in ("alex", "vgg", "vgg19")] == ["lpips", "lpips", "perceptual_vgg19"]


def test_random_weights_are_always_the_same_and_touch_no_generator():
    build_lpips.cache_clear()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = []
    for _ in range(2):
        values.append(PerceptualDistance("alex", "random")(images(0), images(1)))
        build_lpips.cache_clear()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*values)
    assert PerceptualDistance("alex", "random").source == "random"


def test_missing_weights_name_the_ways_out(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"alexnet.*metrics.lpips_weights=<path of .* torchvision's alexnet>.*random"):
        PerceptualDistance("alex")


def test_wrong_backbones_and_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"metrics.lpips=squeeze: choose one of alex, vgg"):
        PerceptualDistance("squeeze")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.pth")
    with pytest.raises(UserError, match=r"no weights of torchvision's alexnet, for it lacks features\.0\.bias"):
        PerceptualDistance("alex", str(tmp_path / "vgg.pth"))
