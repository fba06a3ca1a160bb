import copy
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers.by_hand import connect, gradients, loops, spy_on_gradients
from helpers.recipes import assert_defaults_are_those_of_the_recipe
from torch import nn
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.methods.cyclegan import CycleGAN
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.vgg import VggFeatures

TINY = [
    "data=scenes",
    "data.crop_size=28",
    "method.generator.base_channels=4",
    "method.generator.num_blocks=1",
    "method.discriminator.base_channels=4",
    "method.discriminator.num_layers=2",
    "method.pool_size=3",
]
SAME_ON_ALL_RANKS = ["method.pool_size=0"]
NETWORKS = ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")
SMALL = {
    "generator": partial(ResnetGenerator, base_channels=4, num_blocks=1),
    "discriminator": partial(PatchDiscriminator, base_channels=4, num_layers=2),
}


def ready(**arguments) -> CycleGAN:
    """A method whose training_step can be called by hand, with tiny networks unless others are given."""
    torch.manual_seed(0)
    return connect(CycleGAN(**SMALL | arguments))


def pictures(count: int = 2, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(count, 3, 24, 28, generator=generator, dtype=dtype) * 2 - 1 for name in ("photo", "anime")}


@pytest.fixture(scope="module")
def published() -> CycleGAN:
    return CycleGAN()


def test_defaults_are_those_of_the_recipe(published):
    assert_defaults_are_those_of_the_recipe(published, "cyclegan")


def test_the_recipe_is_the_published_one(published):
    method = published
    assert method.weights == {"gan": 1.0, "cycle": 10.0, "identity": 5.0, "perceptual": 0.0}
    assert (method.r1, method.generator_ab.attention, method.head_start) == (0, None, 0)
    assert (method.pool_a.size, method.epochs, method.decay_epochs) == (50, 50, 0)
    for optimizer in method.configure_optimizers()[0]:
        assert isinstance(optimizer, torch.optim.Adam)
        assert (optimizer.defaults["lr"], tuple(optimizer.defaults["betas"])) == (2e-4, (0.5, 0.999))


def test_parameter_counts(published):
    method = published
    counts = [sum(p.numel() for p in getattr(method, name).parameters()) for name in NETWORKS]
    # 6 blocks: 3*64*49+64 | 64*128*9+128 | 128*256*9+256 | 12*(256*256*9+256) | the same up | 64*3*49+3
    assert counts[:2] == [7_837_699] * 2
    # 4x4 convolutions: 3 -> 64 -> 128 -> 256 -> 512 -> 1, with biases
    assert counts[2:] == [16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 128 + 256 + 512 + 1] * 2
    assert {
        len(group["params"]) for optimizer in method.configure_optimizers()[0] for group in optimizer.param_groups
    } == {sum(1 for name in pair for _ in getattr(method, name).parameters()) for pair in (NETWORKS[:2], NETWORKS[2:])}


def reference_gradients(method: CycleGAN, batch, weights) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients by the paper's formulas, with every image of both cycles in one graph and one backward pass."""
    g, f, d_a, d_b = (copy.deepcopy(getattr(method, name)) for name in NETWORKS)
    a, b = batch["photo"], batch["anime"]
    fake_b, fake_a = g(a), f(b)
    rec_a, rec_b = f(fake_b), g(fake_a)
    gan = ((d_b(fake_b) - 1) ** 2).mean() + ((d_a(fake_a) - 1) ** 2).mean()
    cycle = (rec_a - a).abs().mean() + (rec_b - b).abs().mean()
    identity = (g(b) - b).abs().mean() + (f(a) - a).abs().mean()
    objective = weights["gan"] * gan + weights["cycle"] * cycle + weights["identity"] * identity
    parameters = [*g.parameters(), *f.parameters()]
    for parameter, gradient in zip(parameters, torch.autograd.grad(objective, parameters), strict=True):
        parameter.grad = gradient
    fake_a, fake_b = fake_a.detach(), fake_b.detach()
    loss_b = ((d_b(b) - 1) ** 2).mean() + (d_b(fake_b) ** 2).mean()
    loss_a = ((d_a(a) - 1) ** 2).mean() + (d_a(fake_a) ** 2).mean()
    ((loss_a + loss_b) / 2).backward()  # "we divide the objective by 2 while optimizing D", section 4
    return {name: gradients(network) for name, network in zip(NETWORKS, (g, f, d_a, d_b), strict=True)}


