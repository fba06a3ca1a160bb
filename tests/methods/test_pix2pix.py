import copy
from collections import Counter
from functools import partial

import pytest
import torch
from helpers.by_hand import connect, gradients, spy_on_gradients
from helpers.recipes import assert_defaults_are_those_of_the_recipe
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.methods.pix2pix import Pix2Pix
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.training import rank_state

TINY = [
    "data=scene_pairs",
    "data.crop_size=24",
    "method.generator.base_channels=4",
    "method.generator.depth=3",
    "method.generator.test_dropout=true",
    "method.discriminator.base_channels=4",
    "method.discriminator.num_layers=2",
]
SAME_ON_ALL_RANKS = [
    "method.generator.dropout=0",
    "method.generator.norm=instance",
    "method.discriminator.norm=instance",
]
NETWORKS = ("generator", "discriminator")
SMALL = {
    "generator": partial(UnetGenerator, base_channels=4, depth=3, dropout=0.0),
    "discriminator": partial(PatchDiscriminator, in_channels=6, base_channels=4, num_layers=2, norm="batch"),
}


def ready(**arguments) -> Pix2Pix:
    """A method whose training_step can be called by hand, with tiny networks unless others are given."""
    torch.manual_seed(0)
    return connect(Pix2Pix(**SMALL | arguments))


def pairs(count: int = 2, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(count, 3, 24, 32, generator=generator, dtype=dtype) * 2 - 1 for name in ("input", "target")
    }


@pytest.fixture(scope="module")
def published() -> Pix2Pix:
    return Pix2Pix()


def test_defaults_are_those_of_the_recipe(published):
    assert_defaults_are_those_of_the_recipe(published, "pix2pix")


def test_the_recipe_is_the_published_one(published):
    method = published
    assert method.weights == {"gan": 1.0, "l1": 100.0}
    for optimizer in method.configure_optimizers()[0]:
        assert isinstance(optimizer, torch.optim.Adam)
        assert (optimizer.defaults["lr"], tuple(optimizer.defaults["betas"])) == (2e-4, (0.5, 0.999))


def test_parameter_counts(published):
    # Released networks: U-Net-256 54.414 M, conditional 70x70 PatchGAN 2.769 M.
    counts = [sum(p.numel() for p in getattr(published, name).parameters()) for name in NETWORKS]
    # 4x4 convolutions 6 -> 64 -> 128 -> 256 -> 512 -> 1, biases on the first and last, affine batch norms between
    patchgan = 16 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1 + 2 * (128 + 256 + 512)
    assert counts == [54_413_955, patchgan]
    assert round(patchgan / 1e6, 3) == 2.769


def test_weights_start_from_the_narrow_normal(published):
    for name in NETWORKS:
        for module in getattr(published, name).modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d) and module.weight.numel() > 20_000:
                assert abs(module.weight.std().item() - 0.02) < 0.001
                assert abs(module.weight.mean().item()) < 0.001


def conditional(network, x, y):
    return network(torch.cat([x, y], dim=1))


