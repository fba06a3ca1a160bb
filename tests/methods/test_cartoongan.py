import copy
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers.by_hand import connect, gradients, loops, spy_on_gradients
from helpers.contrastive import pictures
from helpers.recipes import assert_defaults_are_those_of_the_recipe, read_recipe
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.methods.cartoongan import CartoonGAN
from lit_ghibli.networks.cartoon_discriminator import CartoonDiscriminator
from lit_ghibli.networks.cartoongan import CartoonGenerator
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.recipes import build
from lit_ghibli.training.edge_smoothing import smooth_edges

TINY = [
    "data=scenes",
    "data.crop_size=28",
    "method.generator.base_channels=4",
    "method.generator.num_blocks=1",
    "method.discriminator.base_channels=4",
    "method.vgg.weights=random",
    "method.vgg.taps=[conv2_1]",
    "method.feature_scale.photographs=2",
    "method.content_size=32",
    "method.pool_size=3",
]
SAME_ON_ALL_RANKS = ["method.pool_size=0"]
SMALL = {
    "generator": partial(CartoonGenerator, base_channels=4, num_blocks=1),
    "discriminator": partial(CartoonDiscriminator, base_channels=4),
    "vgg": partial(VggFeatures, taps=("conv2_1",), weights="random"),
    "content_size": 20,
    "initialization_epochs": 0,
    "initialization_decay_epochs": 0,
}
MEASURED = 1.3  # mean absolute feature
FORMULAS = {  # of how far logits are from being taken for real, and for not real
    "lsgan": (lambda d: ((d - 1) ** 2).mean(), lambda d: (d**2).mean()),
    "log": (lambda d: -d.sigmoid().log().mean(), lambda d: -(1 - d.sigmoid()).log().mean()),
}


def ready(**arguments) -> CartoonGAN:
    """A method whose training_step can be called by hand, with tiny networks unless others are given."""
    torch.manual_seed(0)
    method = connect(CartoonGAN(**SMALL | arguments))
    method.setup("fit")
    method.feature_scale.measured.fill_(MEASURED)
    return method


def batch_of(count: int = 2, dtype=torch.float32) -> dict[str, torch.Tensor]:
    return pictures("photo", "anime", count=count, dtype=dtype)


def epoch_of(method: CartoonGAN, batches: int, monkeypatch) -> None:
    monkeypatch.setattr(type(method.trainer), "num_training_batches", batches)


def test_defaults_are_those_of_the_recipe():
    ours = CartoonGAN()
    theirs = assert_defaults_are_those_of_the_recipe(ours, "cartoongan")
    initialization = [f"initialization_{name}" for name in ("epochs", "decay_epochs", "lr")]
    for name in ("adversarial", "smooth_edges", "content_size", *initialization):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.make_vgg.keywords["taps"] == tuple(theirs.make_vgg.keywords["taps"])
    assert repr(ours.feature_scale) == repr(theirs.feature_scale)


def test_the_recipes_are_those_of_the_authors_code_and_of_the_paper():
    authors, paper = (build(read_recipe(name)) for name in ("cartoongan", "cartoongan_paper"))
    for method in (authors, paper):
        assert sum(p.numel() for p in method.generator.parameters()) == 11_129_667
        assert method.weights == {"gan": 1, "content": 10}
        assert (method.decay_epochs, method.epochs - method.initialization_epochs) == (100, 200)
        for optimizer in method.configure_optimizers()[0]:
            assert (optimizer.defaults["lr"], tuple(optimizer.defaults["betas"])) == (1e-5, (0.5, 0.999))
    settings = [(m.adversarial, m.pool.size, m.content_size) for m in (authors, paper)]
    assert settings == [("lsgan", 50, 224), ("log", 0, 0)]
    assert [m.initialization_epochs for m in (authors, paper)] == [20, 10]


