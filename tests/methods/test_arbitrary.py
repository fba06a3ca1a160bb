import copy
import itertools
from functools import partial

import pytest
import torch
from helpers.by_hand import connect, spy_on_gradients
from helpers.contrastive import pictures
from helpers.recipes import assert_defaults_are_those_of_the_recipe
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.inference import starting
from lit_ghibli.methods.arbitrary import Arbitrary
from lit_ghibli.networks.arbitrary import ArbitraryStylization
from lit_ghibli.networks.mobilenet import MobileNetFeatures

TINY = [
    "data=scenes",
    "data.crop_size=32",
    "method.generator.width=0.0625",
    "method.features.weights=random",
    "method.style_layers=[stem]",
    "method.content_layers=[block_0]",
]
SAME_ON_ALL_RANKS = ["method.color_jitter=[0,0,0]"]  # which is drawn for each process
ALL = {"content": 0.5, "style": 20.0, "tv": 0.3, "supervised": 2.0}


class Small(ArbitraryStylization):
    """The mean color of a style as its description, which a linear layer learns from."""

    def __init__(self) -> None:
        super().__init__(width=0.0625)
        self.predictor = MeanColor()


class MeanColor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 100)

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.head(pictures.mean(dim=(2, 3)))


def ready(**arguments) -> Arbitrary:
    """A method whose training_step can be called by hand, with small networks."""
    torch.manual_seed(0)
    small = {
        "generator": Small,
        "features": partial(MobileNetFeatures, weights="random"),
        "weights": ALL,
        "content_layers": ["block_0", "expand_1"],
        "style_layers": ["stem", "block_1"],
        "color_jitter": (0, 0, 0),
    }
    method = connect(Arbitrary(**small | arguments))
    method.setup("fit")
    return method


def batch_of(dtype=torch.float64) -> dict[str, torch.Tensor]:
    return pictures("photo", "anime", "pair_a", "pair_b", count=2, dtype=dtype)


def looped_gram(features: torch.Tensor) -> list[list[float]]:
    """Inner products of one image's maps (C, H, W), each divided by how many numbers they have together."""
    rows = features.flatten(1).tolist()
    total = features.numel()
    return [[sum(a * b for a, b in zip(one, other, strict=True)) / total for other in rows] for one in rows]


def mean_square(one, other) -> float:
    differences = [(a - b) ** 2 for a, b in zip(one, other, strict=True)]
    return sum(differences) / len(differences)


