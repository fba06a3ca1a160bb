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
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.methods.nijigan import WEIGHTS, NijiGAN
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.patch_mlp import PatchMlp
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.recipes import build

TINY = [
    "data=semi_scenes",
    "data.pairs=3",
    "data.crop_size=28",
    "method.generator.base_channels=4",
    "method.generator.num_blocks=1",
    "method.discriminator.base_channels=4",
    "method.discriminator.num_layers=2",
    "method.pair_discriminator.base_channels=4",
    "method.pair_discriminator.num_layers=2",
    "method.projection.dim=8",
    "method.num_patches=16",
    "method.weights.straightness=0.1",
    "method.vgg.weights=random",
    "method.vgg.taps=[conv2_1]",
    "method.schedule={{name: ramp_up, unit: step, warm_up_epochs: 0}}",
]
SAME_ON_ALL_RANKS = ["method.num_patches=784"]  # all locations of 28x28 pixels, in whatever order
PATCHGAN = partial(PatchDiscriminator, base_channels=4, num_layers=2)
SMALL = {
    "generator": partial(OdeGenerator, base_channels=4, num_blocks=3),
    "discriminator": PATCHGAN,
    "pair_discriminator": partial(PATCHGAN, in_channels=6),
    "projection": partial(PatchMlp, dim=8),
    "vgg": partial(VggFeatures, taps=("conv2_1",), weights="random"),
    "num_patches": 12,
    "schedule": {"name": "constant"},
}
ALL = {name: weight or 0.3 for name, weight in WEIGHTS.items()}
NONE = dict.fromkeys(WEIGHTS, 0.0)


def ready(**arguments) -> NijiGAN:
    """A method whose training_step can be called by hand, with tiny networks unless others are given."""
    torch.manual_seed(0)
    method = NijiGAN(**SMALL | arguments)
    connect(method)
    method.setup("fit")
    return method


def batch_of(count: int = 2, dtype=torch.float64) -> dict[str, torch.Tensor]:
    return pictures("pair_a", "pair_b", "photo", "anime", count=count, dtype=dtype)


def test_defaults_are_those_of_the_recipe():
    ours = NijiGAN()
    theirs = assert_defaults_are_those_of_the_recipe(ours, "nijigan")
    for name in ("identity", "num_patches", "temperature", "gamma", "schedule", "faithful"):
        assert getattr(ours, name) == getattr(theirs, name), name
    vgg = theirs.make_vgg.keywords
    assert ours.make_vgg.keywords == {"taps": tuple(vgg["taps"]), "input_range": vgg["input_range"]}


def test_the_recipes_are_the_published_ones():
    ode, resnet = (build(read_recipe(name)) for name in ("nijigan", "scenimefy"))
    count = [sum(p.numel() for p in method.generator.parameters()) for method in (ode, resnet)]
    assert count == [5_477_379, 11_378_179]  # table 6.2 of 001: 5.477 M and 11.378 M
    assert_networks_are_the_released_ones(resnet)
    supervised = {"gan": 1, "src": 0.05, "hdce": 0.1, "vgg": 0.1, "straightness": 0, "gan_pair": 1}
    assert ode.weights == resnet.weights == {**supervised, "style_nce": 0.1}
    assert [(m.epochs, m.decay_epochs) for m in (ode, resnet)] == [(25, 12), (20, 10)]
    assert (ode.num_patches, ode.temperature, ode.gamma) == (256, 0.07, (50, 10))
    assert (ode.schedule.name, ode.schedule.warm_up_epochs, resnet.schedule.name) == ("ramp_up", 10, "cosine_decay")
    assert ode.batch_keys == ("pair_a", "pair_b", "photo", "anime")
    # Two linear layers for each of RGB, 128, 256, 256, 256 channels
    heads = sum(channels * 256 + 256 + 256 * 256 + 256 for channels in (3, 128, 256, 256, 256))
    for head in (ode.projection, ode.style_projection):
        assert sum(p.numel() for p in head.parameters()) == heads