def test_rates_of_both_networks():
    method = ready(epochs=8, decay_epochs=2, initialization_epochs=4, initialization_decay_epochs=2)
    rates = []
    for _ in range(8):
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in method.trainer.optimizers])
        method.on_train_epoch_end()
    factors = [20, 20, 40 / 3, 20 / 3, 1, 1, 2 / 3, 1 / 3]
    assert [g for g, _ in rates] == pytest.approx([1e-5 * factor for factor in factors])
    assert [d for _, d in rates[4:]] == pytest.approx([1e-5 * factor for factor in factors[4:]])


def test_a_shorter_training_keeps_the_shares():
    read = {epochs: read_recipe("cartoongan", f"method.epochs={epochs}") for epochs in (1, 22)}
    names = ("initialization_epochs", "initialization_decay_epochs", "decay_epochs")
    assert [read[22][name] for name in names] == [2, 1, 10]
    assert [read[1][name] for name in names] == [0, 0, 0]


@pytest.mark.parametrize("adversarial", FORMULAS)
@pytest.mark.parametrize("pool_size", [0, 50])
def test_a_step_has_the_losses_and_gradients_of_the_formulas(adversarial, pool_size):
    real, unreal = FORMULAS[adversarial]
    weights = {"gan": 0.7, "content": 9.0}
    method = ready(weights=weights, adversarial=adversarial, pool_size=pool_size).double()
    batch = batch_of(dtype=torch.float64)
    x, y = batch["photo"], batch["anime"]
    g, d, vgg = (copy.deepcopy(getattr(method, name)) for name in ("generator", "discriminator", "vgg"))
    fake = g(x)
    assert not torch.equal(smooth_edges(y), y)
    expected = {"discriminator": real(d(y)) + unreal(d(smooth_edges(y))) + unreal(d(fake.detach()))}
    expected["discriminator"].backward()
    expected_d = {name: gradient.clone() for name, gradient in gradients(d).items()}
    torch.optim.Adam(d.parameters(), lr=1e-5, betas=(0.5, 0.999)).step()
    expected["gan"] = real(d(fake))
    v = [vgg(F.interpolate(each, (20, 20), mode="bilinear", align_corners=True))["conv2_1"] for each in (fake, x)]
    expected["content"] = (v[0] - v[1]).abs().mean() * 100 / MEASURED
    (weights["gan"] * expected["gan"] + weights["content"] * expected["content"]).backward()

    for parameter in method.generator.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # of the step before: must not count
    seen = spy_on_gradients(method)
    losses = {name: loss.item() for name, loss in method.training_step(batch, 0)["losses"].items()}
    assert losses == pytest.approx({name: term.item() for name, term in expected.items()}, rel=1e-6)
    assert [set(step) - {"generator"} for step in seen] == [{"discriminator"}, set()]
    for found, reference in ((seen[0]["discriminator"], expected_d), (seen[1]["generator"], gradients(g))):
        assert found.keys() == reference.keys()
        for parameter, gradient in found.items():
            torch.testing.assert_close(gradient, reference[parameter], rtol=1e-5, atol=1e-9, msg=parameter)


def test_the_scale_of_features_is_measured_on_squeezed_photographs():
    method = ready()
    method.feature_scale.measured.zero_()
    crops = [torch.rand(1, 3, 28, 28) * 2 - 1 for _ in range(2)]
    wanted = []
    method.trainer.datamodule = SimpleNamespace(training_crops=lambda *what: wanted.append(what) or iter(crops))
    method.on_train_start()
    assert wanted == [("photo", 64)]
    squeezed = F.interpolate(torch.cat(crops), (20, 20), mode="bilinear", align_corners=True)
    assert method.features(torch.cat(crops)).abs().mean().item() == pytest.approx(100, rel=1e-5)
    torch.testing.assert_close(method.feature_scale.measured, method.vgg(squeezed)["conv2_1"].abs().mean())


def test_pictures_are_squeezed_for_content_only_if_asked_for():
    method, batch = ready(content_size=0, weights={"gan": 0.0, "content": 1.0}), batch_of()
    with torch.no_grad():
        fake, vgg = method.generator(batch["photo"]), method.vgg
        expected = (vgg(fake)["conv2_1"] - vgg(batch["photo"])["conv2_1"]).abs().mean() * 100 / MEASURED
    torch.testing.assert_close(method.training_step(batch, 0)["losses"]["content"], expected)


