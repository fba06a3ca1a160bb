import copy
import weakref
from functools import partial

import pytest
import torch
from helpers.by_hand import connect, gradients, spy_on_gradients
from helpers.recipes import assert_defaults_are_those_of_the_recipe, read_recipe
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.methods.vqi2i import JUDGED, VQI2I, WEIGHTS
from lit_ghibli.networks.lpips import Lpips
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.vqi2i import VqGenerator
from lit_ghibli.networks.weights import without_fetching
from lit_ghibli.recipes import build

TINY = [
    "data=scenes",
    "data.crop_size=24",
    "method.generator.base_channels=4",
    "method.generator.multipliers=[1,2]",
    "method.generator.attention_strides=[]",
    "method.generator.num_blocks=1",
    "method.generator.z_channels=4",
    "method.generator.num_codes=8",
    "method.generator.code_dim=4",
    "method.generator.codebook_ema=0.9",
    "method.generator.restart_after=3",
    "method.generator.num_adain_blocks=1",
    "method.generator.style_dim=3",
    "method.generator.style_channels=2",
    "method.generator.style_downs=2",
    "method.discriminator.base_channels=4",
    "method.discriminator.num_layers=2",
    "method.weights.lpips=0",
]
SMALL_NETWORK = [word for word in TINY if word.startswith("method.generator")]
# Dropout and restarts draw on each rank by themselves.
SAME_ON_ALL_RANKS = ["method.generator.dropout=0", "method.generator.restart_after=0"]
NETWORK = {
    "base_channels": 4,
    "multipliers": (1, 2),
    "num_blocks": 1,
    "attention_strides": (),
    "z_channels": 4,
    "dropout": 0.0,
    "num_codes": 8,
    "code_dim": 4,
    "num_adain_blocks": 1,
    "style_dim": 3,
    "style_channels": 2,
    "style_downs": 2,
}
SMALL = {
    "generator": partial(VqGenerator, **NETWORK),
    "discriminator": partial(PatchDiscriminator, base_channels=4, num_layers=2, norm="affine_instance"),
    "lpips": partial(Lpips, backbone="alex", weights="random"),
}
ALL = {"gan": 0.7, "l1": 3.0, "lpips": 0.0, "codebook": 1.3, "style": 0.9, "content": 0.4}
UNPAIRED = ALL | {"pair": 0.0, "pair_content": 0.0}
PAIRED = ALL | {"pair": 2.0, "pair_content": 0.6}


def ready(**arguments) -> VQI2I:
    """A method whose training_step can be called by hand, with tiny networks and codes among their features."""
    torch.manual_seed(0)
    method = connect(VQI2I(**SMALL | arguments))
    method.setup("fit")
    torch.nn.init.normal_(method.generator.quantizer.codebook, std=0.5)
    return method


def pictures(*names: str, count: int = 2, size: int = 24, dtype=torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(count, 3, size, size, generator=generator, dtype=dtype) * 2 - 1 for name in names}


def batch_of(method: VQI2I, dtype=torch.float32) -> dict[str, torch.Tensor]:
    return pictures(*method.batch_keys, dtype=dtype)


def test_defaults_are_those_of_the_recipe():
    with torch.device("meta"):
        ours = VQI2I()
        theirs = assert_defaults_are_those_of_the_recipe(ours, "vqi2i")
    for name in ("judged", "beta", "beta_weighs", "faithful", "initialization_epochs"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_the_recipes_are_those_of_the_report_and_of_the_released_code():
    with torch.device("meta"):
        report, released = VQI2I(), build(read_recipe("vqi2i_released"))
        paired = build(read_recipe("vqi2i_paired", *SMALL_NETWORK))

    def millions(network) -> float:
        return round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1)

    parts = [(g.content_encoder, g.decoders["b"], g) for g in (report.generator, released.generator)]
    assert [millions(part) for part in parts[0]] == [101.2, 227.0, 569.5]
    assert [millions(part) for part in parts[1]] == [29.3, 63.5, 162.4]  # 61.3 and 2.2 of the style's perceptron
    assert sum(p.numel() for p in report.generator.style_encoders["a"].parameters()) == 6_901_632
    assert sum(p.numel() for p in released.generator.decoders["a"].perceptron.parameters()) == 8 * 256 + 256 + 256 * 257
    assert released.weights == WEIGHTS | {"style": 0.0, "content": 0.0}
    assert (report.beta_weighs, released.beta_weighs) == ("commitment", "codebook")
    assert [m.batch_keys for m in (report, released, paired)] == [("photo", "anime")] * 2 + [("input", "target")]
    assert paired.weights == WEIGHTS | {"style": 0.5, "content": 0.0, "pair": 3.0, "pair_content": 0.5}
    assert paired.judged == {"translation": 0.8, "reconstruction": 0.2}
    for method in (report, released, paired):
        for optimizer in method.configure_optimizers()[0]:
            assert (optimizer.defaults["lr"], tuple(optimizer.defaults["betas"])) == (1e-5, (0.5, 0.999))