class Formulas:
    """One step by the papers' formulas: one graph, explicit similarities, every discriminator before G's terms."""

    def __init__(self, method: NijiGAN, locations: dict[str, torch.Tensor]) -> None:
        networks = ("generator", "discriminator", "pair_discriminator", "projection", "style_projection", "vgg")
        self.g, self.d, self.d_p, self.h, self.h_s, self.vgg = (copy.deepcopy(getattr(method, n)) for n in networks)
        self.locations, self.tau = locations, method.temperature

    def features(self, images, head):
        return features(self.g, images, head, self.locations)

    def hdce(self, q, k, gamma):
        losses = []
        for i in range(len(q)):
            others = [j for j in range(len(q)) if j != i]
            weights = torch.stack([k[i] @ k[j] / gamma for j in others]).softmax(0)
            weights = weights / weights.max()
            negatives = torch.stack([q[i] @ k[j] for j in others]) * weights / self.tau
            losses.append(negatives.exp().sum().log() - q[i] @ k[i] / self.tau)
        return torch.stack(losses).mean()

    def src(self, q, k):
        p, r = (q @ q.T).softmax(1), (k @ k.T).softmax(1)
        m = (p + r) / 2
        return ((p * (p / m).log()).sum() + (r * (r / m).log()).sum()) / 2

    def bend(self, images):
        h, gaps = self.g.encoder(images), []
        for block in self.g.bottleneck:
            end = block(h)
            gaps.append((end - h - block.branch(h)).square().mean())
            h = end
        return sum(gaps) / len(gaps)

    def terms(self, batch, gamma):
        x, y, x_p, y_p = (batch[name] for name in ("photo", "anime", "pair_a", "pair_b"))
        fake, same, fake_p = self.g(x), self.g(y), self.g(x_p)
        terms = {"discriminator": moved(self.d, y, fake)}
        pair, fake_pair = torch.cat([x_p, y_p], 1), torch.cat([x_p, fake_p], 1)
        terms["discriminator_pair"] = moved(self.d_p, pair, fake_pair)
        z = {name: self.features(images, self.h) for name, images in {"x": x, "y": y, "Gx": fake, "Gy": same}.items()}
        terms["gan"] = ((self.d(fake) - 1) ** 2).mean()
        terms["src"] = over(self.src, z["Gx"], z["x"])
        hdce = partial(self.hdce, gamma=gamma)
        terms["hdce"] = (over(hdce, z["Gx"], z["x"]) + over(hdce, z["Gy"], z["y"])) / 2
        terms["vgg"] = (self.vgg(fake)["conv2_1"] - self.vgg(x)["conv2_1"]).square().mean()
        terms["straightness"] = self.bend(x)
        terms["gan_pair"] = ((self.d_p(fake_pair) - 1) ** 2).mean()
        terms["style_nce"] = over(nce, self.features(fake_p, self.h_s), self.features(y_p, self.h_s))
        return terms


def test_a_step_has_the_losses_and_gradients_of_the_formulas(monkeypatch):
    locations = fix_locations(monkeypatch)
    method = ready(weights=ALL, schedule={"name": "cosine_decay"}, epochs=4, decay_epochs=0).double()
    enliven(method.projection, method.style_projection)
    progress = method.trainer.fit_loop.epoch_progress.current
    progress.processed = progress.completed = 2
    assert method.current_epoch == 2
    supervised, gamma = torch.tensor(torch.pi / 4).cos().item(), 50 - 40 * 3 / 4
    formulas = Formulas(method, locations)
    expected = formulas.terms(batch_of(), gamma)
    objective = sum(
        ALL[name] * (supervised if name in ("gan_pair", "style_nce") else 1) * term
        for name, term in expected.items()
        if name in ALL
    )
    learning = {"generator": formulas.g, "projection": formulas.h, "style_projection": formulas.h_s}
    for network in learning.values():
        network.zero_grad()
    objective.backward()

    for parameter in method.generator.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # of the step before: must not count
    seen, logged = spy_on_gradients(method), {}
    method.log_dict = lambda values, **options: logged.update(values)
    outputs = method.training_step(batch_of(), 0)
    losses = {name: loss.item() for name, loss in outputs["losses"].items()}
    assert losses == pytest.approx({name: term.item() for name, term in expected.items()}, rel=1e-5)
    assert logged["train/supervised_weight"] == pytest.approx(supervised)
    assert (logged["train/gamma"], logged["train/nfe"]) == (gamma, 3 * 2)
    assert [set(step) for step in seen[:2]] == [{"discriminator"}, {"generator", "projection", "pair_discriminator"}]
    final = seen[2]
    assert final.keys() == learning.keys(), "neither discriminator learns in the generator's step"
    for name, network in learning.items():
        reference = gradients(network)
        assert final[name].keys() == reference.keys()
        for parameter, gradient in final[name].items():
            torch.testing.assert_close(gradient, reference[parameter], rtol=1e-5, atol=1e-8, msg=f"{name}.{parameter}")


@pytest.mark.parametrize(
    ("weights", "calls"),
    [
        # G: x, its output's features, y, its output's; x_p, its output's, y_p's features. D: real, fake, for G.
        (ALL, {"generator": 7, "discriminator": 3, "pair_discriminator": 3, "vgg": 2}),
        ({**ALL, "gan": 0.0}, {"generator": 7, "discriminator": 0, "pair_discriminator": 3, "vgg": 2}),
        ({**ALL, "vgg": 0.0}, {"generator": 7, "discriminator": 3, "pair_discriminator": 3}),
        ({**ALL, "style_nce": 0.0}, {"generator": 5, "discriminator": 3, "pair_discriminator": 3, "vgg": 2}),
        ({**ALL, "gan_pair": 0.0}, {"generator": 7, "discriminator": 3, "vgg": 2}),
        ({**ALL, "hdce": 0.0}, {"generator": 5, "discriminator": 3, "pair_discriminator": 3, "vgg": 2}),
        ({**NONE, "gan": 1.0}, {"generator": 1, "discriminator": 3}),
        ({**NONE, "hdce": 1.0}, {"generator": 4, "discriminator": 0}),
        ({**NONE, "gan_pair": 1.0}, {"generator": 2, "discriminator": 0, "pair_discriminator": 3}),
    ],
)
def test_a_weight_of_zero_removes_the_computation(weights, calls):
    method, counted = ready(weights=weights), Counter()
    for name, network in method.networks().items():
        network.register_forward_hook(lambda *_, name=name: counted.update([name]))
    outputs = method.training_step(batch_of(1, torch.float32), 0)
    assert {name: counted[name] for name in method.networks() if "projection" not in name} == calls
    terms = {name for name, weight in weights.items() if weight}
    discriminators = {"gan": "discriminator", "gan_pair": "discriminator_pair"}
    assert set(outputs["losses"]) == terms | {name for term, name in discriminators.items() if term in terms}
    assert not any(loss.requires_grad for loss in outputs["losses"].values())
    assert not gradients(method), "gradients outlive their phase"


