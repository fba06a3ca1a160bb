import copy
import hashlib
import pickle
import sys
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers
from torchvision.transforms.functional import normalize

from lit_ghibli.errors import UserError
from lit_ghibli.networks import vgg
from lit_ghibli.networks.vgg import LAYERS, VggFeatures, layer_name


def torchvision_features():
    with torch.device("meta"):
        return make_layers(cfgs["E"])


def random_images(height=64, width=64, count=1, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def state_of(features, prefix=""):
    """What torchvision would save of the same network, cut at the same place."""
    convolutions = {name: layer for stage in features.stages for name, layer in stage.items() if name[:4] == "conv"}
    state = {}
    for name, layer in convolutions.items():
        state[f"{prefix}{LAYERS.index(name)}.weight"] = layer.weight.detach().clone()
        state[f"{prefix}{LAYERS.index(name)}.bias"] = layer.bias.detach().clone()
    return state


def reference(features, images, in_place=False):
    """Torchvision's own layers with the same weights in float64, and the value behind each."""
    layers = torchvision_features()[: LAYERS.index(features.taps[-1]) + 1].to_empty(device="cpu").double()
    layers.load_state_dict(state_of(features))
    x, values = normalize((images.double() + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), {}
    for name, layer in zip(LAYERS, layers, strict=False):
        if isinstance(layer, nn.ReLU):
            layer.inplace = in_place
        x = values[name] = layer(x)
    return values


def relative_error(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def biased(taps, **options):
    """Random features whose biases are not all zero, as trained ones are."""
    features = VggFeatures(taps, "random", **options)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in features.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.2, generator=generator)
    return features


# Layers by name and index


def test_layers_stand_where_torchvision_has_them():
    layers = torchvision_features()
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
    assert len(layers) == len(LAYERS)
    for index, (name, layer) in enumerate(zip(LAYERS, layers, strict=True)):
        assert type(layer) is kinds[name[:4]]
        assert layer_name(name) == layer_name(index) == layer_name(str(index)) == name
        if isinstance(layer, nn.Conv2d):
            expected = vgg._keys_and_shapes([name])
            assert expected == {f"{index}.weight": layer.weight.shape, f"{index}.bias": layer.bias.shape}


def test_indices_of_the_recipes():
    assert [layer_name(index) for index in (0, 5, 10, 19, 28)] == [f"conv{stage}_1" for stage in range(1, 6)]
    assert layer_name(29) == "relu5_1"


@pytest.mark.parametrize(
    ("tap", "offer"),
    [
        ("conv4_5", r"Did you mean conv4_4, conv4_3, conv4_2\?"),
        ("relu_41", "Did you mean relu4_1,"),
        ("Conv4", "Did you mean conv4_"),
        (37, "0 to 36"),
        (-1, "0 to 36"),
    ],
)
def test_an_unknown_layer_is_answered_with_the_nearest(tap, offer):
    with pytest.raises(UserError, match=f"VGG-19 has no layer {tap!r}.*{offer}"):
        VggFeatures(["conv1_1", tap], "random")


# Values


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
def test_values_and_gradients_agree_with_torchvision_in_float64(size, checkpoint):
    taps = ["relu3_2", 0, "relu1_1", "pool1", "conv2_2", 7, "conv3_1"]
    features = biased(taps, checkpoint=checkpoint)
    images = random_images(*size, count=2).requires_grad_()
    values = features(images)
    expected = reference(features, images)
    assert list(values) == ["conv1_1", "relu1_1", "pool1", "conv2_2", "conv3_1", "relu3_2"]
    for name, value in values.items():
        assert relative_error(value, expected[name]) < 1e-5
    (gradient,) = torch.autograd.grad(sum(value.square().mean() for value in values.values()), images)
    wanted = sum(expected[name].square().mean() for name in values)
    (expected_gradient,) = torch.autograd.grad(wanted, images)
    # In norm: a value that rounds to the other side of zero has another gradient, in any float32 arithmetic.
    assert (gradient - expected_gradient).norm() < 1e-3 * expected_gradient.norm()


def test_a_conv_tap_is_before_its_relu_and_what_the_documents_collect_is_the_relu_tap():
    features = biased(["conv1_2", "relu1_2", "conv2_1"])
    images = random_images(16, 16)
    values = features(images)
    assert (values["conv1_2"] < 0).any()
    assert torch.equal(values["relu1_2"], values["conv1_2"].clamp(min=0))
    collected = reference(features, images, in_place=True)["conv1_2"]
    torch.testing.assert_close(values["relu1_2"].double(), collected, rtol=1e-4, atol=1e-5)


def test_rectified_taps_are_those_of_loops_over_torchvisions_layers():
    """000 and 004 collect conv outputs that the next layer then rectifies in place."""
    features = biased(["conv1_1", "conv2_1", "relu2_1"], rectified=True)
    images = random_images(16, 16)
    values, collected = features(images), reference(features, images, in_place=True)
    for name in ("conv1_1", "conv2_1"):
        assert (values[name] == 0).any()
        torch.testing.assert_close(values[name].double(), collected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("input_range", ["imagenet", "unit", "caffe"])
def test_what_the_network_is_fed(input_range):
    features = VggFeatures(["conv1_1"], "random", input_range=input_range)
    images = random_images(8, 8)
    unit = ((images.double() + 1) / 2).numpy()
    fed = {
        "imagenet": (unit - [[[0.485]], [[0.456]], [[0.406]]]) / [[[0.229]], [[0.224]], [[0.225]]],
        "unit": unit,
        "caffe": 255 * unit[:, ::-1] - [[[103.939]], [[116.779]], [[123.68]]],
    }[input_range]
    weight = features.stages[0]["conv1_1"].weight.double()
    expected = nn.functional.conv2d(torch.tensor(fed), weight, padding=1)
    torch.testing.assert_close(features(images)["conv1_1"].double(), expected, rtol=1e-4, atol=1e-3)


def test_an_unknown_range_is_answered_with_all():
    with pytest.raises(UserError, match="input_range is 'bgr'; it must be one of imagenet, unit, caffe"):
        VggFeatures(["conv1_1"], "random", input_range="bgr")


def test_a_relu_that_no_tap_needs_the_input_of_works_in_place():
    layers = {
        name: layer for stage in VggFeatures(["conv2_1", "relu2_2"], "random").stages for name, layer in stage.items()
    }
    in_place = {name for name, layer in layers.items() if isinstance(layer, nn.ReLU) and layer.inplace}
    assert in_place == {"relu1_1", "relu1_2", "relu2_2"}


def test_average_pooling():
    values = VggFeatures(["relu1_2", "pool1"], "random", pool="average")(random_images(10, 13))
    assert values["pool1"].shape == (1, 64, 5, 6)
    means = values["relu1_2"][..., :10, :12].unflatten(3, (6, 2)).unflatten(2, (5, 2)).mean(dim=(3, 5))
    torch.testing.assert_close(values["pool1"], means)
    with pytest.raises(UserError, match="pool is 'median'; it must be 'max' or 'average'"):
        VggFeatures(["pool1"], "random", pool="median")


def test_pixels_beyond_the_range_still_have_a_gradient():
    images = (3 * random_images(8, 8)).requires_grad_()
    (gradient,) = torch.autograd.grad(VggFeatures(["conv1_1"], "random")(images)["conv1_1"].square().sum(), images)
    assert (images.abs() > 1).any()
    assert (gradient[images.abs() > 1] != 0).all()


def test_checkpointing_keeps_less_for_the_backward_pass():
    def bytes_kept(checkpoint):
        kept = {}

        def keep(tensor):
            kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        features = VggFeatures(["relu3_1"], "random", checkpoint=checkpoint)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = features(random_images(32, 32).requires_grad_())["relu3_1"]
        assert value.requires_grad
        return sum(kept.values())

    assert bytes_kept(checkpoint=True) < 0.2 * bytes_kept(checkpoint=False)


# Sizes


@pytest.mark.parametrize(
    ("tap", "minimum"), [("relu1_2", 1), ("pool1", 2), ("conv2_1", 2), ("relu3_1", 4), ("conv4_1", 8), (29, 16)]
)
def test_minimum_size(tap, minimum):
    features = VggFeatures([tap], "random")
    assert features.minimum_size == minimum
    assert features(random_images(minimum, minimum))[layer_name(tap)].shape[2:] == (1, 1)
    with pytest.raises(UserError, match=f"at least {minimum}x{minimum} pixels for {layer_name(tap)}"):
        features(torch.zeros(1, 3, 40, minimum - 1))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(UserError, match="it needs \\(N, 3, height, width\\)"):
        VggFeatures(["conv1_1"], "random")(torch.zeros(shape))


def test_layers_beyond_the_deepest_tap_are_not_built():
    assert sum(p.numel() for p in VggFeatures(["conv2_1", "conv1_1"], "random").parameters()) == 1792 + 36928 + 73856
    with pytest.raises(UserError, match="taps is empty"):
        VggFeatures([], "random")


# Frozen, and no part of checkpoints


class Holder(nn.Module):
    def __init__(self, seed):
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.features = VggFeatures(["conv2_1"], "random", seed=seed)


def test_frozen_in_evaluation_mode_and_movable():
    holder = Holder(seed=0).train()
    assert holder.head.training
    assert not any(module.training for module in holder.features.modules())
    assert not any(parameter.requires_grad for parameter in holder.features.parameters())
    holder.to("meta")
    tensors = [*holder.features.parameters(), *holder.features.buffers()]
    assert len(tensors) == 6 + 2
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_state_dicts_neither_store_nor_touch_nor_expect_the_weights():
    holder, other = Holder(seed=0), Holder(seed=1)
    before = state_of(other.features)
    assert list(holder.state_dict()) == ["head.weight", "head.bias"]
    other.load_state_dict(holder.state_dict(), strict=True)
    assert torch.equal(other.head.weight, holder.head.weight)
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_of(other.features).items())
    assert not torch.equal(before["0.weight"], state_of(holder.features)["0.weight"])


def test_copies_have_the_weights():
    features = VggFeatures(["conv1_2"], "random")
    images = random_images(8, 8)
    for duplicate in (copy.deepcopy(features), pickle.loads(pickle.dumps(features))):
        assert torch.equal(duplicate(images)["conv1_2"], features(images)["conv1_2"])
        assert duplicate.source == "random"


# Random weights


def test_random_weights_are_he_normal_seeded_and_private():
    state = torch.get_rng_state()
    features = VggFeatures(["conv3_2"], "random")
    assert features.source == "random"
    assert torch.equal(torch.get_rng_state(), state)
    weights = state_of(features)
    weight = weights["12.weight"]  # 256 x 256 x 9 draws
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert abs(weight.mean().item()) < 1e-3
    again, other = (state_of(VggFeatures(["conv2_1"], "random", seed=seed)) for seed in (0, 1))
    assert all(torch.equal(weights[key], again[key]) for key in again)  # a shallower cut starts with the same layers
    assert not torch.equal(other["5.weight"], again["5.weight"])


# Weights from files


@pytest.fixture
def drawn():
    return VggFeatures(["conv2_2"], "random", seed=5)


def same_features(path, original, tolerance=0.0):
    loaded = VggFeatures(original.taps, path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    images = random_images(16, 16)
    torch.testing.assert_close(loaded(images)["conv2_2"], original(images)["conv2_2"], rtol=tolerance, atol=tolerance)
    assert loaded.source == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "features."])
def test_a_file_of_the_whole_network_or_of_its_features(tmp_path, drawn, prefix, legacy):
    path = tmp_path / "vgg.pth"
    rest = {f"{prefix}10.weight": torch.zeros(1), "classifier.0.weight": torch.zeros(4, 4)}
    torch.save({**state_of(drawn, prefix), **rest}, path, _use_new_zipfile_serialization=not legacy)
    same_features(path, drawn)


def test_a_file_of_float16(tmp_path, drawn):
    path = tmp_path / "vgg.pt"
    torch.save({key: tensor.half() for key, tensor in state_of(drawn).items()}, path)
    same_features(path, drawn, tolerance=0.02)
    weight = state_of(VggFeatures(["conv1_1"], path))["0.weight"]
    assert torch.equal(weight, state_of(drawn)["0.weight"].half().float())


def test_the_file_is_not_needed_once_it_is_read(tmp_path, drawn):
    path = tmp_path / "vgg.pth"
    torch.save(state_of(drawn), path)
    loaded = VggFeatures(drawn.taps, str(path))
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(state_of(loaded)["7.weight"], state_of(drawn)["7.weight"])


def test_a_safetensors_file(tmp_path, drawn):
    save_file = pytest.importorskip("safetensors.torch").save_file
    path = tmp_path / "vgg.safetensors"
    save_file(state_of(drawn, "features."), path)
    same_features(path, drawn)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        VggFeatures(["conv1_1"], path)


def test_a_safetensors_file_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    path = tmp_path / "vgg.safetensors"
    path.touch()
    with pytest.raises(UserError, match=r"vgg\.safetensors: to read it, run `pip install safetensors`"):
        VggFeatures(["conv1_1"], path)


def test_the_first_mismatch_is_named(tmp_path, drawn):
    path = tmp_path / "vgg.pth"
    state = state_of(drawn, "features.")
    state["features.2.bias"] = torch.zeros(32)
    state["features.5.weight"] = torch.zeros(1)
    torch.save(state, path)
    with pytest.raises(UserError, match=r"features\.2\.bias should have the shape \(64,\) but has \(32,\)"):
        VggFeatures(["conv2_2"], path)
    assert VggFeatures(["conv1_1"], path).source.startswith("sha256:")  # the deeper layers are not looked at


def test_missing_keys_are_named(tmp_path, drawn):
    path = tmp_path / "vgg.pth"
    state = state_of(drawn, "features.")
    del state["features.2.bias"], state["features.7.weight"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"it lacks features\.2\.bias, features\.7\.weight; give a state dict"):
        VggFeatures(["conv2_2"], path)


class Stranger:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"<html>404</html>" * 99, "refused|damaged"),
        (Stranger(), "refused, since it holds more than tensors"),
        ([torch.zeros(1)], "holds a list"),
        ({"0.weight": 3, "0.bias": 3}, r"0\.weight should have the shape \(64, 3, 3, 3\) but has \(\)"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, content, message):
    path = tmp_path / "vgg.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=rf"vgg\.pth: ({message})"):
        VggFeatures(["conv1_1"], path)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"weights=imagenets: no such file; give imagenet, random"):
        VggFeatures(["conv1_1"], "imagenets")