def hinge(d, real, fake):
    return 0.5 * ((1 - d(real)).clamp(min=0).mean() + (1 + d(fake)).clamp(min=0).mean())


def distance(x, y):
    return (x - y).abs().mean()


@pytest.mark.parametrize(
    ("arguments", "weights"),
    [({}, UNPAIRED), ({}, PAIRED), ({"faithful": True, "beta_weighs": "codebook"}, UNPAIRED)],
    ids=["unpaired", "paired", "faithful"],
)
def test_a_step_has_the_losses_and_gradients_of_the_formulas(arguments, weights):
    method = ready(weights=weights, **arguments).double()
    batch = batch_of(method, torch.float64)
    a, b = (batch[key] for key in method.batch_keys)
    g = copy.deepcopy(method.generator)
    d = {"a": copy.deepcopy(method.discriminator_a), "b": copy.deepcopy(method.discriminator_b)}
    content_a, content_b = g.encode_content(a), g.encode_content(b)
    (c_a, z_a), (c_b, z_b) = ((c.features, c.nearest) for c in (content_a, content_b))
    q_a, q_b = c_a + (z_a - c_a).detach(), c_b + (z_b - c_b).detach()
    s_a, s_b = g.encode_style(a, "a"), g.encode_style(b, "b")
    rec = {"a": g.decode(q_a, s_a, "a"), "b": g.decode(q_b, s_b, "b")}
    fake = {"a": g.decode(q_b, s_a, "a"), "b": g.decode(q_a, s_b, "b")}
    expected = {"gan": 0.0}
    for domain, real in (("a", a), ("b", b)):
        loss = hinge(d[domain], real, fake[domain].detach()) + 0.2 * hinge(d[domain], real, rec[domain].detach())
        loss.backward()
        expected[f"discriminator_{domain}"] = loss
        torch.optim.Adam(d[domain].parameters(), lr=1e-5, betas=(0.5, 0.999)).step()
        expected["gan"] = expected["gan"] - d[domain](fake[domain]).mean() - 0.2 * d[domain](rec[domain]).mean()
    expected["l1"] = distance(rec["a"], a) + distance(rec["b"], b)
    to_codes, to_features = (
        ((z_a - c_a.detach()) ** 2).mean() + ((z_b - c_b.detach()) ** 2).mean(),
        ((c_a - z_a.detach()) ** 2).mean() + ((c_b - z_b.detach()) ** 2).mean(),
    )
    betas = (0.25, 1) if arguments else (1, 0.25)
    expected["codebook"] = betas[0] * to_codes + betas[1] * to_features
    if not arguments:
        fixed = copy.deepcopy(g).requires_grad_(False)
        style_a, style_b = fixed.encode_style(fake["a"], "a"), fixed.encode_style(fake["b"], "b")
        expected["style"] = distance(style_a, s_a.detach()) + distance(style_b, s_b.detach())
        again = [fixed.encode_content(fake[domain]).features for domain in ("b", "a")]
        expected["content"] = distance(again[0], c_a.detach()) + distance(again[1], c_b.detach())
    if weights is PAIRED:
        expected["pair"] = 0.5 * (distance(fake["a"], a) + distance(fake["b"], b))
        expected["pair_content"] = distance(c_a, c_b) + distance(q_a, q_b)
    for network in d.values():
        network.zero_grad()
    sum(weights[name] * term for name, term in expected.items() if "discriminator" not in name).backward()

    for parameter in method.generator.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)  # of the step before: must not count
    seen = spy_on_gradients(method)
    outputs = method.training_step(batch, 0)
    losses = {name: loss.item() for name, loss in outputs["losses"].items()}
    assert losses == pytest.approx({name: term.item() for name, term in expected.items()}, rel=1e-6)
    torch.testing.assert_close(outputs["output"], fake["b"])
    assert [set(step) - {"generator"} for step in seen] == [{"discriminator_a"}, {"discriminator_b"}, set()]
    found, reference = seen[-1]["generator"], gradients(g)
    assert found.keys() == reference.keys() == dict(g.named_parameters()).keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, reference[name], rtol=1e-5, atol=1e-9, msg=name)
    assert not gradients(method), "gradients outlive their phase"


