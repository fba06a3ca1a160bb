import copy
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers.by_hand import connect, gradients, loops, spy_on_gradients
from helpers.contrastive import pictures
from helpers.recipes import assert_defaults_are_those_of_the_recipe, read_recipe

from lit_ghibli.errors import UserError
from lit_ghibli.methods.animegan import AnimeGAN, GanAdam, SpectralDiscriminator, color_loss, grey
from lit_ghibli.networks.animegan import AnimeGenerator, LightAnimeGenerator
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.recipes import build
from lit_ghibli.training.edge_smoothing import smooth_edges

TINY = [
    "data=scenes",
    "data.crop_size=28",
    "method.generator.base_channels=4",
    "method.discriminator.base_channels=4",
    "method.vgg.weights=random",
    "method.vgg.taps=[conv2_1]",
    "method.feature_scale.photographs=3",
]
SAME_ON_ALL_RANKS = [
    # With SGD steps are as long as gradients, and rounding grows with them.
    "method.weights.gan=1.0",
    "method.feature_scale.magnitude=1.0",
]
WEIGHTS = {"gan": 0.7, "content": 1.5, "style": 40.0, "color": 15.0, "tv": 3.0}
DISCRIMINATOR_WEIGHTS = {"anime": 1.2, "fake": 0.9, "grey": 0.5, "smooth": 0.3}
SMALL = {
    "generator": partial(AnimeGenerator, base_channels=4),
    "discriminator": partial(SpectralDiscriminator, base_channels=4),
    "vgg": partial(VggFeatures, taps=("conv1_2",), weights="random"),
    "weights": WEIGHTS,
    "discriminator_weights": DISCRIMINATOR_WEIGHTS,
    "initialization_epochs": 0,
}


def ready(**arguments) -> AnimeGAN:
    """A method whose training_step can be called by hand, with tiny networks unless others are given."""
    torch.manual_seed(0)
    method = connect(AnimeGAN(**SMALL | arguments))
    method.setup("fit")
    method.feature_scale.measured.fill_(0.4)
    return method


def batch_of(count: int = 2, dtype=torch.float32) -> dict[str, torch.Tensor]:
    return pictures("photo", "anime", count=count, dtype=dtype)


