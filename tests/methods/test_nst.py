import copy
import inspect
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.by_hand import connect, loops
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch.nn import functional as F

from lit_ghibli.data.single_pictures import resize
from lit_ghibli.errors import UserError
from lit_ghibli.images import luminance, to_unit
from lit_ghibli.methods.nst import NeuralStyle
from lit_ghibli.networks.vgg import LAYERS, VggFeatures
from lit_ghibli.recipes import config_dir

TINY = [
    "data=iterations",
    "callbacks=nst",
    "method/pixel_optimizer=lbfgs",
    "method.content={pictures[0]}",
    "method.style=[{pictures[1]},{pictures[2]}]",
    "method.vgg.weights=random",
    "method.content_layers=[conv2_1]",
    "method.style_layers=[conv1_1,relu2_1]",
    "method.size=24",
    "method.levels=[[0.5,3],[0.75,8],[1,10]]",  # 21 iterations, seven in each of three epochs, as the others
    "callbacks.frames.every_n_iterations=4",
]
RECIPE = Path(config_dir()) / "method" / "nst.yaml"
RandomVgg = partial(VggFeatures, weights="random")
Search = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 20}
Lbfgs = partial(torch.optim.LBFGS, **Search, history_size=4, tolerance_grad=0.0, tolerance_change=0.0)
SHALLOW = {"content_layers": ["conv2_1"], "style_layers": ["conv1_1", "relu2_1"], "vgg": RandomVgg}


def experiment(name: str, *overrides: str) -> dict:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", [f"experiment={name}", "name=x", "run_dir=y", *overrides])
    return OmegaConf.to_container(config.method, resolve=True)


def build(pictures, **arguments) -> NeuralStyle:
    torch.manual_seed(0)
    return NeuralStyle(**{"content": pictures[0], "style": pictures[1:2], **SHALLOW, **arguments})


def ready(pictures, **arguments) -> NeuralStyle:
    """A method in float64 whose training_step can be called by hand."""
    return connect(build(pictures, **arguments).double())


def steps(method: NeuralStyle, count: int) -> list[dict[str, float]]:
    outputs = [method.training_step(None, 0)["losses"] for _ in range(count)]
    return [{name: loss.item() for name, loss in losses.items()} for losses in outputs]


# The recipes