def test_in_the_initialisation_pictures_are_reconstructed_alone(monkeypatch):
    method = ready(weights=UNPAIRED, epochs=3, initialization_epochs=1)
    monkeypatch.setattr(type(method.trainer), "num_training_batches", 2)
    seen = spy_on_gradients(method)
    found = [method.training_step(batch_of(method), step) for step in range(3)]
    assert [set(outputs) for outputs in found] == [{"losses", "codes_in_use"}] * 2 + [
        {"losses", "codes_in_use", "input", "output"}
    ]
    assert [set(outputs["losses"]) for outputs in found[:2]] == [{"l1", "codebook"}] * 2
    assert {"gan", "style", "content", "discriminator_a"} < set(found[2]["losses"])
    trained = [{name.split(".")[0] for name in step["generator"]} for step in seen[:2]]
    assert (
        trained
        == [{"content_encoder", "before_quantizer", "after_quantizer", "quantizer", "style_encoders", "decoders"}] * 2
    )
    assert not [step for step in seen[:2] if set(step) != {"generator"}]
    with pytest.raises(UserError, match=r"lpips=0 there is nothing to learn in the initialisation"):
        VQI2I(**SMALL, weights=UNPAIRED | {"l1": 0.0}, initialization_epochs=1)


def test_lpips_is_of_the_reconstructions():
    method = ready(weights=dict.fromkeys(WEIGHTS, 0.0) | {"lpips": 1.0})
    a, b = pictures("photo", "anime", count=1, size=64).values()
    with torch.no_grad():
        g = method.generator
        rec_b = g.decode(g.encode_content(b).nearest, g.encode_style(b, "b"), "b")
        expected = method.lpips(g.reconstruct(a), a) + method.lpips(rec_b, b)
    seen = spy_on_gradients(method)
    losses = method.training_step({"photo": a, "anime": b}, 0)["losses"]
    torch.testing.assert_close(losses, {"lpips": expected})
    assert any(gradient.abs().max() > 0 for name, gradient in seen[0]["generator"].items() if "content_encoder" in name)


def test_what_has_no_weight_is_not_computed():
    method = ready(weights=dict.fromkeys(WEIGHTS, 0.0) | {"codebook": 1.0})
    seen = spy_on_gradients(method)
    assert set(method.training_step(batch_of(method), 0)["losses"]) == {"codebook"}
    assert {name.split(".")[0] for name in seen[0]["generator"]} == {
        "content_encoder",
        "before_quantizer",
        "quantizer",
    }


def test_codes_and_styles_are_observed_once_a_step():
    method, logged = ready(weights=UNPAIRED), {}
    method.log_dict = lambda values, **options: logged.update(values)
    method.generator.quantizer.idle.fill_(200)
    batch = batch_of(method)
    with torch.no_grad():
        codes = [method.generator.encode_content(each).codes for each in batch.values()]
        style = method.generator.encode_style(batch["anime"], "b")
    outputs = method.training_step(batch, 0)
    used = torch.cat(codes).unique()
    assert 1 < len(used) < 8
    assert method.generator.quantizer.idle.tolist() == [0 if code in used else 201 for code in range(8)]
    assert outputs["codes_in_use"].item() == pytest.approx(len(used) / 8)
    assert logged["train/codes_in_use"].item() == pytest.approx(len(used))
    shares = [share for code in range(8) if (share := (torch.cat(codes) == code).double().mean().item())]
    entropy = -sum(share * torch.tensor(share).log().item() for share in shares)
    assert logged["train/perplexity"].log().item() == pytest.approx(entropy, rel=1e-5)
    torch.testing.assert_close(method.generator.style_mean, style.mean(0))