def test_defaults_are_those_of_the_recipe():
    ours = Arbitrary()
    theirs = assert_defaults_are_those_of_the_recipe(ours, "arbitrary")
    for name in ("content_layers", "style_layers", "train_predictor", "batch_keys"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert repr(ours.jitter) == repr(theirs.jitter)
    assert ours.make_features(["stem"], weights="random").taps == ("stem",)


def test_the_terms_are_those_of_loops():
    method = ready().double()
    photo, style = (torch.rand(2, 3, 32, 32, dtype=torch.float64) * 2 - 1 for _ in range(2))
    picture = torch.rand_like(photo) * 2 - 1
    terms = method.terms(picture, photo, style)
    seen, of_photo, of_style = (method.features(each) for each in (picture, photo, style))
    content = sum(
        mean_square(seen[layer].flatten().tolist(), of_photo[layer].flatten().tolist())
        for layer in ("block_0", "expand_1")
    )
    assert terms["content"].item() == pytest.approx(content, rel=1e-9)
    grams = 0.0
    for layer in ("stem", "block_1"):
        ours, theirs = (
            list(itertools.chain.from_iterable(row for image in each[layer] for row in looped_gram(image)))
            for each in (seen, of_style)
        )
        grams += mean_square(ours, theirs)
    assert terms["style"].item() == pytest.approx(grams, rel=1e-9)
    down, across = picture.diff(dim=-2), picture.diff(dim=-1)
    assert terms["tv"].item() == pytest.approx((down.square().mean() + across.square().mean()).item(), rel=1e-9)


@pytest.mark.parametrize("train_predictor", [True, False])
def test_a_step_has_the_losses_and_gradients_of_the_formulas(train_predictor):
    method = ready(train_predictor=train_predictor).double()
    batch = batch_of()
    network, features = copy.deepcopy(method.generator), method.features
    steps = spy_on_gradients(method)
    outputs = method.training_step(batch, 0)

    picture = network.transformer(batch["photo"], network.predictor.embed(batch["anime"]))
    finished = network.transformer(batch["pair_a"], network.predictor.embed(batch["pair_b"]))
    seen, photo, style = (features(each) for each in (picture, batch["photo"], batch["anime"]))

    def gram(maps: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,ndhw->ncd", maps, maps) / maps[0].numel()

    expected = {
        "content": sum((seen[layer] - photo[layer]).square().mean() for layer in ("block_0", "expand_1")),
        "style": sum((gram(seen[layer]) - gram(style[layer])).square().mean() for layer in ("stem", "block_1")),
        "tv": picture.diff(dim=-2).square().mean() + picture.diff(dim=-1).square().mean(),
        "supervised": (finished - batch["pair_b"]).abs().mean(),
    }
    assert outputs["losses"].keys() == expected.keys()
    for name, value in expected.items():
        assert outputs["losses"][name].item() == pytest.approx(value.item(), rel=1e-9), name
    torch.testing.assert_close(outputs["output"], picture.detach())
    trained = {name: each for name, each in network.named_parameters() if train_predictor or "predictor" not in name}
    gradients = torch.autograd.grad(sum(ALL[name] * value for name, value in expected.items()), [*trained.values()])
    assert len(steps) == method.iteration == 1
    assert steps[0]["generator"].keys() == trained.keys()
    for name, gradient in zip(trained, gradients, strict=True):
        torch.testing.assert_close(steps[0]["generator"][name], gradient, rtol=1e-7, atol=1e-12)


def test_a_finished_picture_is_learned_in_the_style_of_another_where_triples_name_one():
    method = ready(weights={"content": 0, "style": 0, "tv": 0, "supervised": 1}).double()
    batch = {**batch_of(), **pictures("pair_style", count=2)}
    network = copy.deepcopy(method.generator)
    finished = network.transformer(batch["pair_a"], network.predictor.embed(batch["pair_style"]))
    expected = (finished - batch["pair_b"]).abs().mean().item()
    assert method.training_step(batch, 0)["losses"]["supervised"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("zero", ALL)
def test_a_weight_of_zero_removes_its_term(zero):
    method = ready(weights={**ALL, zero: 0.0})
    batch = batch_of(torch.float32)
    if zero == "supervised":
        del batch["pair_a"], batch["pair_b"]
    assert set(method.training_step(batch, 0)["losses"]) == set(ALL) - {zero}
    assert ("pair_a" in method.batch_keys) == (zero != "supervised")
    if zero in ("content", "style"):
        left = {"content": ("stem", "block_1"), "style": ("block_0", "expand_1")}[zero]
        assert set(method.features.taps) == set(left)


def test_without_features_no_network_is_loaded():
    method = ready(weights={"content": 0, "style": 0, "tv": 1, "supervised": 0})
    assert method.features is None
    assert set(method.training_step(batch_of(torch.float32), 0)["losses"]) == {"tv"}
    assert not any(name.startswith("features") for name in ready().state_dict())


def test_the_mean_style_is_that_of_all_steps():
    method = ready(
        weights={"content": 0, "style": 0, "tv": 1, "supervised": 0}, optimizer=partial(torch.optim.SGD, lr=0)
    )
    seen = []
    for step in range(3):
        batch = {**batch_of(torch.float32), "anime": torch.rand(2, 3, 8, 8)}
        seen.append(method.generator.embed(batch["anime"]).detach())
        method.training_step(batch, step)
    torch.testing.assert_close(method.generator.style, torch.cat(seen).mean(dim=0, keepdim=True))
    photo = batch["photo"]
    torch.testing.assert_close(method.translator()(photo), method.generator(photo, method.generator.style))


def test_colors_of_styles_are_jittered_within_their_range():
    method = ready(color_jitter=(0.8, 0.5, 0.2))
    styles = batch_of(torch.float32)["anime"]
    torch.manual_seed(0)
    jittered = method.jittered(styles)
    assert jittered.shape == styles.shape
    assert -1 <= jittered.min() < jittered.max() <= 1
    assert (jittered - styles).abs().mean() > 0.02
    torch.manual_seed(0)
    assert torch.equal(method.jittered(styles), jittered)


def test_a_training_starts_from_published_weights(monkeypatch, tmp_path):
    from pathlib import Path

    torch.manual_seed(0)
    published = ArbitraryStylization().state_dict()
    (tmp_path / "file").write_bytes(b"weights")
    monkeypatch.setattr(starting, "published_weights", lambda: published)
    monkeypatch.setattr(starting, "find_file", lambda name: tmp_path / "file")
    network = ArbitraryStylization()
    note = starting.start_from(network, Path("magenta"), {})
    assert note["file"] == str(tmp_path / "file")
    assert all(torch.equal(value, published[name]) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match=r"weights=magenta: its ArbitraryStylization is another generator"):
        starting.start_from(ArbitraryStylization(width=0.5), Path("magenta"), {"width": 0.5})


def test_one_step_lowers_the_loss():
    method = ready(optimizer=partial(torch.optim.Adam, lr=1e-3))
    batch = batch_of(torch.float32)
    before, *_, after = (method.training_step(batch, step)["losses"] for step in range(4))
    assert sum(ALL[name] * after[name] for name in ALL) < sum(ALL[name] * before[name] for name in ALL)