def test_defaults_are_those_of_the_scratch_recipe(pictures):
    files = {"content": pictures[0], "style": pictures[1]}
    recipe = experiment("nst_scratch", "method.vgg.weights=random")
    theirs = instantiate(recipe | {name: str(file) for name, file in files.items()}, _convert_="object")
    ours = NeuralStyle(**files, vgg=RandomVgg)
    for name in ("content_layers", "style_layers", "style_weights", "normalize_gram", "weights"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("levels", "epochs", "color", "content_file", "style_files", "sizes", "style_sizes"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert torch.equal(ours.pixels, theirs.pixels)
    assert torch.equal(ours.pixels, ours.content), "it starts from the content"
    groups = [method.configure_optimizers().param_groups[0] for method in (ours, theirs)]
    for group in groups:
        group["params"], group["betas"] = len(group["params"]), tuple(group["betas"])
    assert groups[0] == groups[1]


def test_the_recipe_names_every_argument_and_none_besides():
    recipe = set(OmegaConf.load(RECIPE)) - {"_target_", "defaults"} | {"optimizer", "vgg"}
    assert recipe == set(inspect.signature(NeuralStyle).parameters) - {"metrics"}


def test_scratch_has_the_documents_numbers():
    recipe = experiment("nst_scratch")
    assert recipe["weights"] == {"content": 0.9, "style": 0.1, "tv": 0.0}
    assert recipe["content_layers"] == recipe["style_layers"] == [0, 5, 10, 19, 29]
    assert recipe["content_layer_weights"] == recipe["style_layer_weights"] == "sum"
    assert not recipe["normalize_gram"]
    assert recipe["levels"] == [[1.0, 10_000]]
    assert recipe["levels"][0][1] / recipe["epochs"] == 500
    assert (recipe["optimizer"]["_target_"], recipe["optimizer"]["lr"]) == ("torch.optim.Adam", 2 * 1e-3)
    assert recipe["size"] is None


def test_ghibli_has_the_documents_layers_and_size():
    recipe = experiment("nst_ghibli")
    assert [LAYERS[index] for index in recipe["content_layers"]] == ["conv4_1"]
    assert [LAYERS[index] for index in recipe["style_layers"]] == [f"conv{stage}_1" for stage in range(1, 6)]
    assert (recipe["style_layer_weights"], recipe["size"], recipe["weights"]["content"]) == ("mean", 512, 1.0)
    assert recipe["optimizer"]["_target_"] == "torch.optim.LBFGS"
    scales = [scale for scale, _ in recipe["levels"]]
    assert scales == sorted(scales)
    assert scales[-1] == 1.0


# The objective and the first iterates, computed independently in float64 on pixels in [0, 1]


def reference_features(method, unit, names):
    """Torch's plain convolutions, with the method's weights, on pictures in [0, 1] under ImageNet's statistics."""
    mean, std = (
        torch.tensor(values).double().view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    layers = {name: layer for stage in method.vgg.stages for name, layer in stage.items()}
    x, values = (unit - mean) / std, {}
    for name in LAYERS:
        if name.startswith("conv"):
            x = F.conv2d(x, layers[name].weight.double(), layers[name].bias.double(), padding=1)
        else:
            x = x.clamp(min=0) if name.startswith("relu") else F.max_pool2d(x, 2)
        values[name] = x
        if name == names[-1]:
            return values
    raise AssertionError(names)


def reference_terms(method, unit, content, styles, *, content_layers, style_layers, share, weights, normalize):
    """Content, style and total variation as the documents write them, with loops and sums."""
    deepest = sorted({*content_layers, *style_layers}, key=LAYERS.index)
    ours, theirs, *painted = (reference_features(method, image, deepest) for image in (unit, content, *styles))

    def gram(features):
        count = features[0].numel() if normalize else 1
        return torch.einsum("nchw,ndhw->cd", features, features) / count

    loss_content = sum((ours[layer] - theirs[layer]).pow(2).sum() / ours[layer].numel() for layer in content_layers)
    loss_style = 0.0
    for weight, features in zip(weights, painted, strict=True):
        for layer in style_layers:
            difference = gram(ours[layer]) - gram(features[layer])
            loss_style = loss_style + weight * share * difference.pow(2).sum() / difference.numel()
    x = 2 * unit - 1
    rows, columns = x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]
    loss_tv = rows.pow(2).sum() / rows.numel() + columns.pow(2).sum() / columns.numel()
    return {"content": loss_content, "style": loss_style, "tv": loss_tv}


SCRATCH_LAYERS = ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "relu5_1"]
GHIBLI_LAYERS = ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"]


@pytest.mark.parametrize("name", ["nst_scratch", "nst_ghibli"])
def test_terms_of_both_recipes_are_those_of_the_formulas(name, pictures):
    method = experiment(
        name, "method.vgg.weights=random", "method.weights.tv=1", "method.size=24", "method.levels=[[1,1]]"
    )
    method |= {"content": str(pictures[0]), "style": [str(file) for file in pictures[1:]], "style_weights": [0.3, 0.7]}
    method |= {"start": "noise"}
    method = connect(instantiate(method, _convert_="object").double())
    scratch = name == "nst_scratch"
    expected = reference_terms(
        method,
        (method.pixels.detach() + 1) / 2,
        (resize(method.content, (16, 24)).double() + 1) / 2,
        [(resize(s, size).double() + 1) / 2 for s, size in zip(method.styles, [(24, 24), (24, 16)], strict=True)],
        content_layers=SCRATCH_LAYERS if scratch else ["conv4_1"],
        style_layers=SCRATCH_LAYERS if scratch else GHIBLI_LAYERS,
        share=1.0 if scratch else 1 / 5,
        weights=[0.3, 0.7],
        normalize=not scratch,
    )
    (losses,) = steps(method, 1)
    for term, value in expected.items():
        assert losses[term] == pytest.approx(value.item(), rel=1e-6)
    weights = method.weights
    assert losses["total"] == pytest.approx(
        sum(weights[term] * value.item() for term, value in expected.items()), rel=1e-6
    )


def test_the_first_adam_iterates_are_those_of_the_document(pictures):
    """Adam with lr 1e-3 on pixels in [0, 1], written out; the recipe's lr and eps on [-1, 1] do the same."""
    recipe = experiment("nst_scratch", "method.vgg.weights=random", "method.size=24", "method.levels=[[1,5]]")
    recipe |= {"content": str(pictures[0]), "style": str(pictures[1])}
    method = connect(instantiate(recipe, _convert_="object").double())
    content = (method.pixels.detach() + 1) / 2
    style = (resize(method.styles[0], (24, 24)).double() + 1) / 2
    x, first, second = content.clone(), torch.zeros_like(content), torch.zeros_like(content)
    for step in range(1, 6):
        x.requires_grad_(True)
        layers = {"content_layers": SCRATCH_LAYERS, "style_layers": SCRATCH_LAYERS}
        terms = reference_terms(method, x, content, [style], **layers, share=1.0, weights=[1.0], normalize=False)
        (gradient,) = torch.autograd.grad(0.9 * terms["content"] + 0.1 * terms["style"], x)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = (second / (1 - 0.999**step)).sqrt()
        x = x.detach() - 1e-3 * first / (1 - 0.9**step) / (root + 1e-8)
        method.training_step(None, 0)
        torch.testing.assert_close((method.pixels.detach() + 1) / 2, x, rtol=0, atol=1e-6)
    assert (x - content).abs().max() > 4e-3


def test_plain_gradient_descent_is_an_optimiser(pictures):
    recipe = experiment("nst_scratch", "method/pixel_optimizer=descent", "method.vgg.weights=random", "method.size=24")
    recipe |= {"content": str(pictures[0]), "style": str(pictures[1])}
    method = connect(instantiate(recipe, _convert_="object").double())
    method.enter_level()
    x = method.pixels.detach().clone()
    totals = []
    for _ in range(3):
        method.pixels.data = x.clone()
        terms = method.terms()
        total = 0.9 * terms["content"] + 0.1 * terms["style"]
        (gradient,) = torch.autograd.grad(total, method.pixels)
        totals.append(total.item())
        method.training_step(None, 0)
        x = x - recipe["optimizer"]["lr"] * gradient
        torch.testing.assert_close(method.pixels.detach(), x, rtol=0, atol=1e-12)
    assert totals[2] < totals[1] < totals[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nst_scratch", "nst_ghibli"])
def test_the_loss_of_both_recipes_falls(name, pictures):
    """Means over windows fall on every level, but for what a level's start costs."""
    overrides = ["method.vgg.weights=random", "method.size=32", "method.levels=[[0.75,20],[1,20]]"]
    recipe = experiment(name, *overrides) | {"content": str(pictures[0]), "style": str(pictures[1])}
    method = connect(instantiate(recipe, _convert_="object"))
    totals = torch.tensor([losses["total"] for losses in steps(method, 40)])
    for level in totals.view(2, 4, 5).mean(dim=2):
        assert (level.diff() < 0).all(), level


# Options


def test_a_weight_of_zero_removes_the_computation(pictures):
    content = ready(pictures, weights={"content": 1.0, "style": 0.0, "tv": 0.0}, start="noise")
    assert content.vgg.taps == ("conv2_1",)
    assert set(steps(content, 1)[0]) == {"content", "total"}
    style = ready(pictures, weights={"content": 0.0, "style": 1.0, "tv": 0.1})
    assert style.vgg.taps == ("conv1_1", "relu2_1")
    assert set(steps(style, 1)[0]) == {"style", "tv", "total"}


def test_layers_have_weights_of_their_own(pictures):
    one, other, both = (
        steps(ready(pictures, style_layer_weights=weights), 1)[0]["style"] for weights in ([1, 0], [0, 1], [3, 0.5])
    )
    assert both == pytest.approx(3 * one + 0.5 * other, rel=1e-9)
    assert min(one, other) > 0


def test_average_pooling_reaches_the_network(pictures):
    pools = [steps(ready(pictures, vgg=partial(RandomVgg, pool=pool)), 1)[0]["style"] for pool in ("max", "average")]
    assert pools[0] != pytest.approx(pools[1], rel=1e-3)


def test_starts(pictures):
    size = {"size": 24}
    content, noise, style = (build(pictures, start=start, **size) for start in ("content", "noise", "style"))
    assert torch.equal(content.pixels, resize(content.content, (16, 24)))
    assert torch.equal(style.pixels, resize(style.styles[0], (16, 24)))
    assert noise.pixels.std().item() == pytest.approx(1 / 3**0.5, rel=0.1)
    assert noise.pixels.abs().max() <= 1
    torch.manual_seed(0)
    again = NeuralStyle(pictures[0], pictures[1], start="noise", **size, **SHALLOW)
    assert torch.equal(again.pixels, noise.pixels)


def test_luminance_keeps_the_chroma_of_the_content(pictures):
    method = ready(pictures, color="luminance", start="noise", optimizer=partial(torch.optim.Adam, lr=0.05))
    losses = steps(method, 20)
    assert losses[-1]["total"] < losses[0]["total"]
    picture, content = method.picture(), method.content.double()
    torch.testing.assert_close(picture - luminance(picture), content - luminance(content), rtol=0, atol=1e-6)
    torch.testing.assert_close(luminance(picture), luminance(method.pixels.detach()), rtol=0, atol=1e-6)


def test_luminance_sees_no_color(pictures):
    method = ready(pictures, color="luminance", start="noise")
    steps(method, 1)
    before = {name: term.item() for name, term in method.terms().items()}
    # Adding to red and taking from blue what leaves the luma as it is.
    method.pixels.data += torch.tensor([0.114, 0.0, -0.299], dtype=torch.float64).view(3, 1, 1)
    assert {name: term.item() for name, term in method.terms().items()} == pytest.approx(before, rel=1e-9)


def test_matched_styles_have_the_colors_of_the_content(pictures):
    method = build(pictures, color="matched", style=pictures[1:])
    colors = method.content.flatten(2)[0]
    for style in method.styles:
        torch.testing.assert_close(style.flatten(2)[0].mean(1), colors.mean(1), rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.cov(style.flatten(2)[0]), torch.cov(colors), rtol=0, atol=1e-5)


def test_sizes_of_the_pyramid(pictures):
    method = ready(pictures, size=24, style_scale=1.5, levels=[[0.5, 2], [1.0, 1], [1.25, 1]], optimizer=Lbfgs)
    assert method.style_sizes == [[(18, 18)], [(36, 36)], [(45, 45)]]
    assert [method.level_at(iteration) for iteration in range(6)] == [0, 0, 1, 2, 2, 2]
    seen = []
    for _ in range(4):
        before = method.optimizers().optimizer
        method.training_step(None, 0)
        seen.append((method.size, method.optimizers().optimizer is before))
    assert seen == [((8, 12), True), ((8, 12), True), ((16, 24), False), ((20, 30), False)]
    assert torch.equal(method.optimizers().optimizer.param_groups[0]["params"][0], method.pixels)


def test_a_level_starts_from_what_the_one_before_has_made(pictures):
    method = ready(pictures, size=24, levels=[[0.5, 2], [1.0, 1]], optimizer=partial(torch.optim.SGD, lr=0.0))
    steps(method, 2)
    coarse = method.pixels.detach().clone()
    method.training_step(None, 0)
    assert torch.equal(method.pixels, F.interpolate(coarse, (16, 24), mode="bicubic", antialias=True))


@pytest.mark.parametrize("before", [1, 2, 3], ids=["inside the first level", "between two levels", "inside the second"])
def test_a_resumed_picture_goes_on_bit_by_bit(pictures, before):
    arguments = {"size": 24, "levels": [[0.5, 2], [1.0, 3]], "optimizer": Lbfgs}
    straight, stopped, resumed = (ready(pictures, **arguments) for _ in range(3))
    steps(straight, 5)
    steps(stopped, before)
    checkpoint = {"state_dict": stopped.state_dict(), "loops": loops(before)}
    stopped.on_save_checkpoint(checkpoint)
    assert set(checkpoint["state_dict"]) == {"pixels"}, "the network is in no checkpoint"
    resumed.on_load_checkpoint(checkpoint)
    resumed.load_state_dict(checkpoint["state_dict"])
    connect(resumed)
    resumed.optimizers().optimizer.load_state_dict(copy.deepcopy(stopped.optimizers().optimizer.state_dict()))
    steps(resumed, 5 - before)
    assert torch.equal(resumed.pixels, straight.pixels)


def test_pictures_share_the_gram_matrices_of_a_style(pictures):
    first, second = ready(pictures, size=24), ready(pictures, size=24, content=pictures[2])
    memory = first.gram_memory
    alone = steps(ready(pictures, size=24, content=pictures[2]), 1)
    second.gram_memory = memory
    steps(first, 1)
    looks = []
    second.vgg.register_forward_hook(lambda *arguments: looks.append(arguments))
    assert steps(second, 1) == alone
    assert len(looks) == 2, "the content's target and the picture, no style"
    assert list(memory) == [(pictures[1], (24, 24))]


def test_calls_of_the_closure_are_counted_and_none_is_computed_twice(pictures):
    method = ready(pictures, optimizer=Lbfgs, start="noise")
    logged, looks = [], []
    method.log_dict = lambda values, **options: logged.append(values)
    method.enter_level()
    method.vgg.register_forward_hook(lambda *arguments: looks.append(1))
    steps(method, 6)
    calls = [int(values["train/evaluations"]) for values in logged if "train/evaluations" in values]
    assert min(calls) >= 2, "the start and at least one length"
    assert sum(calls) - 5 <= len(looks) < sum(calls), "most steps begin where the search before them has been"
    assert {values["train/long_side"] for values in logged if "train/long_side" in values} == {48}


def test_remembering_evaluations_changes_nothing(pictures):
    ours, plain = (ready(pictures, optimizer=Lbfgs, start="noise") for _ in range(2))
    expected = []
    for _ in range(6):
        expected += steps(plain, 1)
        plain._last = None
    assert steps(ours, 6) == expected
    assert torch.equal(ours.pixels, plain.pixels)


def test_without_a_line_search_an_iteration_is_one_evaluation(pictures):
    method = ready(pictures)
    steps(method, 1)
    looks = []
    method.vgg.register_forward_hook(lambda *arguments: looks.append(1))
    steps(method, 3)
    assert len(looks) == 3


# What cannot be done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"content": None}, r"method\.content not set"),
        ({"content": None, "style": None}, r"method\.content and method\.style not set"),
        ({"content": "x.jpg", "style": ["y.jpg", "z.jpg"]}, r"(?s)3 of 3 pictures cannot.*x\.jpg.*y\.jpg.*z\.jpg"),
        ({"size": 1}, r"too small for relu2_1, which needs 2x2 pixels.*a\.png at 1x1.*b\.png at 1x1"),
        ({"levels": [[0.02, 1], [1, 1]]}, r"too small.*a\.png at 1x1"),
        ({"style_layers": ["conv4_5"]}, "no layer 'conv4_5'. Did you mean conv4_4"),
        ({"style_layers": ["conv1_1", 0]}, "each once"),
        ({"style_layers": []}, "each once"),
        ({"style_layer_weights": [1.0]}, "1 numbers for 2 layers"),
        ({"style_layer_weights": "max"}, "choose sum, mean"),
        ({"style_weights": [0.5]}, r"sum 0\.5; they must"),
        ({"style_weights": [0.5, 0.5]}, "2 numbers for 1 styles"),
        ({"style_weights": [float("nan")]}, "not all finite"),
        ({"weights": {"content": float("nan"), "style": 1.0, "tv": 0.0}}, "not all finite"),
        ({"weights": {"content": 0.0, "style": 0.0, "tv": 1.0}}, "both 0"),
        ({"weights": {"content": 1.0, "beta": 1.0}}, r"this method has \['content', 'style', 'tv'\]"),
        ({"start": "black"}, "choose content, noise, style"),
        ({"color": "grey"}, "choose style, luminance, matched"),
        ({"style_scale": 0.0}, "above 0"),
        ({"size": -1}, "at least 0"),
        ({"levels": []}, r"must list \[scale, iterations\]"),
        ({"levels": [[1.0]]}, r"must list \[scale, iterations\]"),
        ({"levels": [[1.0, 0]]}, r"must list \[scale, iterations\]"),
        ({"levels": [[-1.0, 5]]}, r"must list \[scale, iterations\]"),
    ],
)
def test_mistakes_are_named_before_anything_runs(pictures, arguments, message):
    with pytest.raises(UserError, match=message):
        build(pictures, **arguments)