def test_defaults_are_those_of_the_recipe():
    ours = AnimeGAN()
    theirs = assert_defaults_are_those_of_the_recipe(ours, "animegan")
    for name in ("discriminator_weights", "initialization_epochs"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert repr(ours.feature_scale) == repr(theirs.feature_scale)
    assert ours.make_vgg.keywords["taps"] == tuple(theirs.make_vgg.keywords["taps"])


@pytest.mark.parametrize(
    ("recipe", "weights", "discriminator_weights"),
    [
        ("animegan", (300, 1.5, 2.5, 15, 1), (1.2, 1.2, 1.2, 0.8)),
        ("animegan_paprika", (300, 2.0, 0.6, 50, 0.1), (1, 1, 1, 0.005)),
        ("animegan_shinkai", (300, 1.2, 2.0, 10, 1), (1.7, 1.7, 1.7, 1)),
    ],
)
def test_the_recipes_are_those_of_the_authors_code(recipe, weights, discriminator_weights):
    method = build(read_recipe(recipe))
    assert sum(p.numel() for p in method.generator.parameters()) == 2_143_552
    assert sum(p.numel() for p in method.discriminator.parameters()) == 1_128_800
    assert tuple(method.weights.values()) == weights
    assert tuple(method.discriminator_weights.values()) == discriminator_weights
    rates = [optimizer.defaults["lr"] for optimizer in method.configure_optimizers()[0]]
    assert rates == [2e-5, 4e-5, 2e-4]
    assert (method.epochs, method.decay_epochs, method.initialization_epochs) == (101, 0, 10)


def test_the_light_generator_is_a_choice():
    method = build(read_recipe("animegan", "method/anime_generator=light"))
    assert isinstance(method.generator, LightAnimeGenerator)


def looped_color(output, photo):
    """Equation (4), pixel by pixel; the matrix is TensorFlow's."""
    luma, u_loss, v_loss, count = 0.0, 0.0, 0.0, 0
    huber = lambda d: d * d / 2 if abs(d) <= 1 else abs(d) - 0.5  # noqa: E731
    for ours, theirs in zip(output, photo, strict=True):
        for row in range(ours.shape[1]):
            for column in range(ours.shape[2]):
                r, g, b = (((ours - theirs) / 2)[:, row, column]).tolist()
                luma += abs(0.299 * r + 0.587 * g + 0.114 * b)
                u_loss += huber(-0.14714119 * r - 0.28886916 * g + 0.43601035 * b)
                v_loss += huber(0.61497538 * r - 0.51496512 * g - 0.10001026 * b)
                count += 1
    return (luma + u_loss + v_loss) / count


def test_color_is_compared_in_yuv():
    torch.manual_seed(0)
    output, photo = torch.rand(2, 2, 3, 5, 4, dtype=torch.float64) * 2 - 1
    assert color_loss(output, photo).item() == pytest.approx(looped_color(output, photo), rel=1e-12)
    # Beyond 1 the penalty is no longer a square: V of cyan and of red differ by 1.23.
    red, cyan = (torch.tensor(color, dtype=torch.float64).view(1, 3, 1, 1) for color in ((1.0, -1, -1), (-1.0, 1, 1)))
    assert color_loss(red, cyan).item() == pytest.approx(looped_color(red, cyan), rel=1e-12)
    assert color_loss(photo, photo) == 0
    assert color_loss(output.bfloat16(), photo.bfloat16()).dtype == torch.float32


def test_grey_pictures_have_the_luminance_in_all_channels():
    colors = torch.tensor([[1.0, -1.0, -1.0], [0.5, 0.5, 0.5]]).view(2, 3, 1, 1)
    expected = torch.tensor([0.299 - 0.587 - 0.114, 0.5]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    torch.testing.assert_close(grey(colors), expected)


def looped_gram(features):
    """Inner products of channels over the number of features, one by one."""
    channels, height, width = features.shape
    rows = [
        torch.stack([(features[i] * features[j]).sum() for j in range(channels)]) / (channels * height * width)
        for i in range(channels)
    ]
    return torch.stack(rows)


def looped_variation(images):
    """Half the sum of squared differences of neighbours over their number, for each axis."""
    total = 0.0
    for image in images.unbind():
        for first, second in ((image[:, 1:], image[:, :-1]), (image[:, :, 1:], image[:, :, :-1])):
            total = total + ((first - second) ** 2).sum() / 2 / (first.numel() * len(images))
    return total


def test_a_step_has_the_losses_and_gradients_of_the_formulas():
    method = ready(optimizer_d=partial(GanAdam, lr=0.0)).double()
    batch = batch_of(dtype=torch.float64)
    x, y = batch["photo"], batch["anime"]
    g, d, vgg = (copy.deepcopy(getattr(method, name)) for name in ("generator", "discriminator", "vgg"))
    fake = g(x)
    luma = lambda each: (0.299 * each[:, :1] + 0.587 * each[:, 1:2] + 0.114 * each[:, 2:]).repeat(1, 3, 1, 1)  # noqa: E731
    judged = [d(each) for each in (y, fake.detach(), luma(y), luma(smooth_edges(y)))]
    expected = {
        name: ((logits - float(name == "anime")) ** 2).mean()
        for name, logits in zip(DISCRIMINATOR_WEIGHTS, judged, strict=True)
    }
    expected["discriminator"] = sum(DISCRIMINATOR_WEIGHTS[name] * term for name, term in expected.items())
    expected["discriminator"].backward()
    expected_d = {name: gradient.clone() for name, gradient in gradients(d).items()}
    scaled = {
        name: vgg(images)["conv1_2"] * (100 / 0.4) for name, images in (("fake", fake), ("x", x), ("grey", luma(y)))
    }
    grams = [torch.stack([looped_gram(image) for image in scaled[name]]) for name in ("fake", "grey")]
    terms = {
        "gan": ((d(fake) - 1) ** 2).mean(),
        "content": (scaled["fake"] - scaled["x"]).abs().mean(),
        "style": (grams[0] - grams[1]).abs().mean(),
        "color": color_loss(fake, x),  # looped over above
        "tv": looped_variation(fake),
    }
    sum(WEIGHTS[name] * term for name, term in terms.items()).backward()
    expected |= terms

    for parameter in method.generator.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # of the step before: must not count
    seen = spy_on_gradients(method)
    losses = {name: loss.item() for name, loss in method.training_step(batch, 0)["losses"].items()}
    assert losses == pytest.approx({name: term.item() for name, term in expected.items()}, rel=1e-6)
    assert [set(step) - {"generator"} for step in seen] == [{"discriminator"}, set()]
    for found, reference in ((seen[0]["discriminator"], expected_d), (seen[1]["generator"], gradients(g))):
        assert found.keys() == reference.keys()
        for parameter, gradient in found.items():
            torch.testing.assert_close(gradient, reference[parameter], rtol=1e-5, atol=1e-8, msg=parameter)


def test_the_initialisation_learns_content_alone_by_its_own_optimiser(monkeypatch):
    method, batch = ready(initialization_epochs=2), batch_of()
    monkeypatch.setattr(type(method.trainer), "num_training_batches", 3)
    method.on_load_checkpoint(
        {"loops": loops(5), "ranks": [], "state_dict": method.state_dict()}
    )  # resumed at the end of the second epoch
    before = copy.deepcopy(method.discriminator.state_dict())
    seen = spy_on_gradients(method)
    outputs = method.training_step(batch, 0)
    assert set(outputs) == {"losses"}  # the doctor shall not warn of outputs that equal their photographs
    assert set(outputs["losses"]) == {"content"}
    assert [set(step) for step in seen] == [{"generator"}]
    assert all(torch.equal(value, before[name]) for name, value in method.discriminator.state_dict().items())
    assert [bool(optimizer.state) for optimizer in method.trainer.optimizers] == [False, False, True]
    outputs = method.training_step(batch, 0)
    assert set(outputs) == {"losses", "input", "output"}
    assert [set(step) for step in seen[1:]] == [{"discriminator"}, {"generator"}]
    steps = [next(iter(optimizer.state.values()))["step"] for optimizer in method.trainer.optimizers]
    assert steps == [1, 1, 1]


def test_schedules_are_of_what_follows_the_initialisation(monkeypatch):
    method = ready(epochs=6, decay_epochs=2, initialization_epochs=2)
    rates = []
    for epoch in range(6):
        monkeypatch.setattr(type(method), "current_epoch", epoch)
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in method.trainer.optimizers])
        if epoch >= 2:
            method.trainer.optimizers[0].step(), method.trainer.optimizers[1].step()
        method.on_train_epoch_end()
    factors = [1, 1, 1, 1, 2 / 3, 1 / 3]
    assert [g for g, _, _ in rates] == pytest.approx([2e-5 * factor for factor in factors])
    assert [d for _, d, _ in rates] == pytest.approx([4e-5 * factor for factor in factors])
    assert {initialization for _, _, initialization in rates} == {2e-4}


