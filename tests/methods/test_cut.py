import copy
from collections import Counter
from functools import partial

import pytest
import torch
from helpers.by_hand import connect, gradients, spy_on_gradients
from helpers.contrastive import (
    assert_networks_are_the_released_ones,
    enliven,
    features,
    fix_locations,
    moved,
    nce,
    over,
    pictures,
)
from helpers.recipes import assert_defaults_are_those_of_the_recipe, read_recipe

from lit_ghibli.errors import UserError
from lit_ghibli.methods.cut import CUT
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.patch_mlp import PatchMlp
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.recipes import build

TINY = [
    "data=scenes",
    "data.crop_size=28",
    "method.generator.base_channels=4",
    "method.generator.num_blocks=1",
    "method.discriminator.base_channels=4",
    "method.discriminator.num_layers=2",
    "method.projection.dim=8",
    "method.num_patches=16",
    "method.flip_equivariance=true",
]
SAME_ON_ALL_RANKS = [
    "method.num_patches=1156",  # all locations of 28x28 pixels and the 3 around them, in whatever order
    "method.flip_equivariance=false",  # drawn by each process itself
]
SMALL = {
    "generator": partial(ResnetGenerator, base_channels=4, num_blocks=3, downsample="blur", upsample="bilinear"),
    "discriminator": partial(PatchDiscriminator, base_channels=4, num_layers=2, downsample="blur"),
    "projection": partial(PatchMlp, dim=8),
    "num_patches": 12,
}


def ready(**arguments) -> CUT:
    """A method whose training_step can be called by hand, with tiny networks unless others are given."""
    torch.manual_seed(0)
    return connect(CUT(**SMALL | arguments))