@pytest.mark.parametrize("pool_size", [0, 50])
def test_a_step_has_the_gradients_of_the_formulas(pool_size):
    weights = {"gan": 0.7, "cycle": 9.0, "identity": 4.0}
    method = ready(weights=weights, pool_size=pool_size).double()
    batch = pictures()
    expected = reference_gradients(method, batch, weights)
    for parameter in method.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # of the step before: must not count
    seen = spy_on_gradients(method)
    method.training_step(batch, 0)
    ours_of = {**seen[0], **seen[1]}
    for name in NETWORKS:
        ours = ours_of[name]
        assert ours.keys() == expected[name].keys()
        assert max(gradient.abs().max() for gradient in ours.values()) > 1e-4
        for parameter, gradient in ours.items():
            torch.testing.assert_close(gradient, expected[name][parameter], rtol=0, atol=1e-10)


def test_what_the_document_leaves_as_further_work_is_an_option():
    """Attention, perceptual term, spectral norm and gradient penalty together, against one graph of the formulas."""
    method = ready(
        generator=partial(ResnetGenerator, base_channels=4, num_blocks=1, attention=True),
        discriminator=partial(PatchDiscriminator, base_channels=4, num_layers=2, spectral_norm=True),
        weights={"gan": 0.0, "cycle": 0.0, "identity": 0.0, "perceptual": 0.3},
        vgg=partial(VggFeatures, taps=("relu1_2",), weights="random"),
        pool_size=0,
        r1=5.0,
    )
    method.setup("fit")
    method.double()
    for generator in (method.generator_ab, method.generator_ba):
        nn.init.constant_(generator.attention.gate, 0.5)
    batch = pictures()
    a, b = batch["photo"], batch["anime"]
    g, f, d_a, d_b, vgg = (copy.deepcopy(getattr(method, name)) for name in (*NETWORKS, "vgg"))
    cycles = ((f(g(a)), a), (g(f(b)), b))
    objective = sum(F.mse_loss(vgg(there)["relu1_2"], vgg(here)["relu1_2"]) for there, here in cycles)
    (0.3 * objective).backward()
    expected = {"generator_ab": gradients(g), "generator_ba": gradients(f)}
    for name, discriminator, real, fake in (("discriminator_a", d_a, a, f(b)), ("discriminator_b", d_b, b, g(a))):
        real = real.clone().requires_grad_()
        logits = discriminator(real)
        slopes = torch.autograd.grad(logits.mean(dim=(1, 2, 3)).sum(), real, create_graph=True)[0]
        penalty = 5.0 / 2 * (slopes**2).sum(dim=(1, 2, 3)).mean()
        discriminator.zero_grad()
        (((logits - 1) ** 2).mean() / 2 + (discriminator(fake.detach()) ** 2).mean() / 2 + penalty).backward()
        expected[name] = gradients(discriminator)
    seen = spy_on_gradients(method)
    losses = method.training_step(batch, 0)["losses"]
    assert set(losses) == {"perceptual", "discriminator_a", "discriminator_b"}
    ours_of = {**seen[0], **seen[1]}
    for name in NETWORKS:
        assert ours_of[name].keys() == expected[name].keys()
        for parameter, gradient in ours_of[name].items():
            torch.testing.assert_close(gradient, expected[name][parameter], rtol=1e-8, atol=1e-10)
    with pytest.raises(UserError, match=r"method\.r1 must be 0 or more; got -1"):
        CycleGAN(**SMALL, r1=-1)


def test_a_step_moves_all_networks_and_returns_detached_values():
    method = ready().double()
    before = copy.deepcopy(method.state_dict())
    batch = pictures()
    expected = method.generator_ab(batch["photo"]).detach()
    outputs = method.training_step(batch, 0)
    for name in NETWORKS:
        assert any(
            not torch.equal(value, before[f"{name}.{key}"]) for key, value in getattr(method, name).state_dict().items()
        )
    assert set(outputs["losses"]) == {"gan", "cycle", "identity", "discriminator_a", "discriminator_b"}
    assert not any(loss.requires_grad for loss in outputs["losses"].values())
    assert outputs["input"] is batch["photo"]
    assert torch.equal(outputs["output"], expected)
    assert not outputs["output"].requires_grad


def test_losses_are_logged_unweighted():
    method = ready(weights={"gan": 3.0, "cycle": 10.0, "identity": 5.0}).double()
    batch, logged = pictures(), {}
    method.log_dict = lambda values, **options: logged.update(values)
    g, f = copy.deepcopy(method.generator_ab), copy.deepcopy(method.generator_ba)
    method.training_step(batch, 0)
    a, b = batch["photo"], batch["anime"]
    cycle = (f(g(a)) - a).abs().mean() + (g(f(b)) - b).abs().mean()
    assert logged["train/cycle"].item() == pytest.approx(cycle.item(), abs=1e-12)
    identity = (g(b) - b).abs().mean() + (f(a) - a).abs().mean()
    assert logged["train/identity"].item() == pytest.approx(identity.item(), abs=1e-12)