def test_several_processes_are_refused(pictures):
    method = build(pictures)
    method._trainer = SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match=r"among 2 processes: use trainer\.devices=1"):
        method.setup("fit")


def test_data_of_other_methods_are_refused(pictures):
    with pytest.raises(UserError, match="method=nst needs data=iterations and callbacks=nst"):
        build(pictures).check_data(object())


def test_broken_weights_are_noticed_before_the_first_step(pictures):
    method = ready(pictures)
    method.vgg.stages[0]["conv1_1"].weight.data[0] = float("nan")
    with pytest.raises(UserError, match=r"a\.png: the network's features at conv1_1 are no finite numbers.*random"):
        method.training_step(None, 0)


def test_what_is_shown_is_the_pixels(pictures):
    method = build(pictures)
    assert torch.equal(to_unit(method.picture()), to_unit(method.pixels.detach()))


def test_keeping_fewer_features_changes_nothing(pictures):
    plain, frugal = (ready(pictures, vgg=partial(RandomVgg, checkpoint=checkpoint)) for checkpoint in (False, True))
    assert steps(plain, 3) == steps(frugal, 3)
    assert torch.equal(plain.pixels, frugal.pixels)


# Masks

STYLE_ALONE = {"content": 0.0, "style": 1.0, "tv": 0.0}