def test_defaults_are_those_of_the_recipe():
    ours = CUT()
    theirs = assert_defaults_are_those_of_the_recipe(ours, "cut")
    for name in ("identity", "flip_equivariance", "num_patches", "temperature"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_defaults_start_as_those_of_the_recipe():
    """A printed network does not say how it starts."""
    assert_networks_are_the_released_ones(CUT())


def test_the_recipes_are_the_published_ones():
    cut, fastcut = (build(read_recipe(name)) for name in ("cut", "fastcut"))
    for method in (cut, fastcut):
        assert_networks_are_the_released_ones(method)
    assert (cut.weights, fastcut.weights) == ({"gan": 1, "nce": 1}, {"gan": 1, "nce": 10})
    assert [(m.identity, m.flip_equivariance) for m in (cut, fastcut)] == [(True, False), (False, True)]
    assert [(m.epochs, m.decay_epochs) for m in (cut, fastcut)] == [(400, 200), (200, 50)]
    assert (cut.num_patches, cut.temperature) == (256, 0.07)
    # Two linear layers for each of RGB, 128, 256, 256, 256 channels
    heads = sum(channels * 256 + 256 + 256 * 256 + 256 for channels in (3, 128, 256, 256, 256))
    assert sum(p.numel() for p in cut.projection.parameters()) == heads


def test_a_step_has_the_losses_and_gradients_of_the_formulas(monkeypatch):
    locations = fix_locations(monkeypatch)
    weights = {"gan": 0.7, "nce": 2.0}
    method = ready(weights=weights).double()
    enliven(method.projection)
    batch = pictures("photo", "anime")
    g, d, h = (copy.deepcopy(getattr(method, name)) for name in ("generator", "discriminator", "projection"))
    fake, same = g(batch["photo"]), g(batch["anime"])
    expected = {"discriminator": moved(d, batch["anime"], fake)}
    z = [features(g, images, h, locations) for images in (fake, batch["photo"], same, batch["anime"])]
    expected |= {"gan": ((d(fake) - 1) ** 2).mean(), "nce": (over(nce, z[0], z[1]) + over(nce, z[2], z[3])) / 2}
    (weights["gan"] * expected["gan"] + weights["nce"] * expected["nce"]).backward()

    for parameter in method.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # of the step before: must not count
    seen = spy_on_gradients(method)
    losses = {name: loss.item() for name, loss in method.training_step(batch, 0)["losses"].items()}
    assert losses == pytest.approx({name: term.item() for name, term in expected.items()}, rel=1e-5)
    assert [set(step) for step in seen] == [{"discriminator"}, {"generator", "projection"}]
    for name, network in {"generator": g, "projection": h}.items():
        reference = gradients(network)
        assert seen[1][name].keys() == reference.keys()
        for parameter, gradient in seen[1][name].items():
            torch.testing.assert_close(gradient, reference[parameter], rtol=1e-5, atol=1e-8, msg=f"{name}.{parameter}")


@pytest.mark.parametrize(
    ("weights", "arguments", "calls"),
    [
        # G: x, its output's features, y, its output's. D: real, fake, for G.
        ({"gan": 1.0, "nce": 1.0}, {}, {"generator": 4, "discriminator": 3, "projection": 4}),
        ({"gan": 1.0, "nce": 1.0}, {"identity": False}, {"generator": 2, "discriminator": 3, "projection": 2}),
        ({"gan": 1.0, "nce": 0.0}, {}, {"generator": 1, "discriminator": 3}),
        ({"gan": 0.0, "nce": 1.0}, {}, {"generator": 4, "discriminator": 0, "projection": 4}),
    ],
)
def test_a_weight_of_zero_removes_the_computation(weights, arguments, calls):
    method, counted = ready(weights=weights, **arguments), Counter()
    for name, network in method.networks().items():
        network.register_forward_hook(lambda *_, name=name: counted.update([name]))
    outputs = method.training_step(pictures("photo", "anime", count=1, dtype=torch.float32), 0)
    assert {name: counted[name] for name in method.networks()} == calls
    terms = {name for name, weight in weights.items() if weight}
    assert set(outputs["losses"]) == terms | ({"discriminator"} if "gan" in terms else set())
    assert not any(loss.requires_grad for loss in outputs["losses"].values())
    assert not gradients(method), "gradients outlive their phase"


def test_flips_are_undone_in_the_features(monkeypatch):
    locations = fix_locations(monkeypatch)
    method = ready(weights={"gan": 0.0, "nce": 1.0}, identity=False, flip_equivariance=True).double()
    enliven(method.projection)
    batch, g, h = pictures("photo", "anime"), method.generator, method.projection
    with torch.no_grad():
        mirrored = features(g, g(batch["photo"].flip(-1)).flip(-1), h, locations)
        maps = g(g(batch["photo"].flip(-1)), picture=False, features=True).features
        locations = {name: locations[name] for name in h.heads}
        queries = h({name: maps[name].flip(-1) for name in h.heads}, locations)
        keys = features(g, batch["photo"], h, locations)
        expected, plain = (over(nce, q, keys).item() for q in (queries, features(g, g(batch["photo"]), h, locations)))
    assert mirrored["padded_pixels"].allclose(queries["padded_pixels"]), (
        "as to the pixels it is the picture mirrored back"
    )
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(0.4))
    assert method.training_step(batch, 0)["losses"]["nce"].item() == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(plain, rel=1e-3)


def test_evaluations_of_ode_blocks_are_logged():
    method, logged = ready(generator=partial(OdeGenerator, base_channels=4, num_blocks=1)), {}
    method.log_dict = lambda values, **options: logged.update(values)
    method.training_step(pictures("photo", "anime", count=1, dtype=torch.float32), 0)
    assert logged["train/nfe"] == 2


def test_what_fits_no_configuration_is_refused():
    with pytest.raises(UserError, match=r"some of pixels, padded_pixels, down1, .*got \['down3'\]"):
        CUT(**SMALL, nce_layers=["down3"])
    with pytest.raises(UserError, match=r"method\.num_patches .* 2, .* got 1"):
        CUT(**SMALL | {"num_patches": 1})
    with pytest.raises(UserError, match=r"method\.temperature .* got 0"):
        CUT(**SMALL, temperature=0)
    with pytest.raises(UserError, match=r"this method has \['gan', 'nce'\]"):
        CUT(**SMALL, weights={"gan": 1.0, "hdce": 1.0})