def test_gamma_falls_from_near_its_start_to_its_end():
    method = ready(epochs=40)
    progress = method.trainer.fit_loop.epoch_progress.current
    for epoch, gamma in ((0, 49), (19, 30), (39, 10), (59, 10)):
        progress.processed = progress.completed = epoch
        assert method.relation_gamma() == gamma


def test_while_the_supervised_weight_is_zero_its_branch_rests():
    method = ready(weights={**WEIGHTS, "vgg": 0.0}, schedule={"name": "ramp_up", "warm_up_epochs": 2})
    before = copy.deepcopy(method.pair_discriminator.state_dict())
    losses = method.training_step(batch_of(1, torch.float32), 0)["losses"]
    assert not {"gan_pair", "style_nce", "discriminator_pair"} & set(losses)
    assert all(torch.equal(value, before[name]) for name, value in method.pair_discriminator.state_dict().items())


def test_faithful_brings_back_three_slips():
    weights = {**NONE, "vgg": 0.3, "style_nce": 0.2}
    method = ready(weights=weights, faithful=True, schedule={"name": "cosine_decay"}, epochs=3, decay_epochs=0).double()
    assert method.weights["style_nce"] == pytest.approx(0.2 * 0.2)
    # cos(pi/2 * 3 * (t - 1)) for t = 1, 2, 3
    assert [method.schedule(epoch, 0, 1) for epoch in range(3)] == pytest.approx([1, 0, -1], abs=1e-12)
    batch, vgg = batch_of(), copy.deepcopy(method.vgg)
    fake = method.generator(batch["photo"])
    # VGG reads (G(x) + 1/2) as if it lay in [0, 1]; ours reads [-1, 1]: 2 (G(x) + 1/2) - 1
    expected = F.mse_loss(vgg(2 * (fake + 0.5) - 1)["conv2_1"], vgg(batch["photo"])["conv2_1"]).item()
    assert method.training_step(batch, 0)["losses"]["vgg"].item() == pytest.approx(expected, rel=1e-6)


def test_vgg_is_loaded_for_training_only(tmp_path):
    nowhere = partial(VggFeatures, taps=("conv2_1",), weights=tmp_path / "vgg19.pth")
    method = connect(NijiGAN(**SMALL | {"vgg": nowhere}))
    method.setup("validate")
    assert method.translator()(torch.zeros(1, 3, 24, 28)).shape == (1, 3, 24, 28)
    with pytest.raises(UserError, match=r"no such file; .*method\.weights\.vgg=0"):
        method.setup("fit")
    loaded = ready()
    assert any(name.startswith("vgg.") for name, _ in loaded.named_parameters())
    assert not any(name.startswith("vgg") for name in loaded.state_dict())


def test_what_fits_no_configuration_is_refused():
    with pytest.raises(UserError, match="ODE blocks"):
        NijiGAN(**SMALL | {"generator": partial(ResnetGenerator, base_channels=4)}, weights=ALL)
    with pytest.raises(UserError, match=r"some of pixels, padded_pixels, down1, .*got \['down3'\]"):
        NijiGAN(**SMALL, nce_layers=["down3"])
    with pytest.raises(UserError, match=r"at least 2, .* got 1"):
        NijiGAN(**SMALL | {"num_patches": 1})
    with pytest.raises(UserError, match=r"method\.gamma = \[50, 0\] must be positive"):
        NijiGAN(**SMALL, gamma=(50, 0))
    with pytest.raises(UserError, match=r"method\.schedule\.name is 'cosine'"):
        NijiGAN(**SMALL | {"schedule": {"name": "cosine"}})


@pytest.mark.slow
def test_it_learns_two_pairs():
    fast = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999))
    generator = partial(OdeGenerator, base_channels=8, num_blocks=1, output="residual")
    weights = {**NONE, "style_nce": 1.0}
    method = ready(generator=generator, weights=weights, optimizer_g=fast, nce_layers=["pixels"])
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    photos = torch.stack([torch.stack([x, y, x * y]), torch.stack([y, -x, x * x - 0.5])])
    batch = {"pair_a": photos, "pair_b": photos.flip(2) * 0.5, "photo": photos, "anime": photos}
    losses = [method.training_step(batch, 0)["losses"]["style_nce"].item() for _ in range(150)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[1:11])