def test_each_phase_leaves_the_other_networks_alone():
    method = ready().double()
    seen = spy_on_gradients(method)
    method.training_step(pictures(), 0)
    assert [step.keys() for step in seen] == [set(NETWORKS[:2]), set(NETWORKS[2:])]
    assert not gradients(method), "gradients outlive their phase"


def test_in_their_head_start_the_discriminators_learn_alone():
    method, batch = ready(head_start=2).double(), pictures()
    seen = spy_on_gradients(method)
    for _ in range(2):
        outputs = method.training_step(batch, 0)
        assert set(outputs) == {"losses"}  # the doctor shall not warn of outputs that equal their photographs
        assert set(outputs["losses"]) == {"discriminator_a", "discriminator_b"}
    assert "output" in method.training_step(batch, 0)
    discriminators = set(NETWORKS[2:])
    assert [step.keys() for step in seen] == [discriminators, discriminators, set(NETWORKS[:2]), discriminators]


def test_a_head_start_is_a_level_of_its_own_for_a_forecast_and_must_end():
    method = ready(head_start=30)
    method.trainer = trainer = SimpleNamespace(num_training_batches=8, max_epochs=4)
    assert [length for _, length in method.levels] == [30, 2]
    method.head_start = 32
    with pytest.raises(UserError, match=r"head_start = 32 iterations.*has 32"):
        method.on_train_start()
    with pytest.raises(UserError, match="0 iterations or more; got -1"):
        ready(head_start=-1)
    trainer.max_epochs = 5
    method.on_train_start()
    assert ready().levels == []


def test_a_resumed_run_goes_on_in_the_head_start():
    method, batch = ready(head_start=3), pictures(1, torch.float32)
    method.on_load_checkpoint({"loops": loops(2), "ranks": [], "state_dict": method.state_dict()})
    assert method.iteration == 2
    assert "output" not in method.training_step(batch, 0)
    assert "output" in method.training_step(batch, 0)


@pytest.mark.parametrize(
    ("zero", "generator_calls", "discriminator_calls"),
    # Both generators: translate, return, identity. Both discriminators: for the generator, a real, a fake one.
    [((), 3, 3), (("identity",), 2, 3), (("cycle",), 2, 3), (("gan",), 3, 2)],
)
def test_a_weight_of_zero_removes_the_computation(zero, generator_calls, discriminator_calls):
    weights = {name: 0.0 if name in zero else 1.0 for name in ("gan", "cycle", "identity")}
    method = ready(weights=weights)
    calls = Counter()
    for name in NETWORKS:
        getattr(method, name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    outputs = method.training_step(pictures(1, torch.float32), 0)
    assert [calls[name] for name in NETWORKS] == [generator_calls] * 2 + [discriminator_calls] * 2
    assert set(outputs["losses"]) == {*weights, "discriminator_a", "discriminator_b"} - set(zero)


@pytest.mark.parametrize("wrong", [{"gan": 1.0, "cycle": 10.0}, {"gan": 1.0, "cycle": 10.0, "idt": 5.0}])
def test_weights_of_other_names_are_refused(wrong):
    with pytest.raises(UserError, match=r"this method has \['cycle', 'gan', 'identity', 'perceptual'\]"):
        CycleGAN(**SMALL, weights=wrong)


def test_picture_columns_are_real_generated_reconstructed_at_any_size():
    method = ready()
    photo = torch.rand(1, 3, 13, 18) * 2 - 1
    columns = method.picture_columns(photo)
    assert list(columns) == ["real", "generated", "reconstructed"]
    assert {tuple(image.shape) for image in columns.values()} == {(1, 3, 13, 18)}
    padded = torch.nn.functional.pad(photo, (0, 2, 0, 3), mode="reflect")
    expected = method.generator_ab(padded)[..., :13, :18]
    assert torch.equal(columns["generated"], expected)
    assert method.translator() is method.generator_ab


@pytest.mark.slow
def test_it_overfits_one_photograph_and_one_picture():
    fast = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999))
    method = ready(optimizer_g=fast, optimizer_d=fast)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    photo = torch.stack([x, y, x * y]).unsqueeze(0)
    batch = {"photo": photo, "anime": torch.stack([-x, (x > y).float(), y]).unsqueeze(0)}
    losses = [method.training_step(batch, 0)["losses"] for _ in range(80)]
    first, last = ({name: loss[name].item() for name in ("cycle", "identity")} for loss in (losses[0], losses[-1]))
    assert last["cycle"] < 0.25 * first["cycle"]
    assert last["identity"] < 0.25 * first["identity"]