@pytest.mark.parametrize(
    ("weights", "calls"),
    [
        # D: anime, fake, grey, smooth, for G. VGG: photograph, grey anime picture, output.
        ({}, {"generator": 1, "discriminator": 5, "vgg": 3}),
        ({"style": 0.0}, {"generator": 1, "discriminator": 5, "vgg": 2}),
        ({"content": 0.0}, {"generator": 1, "discriminator": 5, "vgg": 2}),
        ({"content": 0.0, "style": 0.0}, {"generator": 1, "discriminator": 5}),
        ({"gan": 0.0, "color": 0.0, "tv": 0.0}, {"generator": 1, "discriminator": 0, "vgg": 3}),
    ],
)
def test_what_has_no_weight_is_not_computed(weights, calls):
    method, counted = ready(weights=WEIGHTS | weights), Counter()
    for name, network in method.networks().items():
        network.register_forward_hook(lambda *_, name=name: counted.update([name]))
    outputs = method.training_step(batch_of(1), 0)
    assert {name: counted[name] for name in method.networks()} == calls
    judged = {*DISCRIMINATOR_WEIGHTS, "discriminator"} if method.weights["gan"] else set()
    assert set(outputs["losses"]) == {name for name, weight in method.weights.items() if weight} | judged
    assert not any(loss.requires_grad for loss in outputs["losses"].values())
    assert not gradients(method), "gradients outlive their phase"


def test_a_kind_of_picture_without_a_weight_is_not_judged(monkeypatch):
    monkeypatch.setattr("lit_ghibli.methods.animegan.smooth_edges", None)
    method = ready(discriminator_weights={"anime": 1.0, "fake": 1.0, "grey": 0.0, "smooth": 0.0})
    losses = method.training_step(batch_of(1), 0)["losses"]
    assert {name for name in losses if name in DISCRIMINATOR_WEIGHTS} == {"anime", "fake"}


def test_the_scale_of_features_is_measured_on_training_photographs_unless_a_checkpoint_has_it():
    method, asked = ready(), []
    photographs = list(batch_of(count=4)["photo"].split(1))
    datamodule = SimpleNamespace(training_crops=lambda *request: asked.append(request) or photographs)
    method.trainer = SimpleNamespace(datamodule=datamodule)
    method.on_train_start()
    assert method.feature_scale.measured.item() == pytest.approx(0.4)
    method.feature_scale.measured.zero_()
    method.on_train_start()
    features = method.vgg(torch.cat(photographs))["conv1_2"]
    assert method.feature_scale.measured.item() == pytest.approx(features.abs().mean().item(), rel=1e-6)
    assert asked[-1] == ("photo", 64)


def test_vgg_is_loaded_for_training_only(tmp_path):
    nowhere = partial(VggFeatures, taps=("conv2_1",), weights=tmp_path / "vgg19.pth")
    method = connect(AnimeGAN(**SMALL | {"vgg": nowhere}))
    method.setup("predict")
    with pytest.raises(UserError, match=r"vgg19\.pth: no such file"):
        method.setup("fit")


def test_what_fits_no_configuration_is_refused():
    with pytest.raises(UserError, match=r"initialization_epochs \(6\).*method\.epochs = 5"):
        AnimeGAN(**SMALL | {"initialization_epochs": 6}, epochs=5)
    with pytest.raises(UserError, match=r"nothing to learn in the initialisation.*initialization_epochs=0"):
        AnimeGAN(**SMALL | {"initialization_epochs": 1, "weights": WEIGHTS | {"content": 0.0}})
    with pytest.raises(UserError, match=r"method\.weights has the names \['gan'\]"):
        AnimeGAN(**SMALL | {"weights": {"gan": 1.0}})
    with pytest.raises(UserError, match=r"method\.discriminator_weights has the names \['anime'\]"):
        AnimeGAN(**SMALL | {"discriminator_weights": {"anime": 1.0}})