def masked(pictures, folder, level: int, **arguments) -> NeuralStyle:
    """A content whose left half is light, and a style whose mask has one level in its left half and white beside."""
    files = []
    for name, file, light in (("a", pictures[0], 255), ("b", pictures[1], level)):
        with Image.open(file) as picture:
            mask = Image.new("L", picture.size, 255 - light)
            mask.paste(light, (0, 0, picture.width // 2, picture.height))
        mask.save(folder / f"{name}.png")
        files.append(folder / f"{name}.png")
    return ready(pictures, content_mask=files[0], style_mask=files[1], weights=STYLE_ALONE, **arguments)


def test_the_style_of_regions_is_that_of_guided_features(pictures, tmp_path):
    method = masked(pictures, tmp_path, 255, size=24)
    method.enter_level()
    term = method.terms()["style"]
    expected = 0.0
    pixels, style = method.pixels.detach(), resize(method.styles[0], method.style_sizes[0][0]).double()
    ours, theirs = method.vgg(pixels), method.vgg(style)
    for layer in method.style_layers:
        for side in (0, 1):
            grams = []
            for features in (ours[layer][0], theirs[layer][0]):
                half = features.shape[-1] // 2  # of even widths, at both layers
                assert features.shape[-1] == 2 * half
                part = features[..., :half] if side == 0 else features[..., half:]
                grams.append(2 * torch.einsum("chw,dhw->cd", part, part))  # as if the region were the whole
            expected += 0.5 * (grams[0] - grams[1]).square().mean()
    torch.testing.assert_close(term.detach(), expected.detach())


def test_a_region_takes_nothing_from_elsewhere(pictures, tmp_path):
    method = masked(pictures, tmp_path, 255, size=24)
    method.enter_level()
    before = {layer: grams.clone() for layer, grams in method._style_targets[0].items()}
    method.styles[0][..., : method.styles[0].shape[-1] // 6] = 0.5  # at the left, far from the right half
    method.gram_memory.clear()
    method._level = None
    method.enter_level()
    for layer, grams in method._style_targets[0].items():
        assert not torch.allclose(grams[0], before[layer][0])
        torch.testing.assert_close(grams[1], before[layer][1])


def test_masks_of_the_whole_change_nothing(pictures, tmp_path):
    for name, file in (("a", pictures[0]), ("b", pictures[1])):
        with Image.open(file) as picture:
            Image.new("L", picture.size, 255).save(tmp_path / f"{name}.png")
    files = {"content_mask": tmp_path / "a.png", "style_mask": [tmp_path / "b.png"]}
    with_masks, without = (ready(pictures, size=24, weights=STYLE_ALONE, **masks) for masks in (files, {}))
    for method in (with_masks, without):
        method.enter_level()
    torch.testing.assert_close(with_masks.terms()["style"], without.terms()["style"])
    assert with_masks.inputs()["masks"] == [tmp_path / "a.png", tmp_path / "b.png"]


@pytest.mark.parametrize("masks", [{"content_mask": "a.png"}, {"style_mask": "a.png"}])
def test_a_mask_without_the_other_is_told(pictures, masks):
    with pytest.raises(UserError, match="give a mask of the content and one of each style, 1 here"):
        build(pictures, **masks)