# Torchvision's weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of torch.hub's cache, on a machine without internet."""

    def unreachable(*_arguments, **_options):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "checkpoints"


def test_imagenet_weights_without_internet_or_cache(cache):
    with pytest.raises(UserError, match=r"vgg19-dcbb9e9d\.pth.*name resolution.*internet.*<path of.*weights=random"):
        VggFeatures(["conv1_1"])


def test_imagenet_weights_from_the_cache(cache, drawn, monkeypatch):
    cache.mkdir()
    path = cache / "vgg19-dcbb9e9d.pth"
    torch.save(state_of(drawn, "features."), path)
    with pytest.raises(UserError, match=r"vgg19-dcbb9e9d\.pth: damaged, its SHA-256 \w+ does not begin with dcbb9e9d"):
        VggFeatures(["conv1_1"])
    path = path.rename(cache / f"vgg19-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    monkeypatch.setattr(vgg, "_IMAGENET_URL", path.as_uri())
    for weights in ("imagenet", path):
        features = VggFeatures(["conv2_2"], weights)
        assert features.source == "imagenet"
        assert torch.equal(state_of(features)["7.weight"], state_of(drawn)["7.weight"])


def test_imagenet_weights_are_fetched_into_the_cache(cache, drawn, monkeypatch):
    torch.save(state_of(drawn, "features."), served := cache.parent / "served.pth")
    digits = hashlib.sha256(served.read_bytes()).hexdigest()[:8]

    def fetch(url, path, hash_prefix):
        assert (url, hash_prefix) == (f"https://there/vgg19-{digits}.pth", digits)
        served.rename(path)

    monkeypatch.setattr(vgg, "_IMAGENET_URL", f"https://there/vgg19-{digits}.pth")
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert torch.equal(state_of(VggFeatures(["conv1_1"]))["0.weight"], state_of(drawn)["0.weight"])