def test_the_initialisation_does_not_touch_the_discriminator(monkeypatch):
    method, batch = ready(initialization_epochs=2), batch_of()
    epoch_of(method, 3, monkeypatch)
    method.on_load_checkpoint(
        {"loops": loops(4), "ranks": [], "state_dict": method.state_dict()}
    )  # resumed in the second epoch
    before = copy.deepcopy(method.discriminator.state_dict())
    seen = spy_on_gradients(method)
    for _ in range(2):
        outputs = method.training_step(batch, 0)
        assert set(outputs) == {"losses"}  # the doctor shall not warn of outputs that equal their photographs
        assert set(outputs["losses"]) == {"content"}
    assert [set(step) for step in seen] == [{"generator"}] * 2
    assert all(torch.equal(value, before[name]) for name, value in method.discriminator.state_dict().items())
    assert not method.pool.images
    outputs = method.training_step(batch, 0)
    assert set(outputs) == {"losses", "input", "output"}
    assert set(outputs["losses"]) == {"content", "gan", "discriminator"}
    assert [set(step) for step in seen[2:]] == [{"discriminator"}, {"generator"}]


def test_the_initialisation_is_a_level_of_its_own_for_a_forecast():
    method = ready(initialization_epochs=2)
    method.trainer = trainer = SimpleNamespace(num_training_batches=8, max_epochs=5)
    assert [length for _, length in method.levels] == [16, 24]
    trainer.max_epochs = 2
    assert method.levels == []
    method.initialization_epochs = 0
    assert method.levels == []


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        # D: real, fake, soft edges, for G. VGG: photograph and output.
        ({}, {"generator": 1, "discriminator": 4, "vgg": 2}),
        ({"smooth_edges": False}, {"generator": 1, "discriminator": 3, "vgg": 2}),
        ({"weights": {"gan": 0.0, "content": 1.0}}, {"generator": 1, "discriminator": 0, "vgg": 2}),
        ({"weights": {"gan": 1.0, "content": 0.0}}, {"generator": 1, "discriminator": 4}),
    ],
)
def test_what_has_no_weight_is_not_computed(arguments, calls):
    method, counted = ready(**arguments), Counter()
    for name, network in method.networks().items():
        network.register_forward_hook(lambda *_, name=name: counted.update([name]))
    outputs = method.training_step(batch_of(1), 0)
    assert {name: counted[name] for name in method.networks()} == calls
    assert not any(loss.requires_grad for loss in outputs["losses"].values())
    assert not gradients(method), "gradients outlive their phase"


def test_vgg_is_loaded_for_training_only(tmp_path):
    nowhere = partial(VggFeatures, taps=("conv2_1",), weights=tmp_path / "vgg19.pth")
    method = connect(CartoonGAN(**SMALL | {"vgg": nowhere}))
    method.setup("predict")
    with pytest.raises(UserError, match=r"vgg19\.pth: no such file"):
        method.setup("fit")


def test_what_fits_no_configuration_is_refused():
    with pytest.raises(UserError, match=r"method\.adversarial is 'hinge'; it must be one of lsgan, log"):
        CartoonGAN(**SMALL, adversarial="hinge")
    with pytest.raises(UserError, match=r"initialization_epochs \(6\) .* must fit into method\.epochs = 5"):
        CartoonGAN(**SMALL | {"initialization_epochs": 6}, epochs=5)
    with pytest.raises(UserError, match=r"nothing to learn in the initialisation.*initialization_epochs=0"):
        CartoonGAN(**SMALL | {"initialization_epochs": 1}, weights={"gan": 1.0, "content": 0.0})
    with pytest.raises(UserError, match=r"this method has \['content', 'gan'\]"):
        CartoonGAN(**SMALL, weights={"gan": 1.0, "vgg": 1.0})