class Saved:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def test_a_step_keeps_nothing_of_its_graph_and_needs_no_more_memory_than_the_one_before():
    remedies = {"codebook_ema": 0.9, "restart_after": 1}
    method = ready(weights=UNPAIRED, generator=partial(VqGenerator, **NETWORK | remedies))
    logged, alive, numbers, outputs = [], weakref.WeakSet(), [], []
    method.log_dict = lambda values, **options: logged.extend(values.values())

    def save(tensor: torch.Tensor) -> Saved:
        saved = Saved(tensor)
        numbers[-1] += tensor.numel()
        alive.add(saved)
        return saved

    for step in range(3):
        numbers.append(0)
        with torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved.tensor):
            outputs.append(method.training_step(batch_of(method), step))
        assert not alive
    assert numbers[0] == numbers[1] == numbers[2] > 0
    kept = [*logged, *method.buffers(), *outputs[0]["losses"].values(), outputs[0]["input"], outputs[0]["output"]]
    assert not [value for value in kept if value.requires_grad]


def test_columns_show_the_reconstruction_the_translation_and_three_styles():
    method = ready()
    photo = pictures("photo", count=1, size=27)["photo"]
    method.generator.style_std.fill_(1.0)
    columns = method.picture_columns(photo, target=photo)
    assert list(columns) == ["input", "reconstruction", "translation", "style 1", "style 2", "style 3", "target"]
    assert {column.shape for column in columns.values()} == {photo.shape}
    padded = F.pad(photo, (0, 1, 0, 1), mode="reflect")
    expected = method.generator.reconstruct(padded)[..., :27, :27].clamp(-1, 1)
    torch.testing.assert_close(columns["reconstruction"], expected)
    styled = [columns[f"style {number}"] for number in (1, 2, 3)]
    assert min((x - y).abs().max() for x, y in zip(styled, [*styled[1:], columns["translation"]], strict=True)) > 1e-3
    again = method.picture_columns(photo)
    assert torch.equal(again["style 3"], columns["style 3"])


def test_a_missing_lpips_says_the_ways_out(tmp_path, monkeypatch):
    nowhere = partial(Lpips, weights=tmp_path / "vgg16.pth")
    method = connect(VQI2I(**SMALL | {"lpips": nowhere}))
    method.setup("predict")
    with pytest.raises(UserError, match=r"vgg16\.pth: no such file"):
        method.setup("fit")
    fetched = connect(VQI2I(**SMALL | {"lpips": Lpips}))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with without_fetching(), pytest.raises(UserError, match=r"backbone=mobilenet.*: method\.weights\.lpips=0$"):
        fetched.setup("fit")


def test_pictures_are_compared_by_mobilenet_where_its_package_is():
    lpips = Lpips("mobilenet", "random")
    a, b = pictures("a", "b", size=40).values()
    features = [lpips._hidden[0].features(x.requires_grad_()) for x in (a, b)]
    expected = 0.0
    for first, second in zip(*(list(each.values()) for each in features), strict=True):
        cosines = F.cosine_similarity(first.double(), second.double(), dim=1)
        expected = expected + ((2 - 2 * cosines) / first.shape[1]).mean()  # of vectors brought to length 1
    assert len(features[0]) == 5
    torch.testing.assert_close(lpips(a, b).double(), expected, rtol=1e-3, atol=1e-6)
    (gradient,) = torch.autograd.grad(lpips(a, b), a)
    assert gradient.abs().max() > 0
    assert not lpips.state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta_weighs": "both"}, r"method\.beta_weighs is 'both'; it must be 'commitment' or 'codebook'"),
        ({"weights": {"gan": 1.0}}, r"this method has \['codebook', 'content'"),
        ({"judged": JUDGED | {"translation": -1.0}}, r"method\.judged must not be negative"),
        ({"generator": partial(VqGenerator, attention="sparse")}, r"attention is 'sparse'; it must be"),
        ({"generator": partial(VqGenerator, codebook_ema=1.0)}, r"codebook_ema must be at least 0 and below 1; got 1"),
        ({"generator": partial(VqGenerator, attention_strides=[32])}, r"attention_strides has 32; .* 1, 2, 4, 8, 16$"),
        ({"lpips": partial(Lpips, backbone="squeeze")}, r"method\.lpips\.backbone=squeeze: choose one of alex, vgg"),
    ],
)
def test_what_fits_no_configuration_is_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        VQI2I(**SMALL | arguments).setup("fit")
