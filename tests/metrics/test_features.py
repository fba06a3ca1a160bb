"""Feature extractors, and the cache of what they make of real pictures."""

import copy

import pytest
import torch
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.images import to_uint8
from lit_ghibli.metrics import features as features_module
from lit_ghibli.metrics.feature_cache import FeatureCache
from lit_ghibli.metrics.feature_sets import FeatureSets
from lit_ghibli.metrics.features import FeatureExtractor, load_extractor


def pictures(count: int, side: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class Means(nn.Module):
    """Mean red, green and blue, and how many pictures it was asked for."""

    seen = 0

    def forward(self, images):
        self.seen += len(images)
        return images.float().mean(dim=(2, 3))


@pytest.fixture
def means():
    return FeatureExtractor(Means(), "means", "none", "none", is_inception=False)


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    load_extractor.cache_clear()


# --- extractors -----------------------------------------------------------------


def test_random_features_are_always_the_same_and_touch_no_generator():
    load_extractor.cache_clear()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_extractor("random")(pictures(3))
    assert torch.equal(torch.get_rng_state(), before)
    load_extractor.cache_clear()
    second = load_extractor("random")(pictures(3))
    assert first.shape == (3, 64)
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_features_are_float32_under_autocast_and_without_a_graph():
    extractor = load_extractor("random")
    plain = extractor(pictures(2))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = extractor(pictures(2))
    assert torch.equal(plain, mixed)
    assert mixed.dtype == torch.float32
    assert not mixed.requires_grad


def test_many_pictures_are_taken_a_few_at_a_time(means, monkeypatch):
    monkeypatch.setattr(features_module, "_PICTURES_AT_ONCE", 2)
    expected = pictures(5).float().mean(dim=(2, 3))
    assert torch.equal(means(pictures(5)), expected)


@pytest.mark.parametrize("features", ["inception", "torchvision"])
def test_missing_weights_name_the_ways_out(features, no_weights, tmp_path):
    with pytest.raises(UserError) as caught:
        load_extractor(features)
    message = str(caught.value)
    for part in (str(tmp_path / "hub"), "no network", "metrics.features=<path", "metrics=weight_free", "random"):
        assert part in message


def test_an_unknown_choice_is_named():
    with pytest.raises(UserError, match=r"metrics.features=inceptoin: no such file; choose inception, torchvision"):
        load_extractor("inceptoin")


def test_vgg_features_are_spatial_means(monkeypatch):
    vgg = features_module.VggFeatures

    def with_random_weights(taps, weights):
        assert weights == "imagenet"
        return vgg(taps, weights="random")

    monkeypatch.setattr(features_module, "VggFeatures", with_random_weights)
    load_extractor.cache_clear()
    extractor = load_extractor("vgg19")
    load_extractor.cache_clear()
    images = pictures(1, side=224)  # its own size: nothing is resized
    maps = vgg(["relu4_1"], weights="random")(images.float() / 127.5 - 1)["relu4_1"]
    assert torch.allclose(extractor(images), maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    assert not extractor.is_inception


@pytest.mark.parametrize(("classes", "maker"), [(1000, "TorchvisionInception"), (1008, "tensorflow_inception")])
def test_the_two_inceptions_are_told_apart(classes, maker, tmp_path, monkeypatch):
    torch.save({"fc.bias": torch.zeros(classes)}, tmp_path / "weights.pth")
    monkeypatch.setattr(features_module, maker, lambda path: Means())
    extractor = load_extractor(str(tmp_path / "weights.pth"))
    assert isinstance(extractor.network, Means)
    assert len(extractor.weights) == 16
    assert extractor.is_inception


# --- cache ----------------------------------------------------------------------


def test_real_pictures_are_extracted_once_in_any_batches(means, tmp_path):
    expected = means.network(pictures(4))
    means.network.seen = 0
    first = FeatureCache(tmp_path, means)(pictures(4))
    assert means.network.seen == 4
    cache = FeatureCache(tmp_path, means)
    again = torch.cat([cache(pictures(4)[:3]), cache(pictures(4)[3:])])
    assert means.network.seen == 4
    assert torch.equal(first, expected)
    assert torch.equal(again, expected)
    cache(torch.cat([pictures(4)[1:], pictures(1, seed=1)]))
    assert means.network.seen == 5, "but a new one is"


@pytest.mark.parametrize("field", ["name", "weights", "resize"])
def test_other_extractors_have_features_of_their_own(field, means, tmp_path):
    FeatureCache(tmp_path, means)(pictures(1))
    other = copy.copy(means)
    setattr(other, field, "another")
    FeatureCache(tmp_path, other)(pictures(1))
    assert means.network.seen == 2


def test_damaged_files_are_replaced(means, tmp_path):
    cache = FeatureCache(tmp_path, means)
    expected = cache(pictures(1))
    (path,) = cache.folder.iterdir()
    for damaged in (b"", path.read_bytes()[:-3], b"nonsense"):
        path.write_bytes(damaged)
        assert torch.equal(cache(pictures(1)), expected)
    assert [each.name for each in cache.folder.iterdir()] == [path.name]
    assert means.network.seen == 4


def test_a_folder_that_cannot_be_written_is_told_once(means, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = FeatureCache(tmp_path / "file", means)
    for _ in range(2):
        assert torch.equal(cache(pictures(2)), means.network(pictures(2)))
    assert caplog.text.count("are not cached") == 1


def test_generated_pictures_are_not_cached(means, tmp_path):
    sets = FeatureSets(means, tmp_path)
    images = pictures(3).float() / 127.5 - 1
    sets.update(images, real=False)
    assert not list(tmp_path.rglob("*.npy"))
    sets.update(images[:2], real=True)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    real, fake = sets.compute()
    assert torch.equal(fake, to_uint8(images[:2]).float().mean(dim=(2, 3))), "cut to as many as the real ones"
    assert torch.equal(real, fake)


def test_pictures_are_rounded_to_the_nearest_level_once(means, tmp_path):
    sets = FeatureSets(means, tmp_path)
    sets.update(torch.full((1, 3, 4, 4), -0.5), real=False)  # level 63.75
    sets.update(torch.full((1, 3, 4, 4), -0.5), real=True)
    assert [features.unique().tolist() for features in sets.compute()] == [[64.0], [64.0]]