def reference(method: Pix2Pix, batch, weights) -> tuple[dict[str, float], dict[str, dict[str, torch.Tensor]]]:
    """Losses and gradients of one step by the paper's formulas: D moves first, G against the moved D."""
    g, d = copy.deepcopy(method.generator), copy.deepcopy(method.discriminator)
    x, y = batch["input"], batch["target"]
    fake = g(x)
    loss_d = -(torch.sigmoid(conditional(d, x, y)).log().mean()) / 2
    loss_d = loss_d - (1 - torch.sigmoid(conditional(d, x, fake.detach()))).log().mean() / 2
    grads_d = torch.autograd.grad(loss_d, list(d.parameters()))
    optimizer = torch.optim.Adam(d.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for parameter, gradient in zip(d.parameters(), grads_d, strict=True):
        parameter.grad = gradient
    optimizer.step()
    gan = -torch.sigmoid(conditional(d, x, fake)).log().mean()
    l1 = (fake - y).abs().mean()
    grads_g = torch.autograd.grad(weights["gan"] * gan + weights["l1"] * l1, list(g.parameters()))
    return (
        {"discriminator": loss_d.item(), "gan": gan.item(), "l1": l1.item()},
        {
            name: dict(zip(dict(network.named_parameters()), grads, strict=True))
            for name, network, grads in (("generator", g, grads_g), ("discriminator", d, grads_d))
        },
    )


def test_a_step_has_the_losses_and_gradients_of_the_formulas():
    weights = {"gan": 0.7, "l1": 90.0}
    method = ready(weights=weights).double()
    batch = pairs()
    losses, expected = reference(method, batch, weights)
    for parameter in method.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # of the step before: must not count
    seen = spy_on_gradients(method)
    outputs = method.training_step(batch, 0)
    assert {name: loss.item() for name, loss in outputs["losses"].items()} == pytest.approx(losses, rel=1e-5)
    for name, step in zip(("discriminator", "generator"), seen, strict=True):
        assert step[name].keys() == expected[name].keys()
        assert max(gradient.abs().max() for gradient in step[name].values()) > 1e-3
        for parameter, gradient in step[name].items():
            torch.testing.assert_close(gradient, expected[name][parameter], rtol=1e-5, atol=1e-9)


def test_each_phase_leaves_the_other_network_alone():
    method = ready().double()
    seen = spy_on_gradients(method)
    method.training_step(pairs(), 0)
    assert [step.keys() for step in seen] == [{"discriminator"}, {"generator"}]
    assert not gradients(method), "gradients outlive their phase"


@pytest.mark.parametrize(
    ("zero", "generator_calls", "discriminator_calls", "terms"),
    [
        ("", 1, 3, {"gan", "l1", "discriminator"}),
        ("gan", 1, 0, {"l1"}),
        ("l1", 1, 3, {"gan", "discriminator"}),
    ],
)
def test_a_weight_of_zero_removes_the_computation(zero, generator_calls, discriminator_calls, terms):
    method = ready(weights={name: 0.0 if name == zero else 1.0 for name in ("gan", "l1")})
    calls = Counter()
    for name in NETWORKS:
        getattr(method, name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    outputs = method.training_step(pairs(1, torch.float32), 0)
    assert [calls[name] for name in NETWORKS] == [generator_calls, discriminator_calls]
    assert set(outputs["losses"]) == terms
    assert not any(loss.requires_grad for loss in outputs["losses"].values())


def test_weights_of_other_names_are_refused():
    with pytest.raises(UserError, match=r"this method has \['gan', 'l1'\]"):
        Pix2Pix(**SMALL, weights={"gan": 1.0, "cycle": 10.0})


def test_the_gap_is_the_held_out_l1_less_the_epochs_training_l1():
    method = ready(metrics=MetricSuite(("l1",)))
    batches = [pairs(2, torch.float32), pairs(2, torch.float32)]
    batches[1] = {name: images.flip(2) for name, images in batches[1].items()}
    method.on_train_epoch_start()
    errors = []
    for number, batch in enumerate(batches):
        errors.append((method.generator(batch["input"]) - batch["target"]).abs().mean().item() / 2)
        method.training_step(batch, number)
    method.eval()
    method.validation_step(batches[0], 0)
    values = method.validation_metrics()
    held_out = (method.generator(batches[0]["input"]) - batches[0]["target"]).abs().mean().item() / 2
    assert values["l1"] == pytest.approx(held_out, rel=1e-5)
    assert values["l1_gap"] == pytest.approx(held_out - sum(errors) / 2, abs=1e-6)
    assert rank_state.collect(method)[0]["memories"]["train_l1"]["total"][1] == 4, (
        "a resumed epoch goes on with its mean"
    )
    method.on_train_epoch_start()
    assert "l1_gap" not in method.validation_metrics()


def test_strips_are_input_output_target_at_any_size():
    method = ready().eval()
    image, target = torch.rand(2, 1, 3, 13, 18) * 2 - 1
    columns = method.picture_columns(image, target)
    assert list(columns) == ["input", "output", "target"]
    padded = F.pad(image, (0, 6, 0, 3), mode="reflect")
    assert torch.equal(columns["output"], method.generator(padded)[..., :13, :18])
    assert list(method.picture_columns(image)) == ["input", "output"]
    assert method.translator() is method.generator


@pytest.mark.slow
def test_it_overfits_two_pairs():
    fast = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999))
    wider = partial(UnetGenerator, base_channels=8, depth=3, dropout=0.0)
    method = ready(generator=wider, optimizer_g=fast, optimizer_d=fast)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    images = torch.stack([torch.stack([x, y, x * y]), torch.stack([y, -x, x * x - 0.5])])
    batch = {"input": images, "target": torch.stack([-images[0], images[1].flip(0)])}
    losses = [method.training_step(batch, 0)["losses"]["l1"].item() for _ in range(200)]
    assert losses[-1] < 0.15 * losses[0]
