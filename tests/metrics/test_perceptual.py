import pytest
import torch
from torchmetrics.functional.image.lpips import _NoTrainLpips

from lit_ghibli.errors import UserError
from lit_ghibli.metrics.perceptual import PerceptualDistance
from lit_ghibli.networks.lpips import build_lpips


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
