"""Imported generators make what the published layers make, written out one by one."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import published as layouts
from PIL import Image
from torch import Tensor

from lit_ghibli.errors import UserError
from lit_ghibli.networks.sizes import translate
from lit_ghibli.published.families import FAMILIES, Published, import_published

# Weights that others have published, and what they made of photographs; for research, beside the checkout.
REAL = Path(os.environ.get("LIT_GHIBLI_SHARED", Path(__file__).parents[3] / "shared"), "weights")

State = dict[str, Tensor]


def built(found: Published) -> torch.nn.Module:
    network = found.family.network(**{key: value for key, value in found.generator.items() if key != "_target_"})
    network.load_state_dict(found.weights)
    return network.eval()


def imported(state: State, path: Path, **options) -> torch.nn.Module:
    torch.save(state, path)
    return built(import_published(path, **options)).double()


def photos(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


# --- layers ----------------------------------------------------------------------


def conv(s: State, name: str, x: Tensor, stride: int = 1, pad: int = 0, mode: str = "constant", **more) -> Tensor:
    x = F.pad(x, [pad] * 4, mode=mode)
    return F.conv2d(x, s[f"{name}.weight"], s.get(f"{name}.bias"), stride, **more)


def up(s: State, name: str, x: Tensor, **more) -> Tensor:
    return F.conv_transpose2d(x, s[f"{name}.weight"], s.get(f"{name}.bias"), stride=2, padding=1, **more)


def normal(x: Tensor, dims: tuple[int, ...] = (2, 3)) -> Tensor:
    return (x - x.mean(dims, keepdim=True)) / (x.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()


def scaled(s: State, name: str, x: Tensor, dims=(2, 3), weight: str = "weight", bias: str = "bias") -> Tensor:
    return normal(x, dims) * s[f"{name}.{weight}"].view(-1, 1, 1) + s[f"{name}.{bias}"].view(-1, 1, 1)


def lrelu(x: Tensor) -> Tensor:
    return torch.maximum(x, 0.2 * x)


def enlarged(x: Tensor, sampling: str) -> Tensor:
    """Linear interpolation between the two neighbours of each output's place in the input, along both axes."""
    for axis in (2, 3):
        length = x.shape[axis]
        d = torch.arange(2 * length, dtype=torch.float64)
        align_corners = d * (length - 1) / (2 * length - 1)
        place = {"legacy": d / 2, "half_pixel": (d + 0.5) / 2 - 0.5, "align_corners": align_corners}[sampling]
        place = place.clamp(0, length - 1)
        low = place.floor().long()
        part = (place - low).view(*[-1 if each == axis else 1 for each in range(4)])
        high = (low + 1).clamp_max(length - 1)
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
    return x


# --- generators ------------------------------------------------------------------


def cyclegan(s: State, x: Tensor, blocks: int = 2, second: int = 5) -> Tensor:
    x = normal(conv(s, "model.1", x, pad=3, mode="reflect")).relu()
    for name in ("model.4", "model.7"):
        x = normal(conv(s, name, x, stride=2, pad=1)).relu()
    for block in range(10, 10 + blocks):
        y = normal(conv(s, f"model.{block}.conv_block.1", x, pad=1, mode="reflect")).relu()
        x = x + normal(conv(s, f"model.{block}.conv_block.{second}", y, pad=1, mode="reflect"))
    for layer in (10, 13):
        x = normal(up(s, f"model.{layer + blocks}", x, output_padding=1)).relu()
    return conv(s, f"model.{17 + blocks}", x, pad=3, mode="reflect").tanh()


def cut(s: State, x: Tensor, blocks: int = 2) -> Tensor:
    x = normal(conv(s, "model.1", x, pad=3, mode="reflect")).relu()
    for layer in (4, 8):
        x = normal(conv(s, f"model.{layer}", x, pad=1)).relu()
        blur = s[f"model.{layer + 3}.filt"]
        x = F.conv2d(F.pad(x, [1] * 4, mode="reflect"), blur, stride=2, groups=len(blur))
    for block in range(12, 12 + blocks):
        y = normal(conv(s, f"model.{block}.conv_block.1", x, pad=1, mode="reflect")).relu()
        x = x + normal(conv(s, f"model.{block}.conv_block.5", y, pad=1, mode="reflect"))
    for layer in (12 + blocks, 16 + blocks):
        spread = s[f"model.{layer}.filt"]
        x = F.pad(x, [1] * 4, mode="replicate")
        x = F.conv_transpose2d(x, spread, stride=2, padding=2, groups=len(spread))[..., 1:-1, 1:-1]
        x = normal(conv(s, f"model.{layer + 1}", x, pad=1)).relu()
    return conv(s, f"model.{21 + blocks}", x, pad=3, mode="reflect").tanh()


def pix2pix(s: State, x: Tensor) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        return scaled(s, name, x, (0, 2, 3)) if f"{name}.weight" in s else normal(x)

    def level(x: Tensor, name: str) -> Tensor:
        y = conv(s, f"{name}.1", lrelu(x), stride=2, pad=1)
        if f"{name}.5.weight" in s:
            y = norm(f"{name}.6", up(s, f"{name}.5", level(norm(f"{name}.2", y), f"{name}.3.model").relu()))
        else:
            y = norm(f"{name}.4", up(s, f"{name}.3", y.relu()))
        return torch.cat([x, y], dim=1)

    x = conv(s, "model.model.0", x, stride=2, pad=1)
    return up(s, "model.model.3", level(x, "model.model.1.model").relu()).tanh()


def cartoongan(s: State, x: Tensor, blocks: int = 2) -> Tensor:
    norm = partial(scaled, s, weight="scale", bias="shift")
    x = norm("in01_1", conv(s, "conv01_1", x.flip(1), pad=3, mode="reflect")).relu()
    for stage in ("02", "03"):
        x = conv(s, f"conv{stage}_2", conv(s, f"conv{stage}_1", x, stride=2, pad=1), pad=1)
        x = norm(f"in{stage}_1", x).relu()
    for stage in range(4, 4 + blocks):
        y = norm(f"in{stage:02}_1", conv(s, f"conv{stage:02}_1", x, pad=1, mode="reflect")).relu()
        x = x + norm(f"in{stage:02}_2", conv(s, f"conv{stage:02}_2", y, pad=1, mode="reflect"))
    for stage in (1, 2):
        x = conv(s, f"deconv0{stage}_2", up(s, f"deconv0{stage}_1", x, output_padding=1), pad=1)
        x = norm(f"in{3 + blocks + stage:02}_1", x).relu()
    return conv(s, "deconv03_1", x, pad=3, mode="reflect").tanh().flip(1)


def animegan2(s: State, x: Tensor, sampling: str = "align_corners", head_bias: Tensor | None = None) -> Tensor:
    norm = partial(scaled, s, dims=(1, 2, 3))

    def layer(x: Tensor, name: str, reach: int = 1, stride: int = 1, **more) -> Tensor:
        x = F.pad(x, [0, 1, 0, 1] if stride == 2 else [reach] * 4, mode="reflect")
        return lrelu(norm(f"{name}.2", conv(s, f"{name}.1", x, stride, **more)))

    x = layer(layer(layer(x, "block_a.0", 3), "block_a.1", stride=2), "block_a.2")
    x = layer(layer(layer(x, "block_b.0", stride=2), "block_b.1"), "block_c.0")
    for block in range(1, 5):
        name = f"block_c.{block}.layers"
        y = layer(layer(x, f"{name}.0", 0), f"{name}.1", groups=len(s[f"{name}.1.1.bias"]))
        y = norm(f"{name}.3", conv(s, f"{name}.2", y))
        x = x + y if block > 1 else y
    x = enlarged(layer(x, "block_c.5"), sampling)
    x = enlarged(layer(layer(x, "block_d.0"), "block_d.1"), sampling)
    x = layer(layer(layer(x, "block_e.0"), "block_e.1"), "block_e.2", 3)
    x = conv(s, "out_layer.0", x)
    return (x if head_bias is None else x + head_bias.view(3, 1, 1)).tanh()


def guided(guide: Tensor, x: Tensor) -> Tensor:
    """Of each square of 3x3, as far as it lies in the picture: the line through its pairs of guide and picture."""

    def mean(values: Tensor) -> Tensor:
        shape = values.shape
        patches, inside = (F.unfold(each.flatten(0, 1)[:, None], 3, padding=1) for each in (values, values * 0 + 1))
        return (patches.sum(1) / inside.sum(1)).view(shape)

    slope = (mean(guide * x) - mean(guide) * mean(x)) / (mean(guide**2) - mean(guide) ** 2 + 5e-3)
    return mean(slope) * guide + mean(mean(x) - slope * mean(guide))


def whitebox(s: State, photo: Tensor) -> Tensor:
    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = s[f"generator/{name}/weights"].permute(3, 2, 0, 1), s[f"generator/{name}/biases"]
        reach = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, [0, 1, 0, 1] if stride == 2 else [reach] * 4), weight, bias, stride)

    full = lrelu(layer("Conv", photo.flip(1)))
    half = lrelu(layer("Conv_2", lrelu(layer("Conv_1", full, 2))))
    x = lrelu(layer("Conv_4", lrelu(layer("Conv_3", half, 2))))
    for block in range(2):
        x = x + layer(f"block_{block}/conv2", lrelu(layer(f"block_{block}/conv1", x)))
    x = lrelu(layer("Conv_6", enlarged(lrelu(layer("Conv_5", x)), "legacy") + half))
    x = lrelu(layer("Conv_8", enlarged(lrelu(layer("Conv_7", x)), "legacy") + full))
    return guided(photo, layer("Conv_9", x).flip(1))


def fast_style(s: State, x: Tensor) -> Tensor:
    def layer(x: Tensor, name: str, norm: str, **more) -> Tensor:
        return scaled(s, norm, conv(s, f"{name}.conv2d", x, mode="reflect", **more))

    x = layer((x + 1) * 127.5, "conv1", "in1", pad=4).relu()
    for number in (2, 3):
        x = layer(x, f"conv{number}", f"in{number}", stride=2, pad=1).relu()
    for block in (1, 2):
        y = layer(x, f"res{block}.conv1", f"res{block}.in1", pad=1).relu()
        x = x + layer(y, f"res{block}.conv2", f"res{block}.in2", pad=1)
    for number in (1, 2):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = layer(x, f"deconv{number}", f"in{number + 3}", pad=1).relu()
    return conv(s, "deconv3.conv2d", x, pad=4, mode="reflect") / 127.5 - 1


CASES = {
    "cyclegan": (layouts.cyclegan(4, 2), cyclegan),
    "cyclegan, old, with dropout": (layouts.old_cyclegan(4, 2), partial(cyclegan, second=6)),
    "cut": (layouts.cut(4, 2), cut),
    "pix2pix": (layouts.pix2pix(4, 5), pix2pix),
    "pix2pix with instance norm": (layouts.pix2pix(4, 4, batch=False), pix2pix),
    "cartoongan": (layouts.cartoongan(4, 2), cartoongan),
    "animegan2": (layouts.animegan2_pytorch(4), animegan2),
    "whitebox": (layouts.whitebox(4, 2), whitebox),
    "fast_style": (layouts.fast_style(4, 2), fast_style),
}


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_those_of_the_published_layers(case, tmp_path):
    shapes, forward = CASES[case]
    state = layouts.drawn(shapes)
    network = imported(state, tmp_path / "weights.pth")
    photo = photos(32, 64)
    expected = forward({name: value.double() for name, value in state.items()}, photo)
    with torch.no_grad():
        torch.testing.assert_close(network(photo), expected, rtol=0, atol=3e-5)
    assert expected.std() > 0.05, "a flat picture would show nothing"


def test_the_port_and_the_authors_checkpoint_of_animegan_hold_the_same_layers(tmp_path):
    state = layouts.drawn(layouts.animegan2_pytorch(4))
    exact, photo = {name: value.double() for name, value in state.items()}, photos(16, 24)
    renamed = layouts.pytorch_animegan(state)
    assert len(renamed) == len(state) + 1
    port = imported({"model_state_dict": renamed, "epoch": 3}, tmp_path / "port.pt")
    bias = renamed["decode_blocks.0.bias"].double()
    arrays = layouts.animegan2_tensorflow(state)
    adam = {f"{name}/Adam": value for name, value in arrays.items()}
    index = layouts.write_tensorflow(
        tmp_path / "Hayao-99.ckpt", {**arrays, **adam, "discriminator/x": np.zeros(3), "beta1_power": np.zeros(())}
    )
    authors = built(import_published(index)).double()
    other = imported(state, tmp_path / "x.pt", options={"upsample": "legacy"})
    with torch.no_grad():
        torch.testing.assert_close(port(photo), animegan2(exact, photo, "half_pixel", bias), rtol=0, atol=3e-5)
        torch.testing.assert_close(authors(photo), animegan2(exact, photo, "legacy"), rtol=0, atol=3e-5)
        assert torch.equal(authors(photo), other(photo))


@pytest.mark.parametrize(
    ("shapes", "keys", "count"),
    [
        (layouts.cyclegan(), 48, 11_378_179),
        (layouts.cut(), 52, 11_378_179),
        (layouts.pix2pix(), 82, 54_413_955),
        (layouts.cartoongan(), 94, 11_129_667),
        (layouts.animegan2_pytorch(), 77, 2_143_552),
        (layouts.whitebox(), 36, 1_467_075),
        (layouts.fast_style(), 62, 1_679_235),
    ],
)
def test_published_sizes(shapes, keys, count):
    assert len(shapes) == keys
    (family, *_) = [each for each in FAMILIES if set(each.mark) <= shapes.keys()]
    assert not family.disagreement(shapes)
    with torch.device("meta"):
        network = family.network(**family.arguments(shapes))
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    weights = {name: shape for name, shape in shapes.items() if not name.endswith(("filt", "mean", "var", "tracked"))}
    assert sum(torch.Size(shape).numel() for shape in weights.values()) == count


@pytest.mark.parametrize(
    "around",
    [
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
        lambda state: {"netG": state, "optimizer": {"param_groups": [{"lr": 1e-4}]}, "iteration": 12},
        lambda state: {f"G.{name}": value for name, value in state.items()} | {"D.model.0.weight": torch.ones(1)},
        lambda state: {"model": {"params": state}},
        lambda state: {name: value.half() for name, value in state.items()},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_around_the_weights_falls_away(around, legacy, tmp_path):
    state = layouts.drawn(layouts.cyclegan(2, 1))
    torch.save(around(state), tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    found = import_published(tmp_path / "x.pth")
    assert found.family.name == "cyclegan"
    assert found.weights["decoder.head.weight"].dtype == torch.float32
    torch.testing.assert_close(found.weights["decoder.head.weight"], state["model.18.weight"], rtol=1e-3, atol=1e-3)


def without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


GAN = layouts.drawn(layouts.cyclegan(2, 1))
BLURRED = layouts.drawn(layouts.cut(2, 1))
WRONG = [
    (without(GAN, "model.4.bias"), "auto", "nearest is cyclegan, but it lacks model.4.bias"),
    (GAN | {"model.2.weight": torch.ones(2)}, "auto", "nearest is cyclegan, but it has model.2.weight besides"),
    (GAN, "cut", "no weights of CUT or FastCUT, for it lacks model.7.filt|it is of the family cyclegan"),
    (GAN, "pix2pix", "no weights of pix2pix, for it lacks model.model.0.weight and .*; it is of the family cyclegan"),
    (BLURRED, "cyclegan", "for it lacks model.7.weight .* it has model.7.filt .*; it is of the family cut"),
    (GAN, "cyclgan", "no such family; did you mean cyclegan"),
    ({"a.weight": torch.ones(3)}, "auto", "of no family that is known here: .* but a.weight is"),
    (GAN | {"model.4.weight": torch.ones(5, 2, 3, 3)}, "auto", r"model.4.weight has the shape \(5, 2, 3, 3\)"),
    (
        GAN | {"model.1.weight": torch.ones(2)},
        "auto",
        r"model.1.weight has the shape \(2,\), and is no weight of a conv",
    ),
    (GAN | {"model.7.bias": torch.full((8,), torch.nan)}, "auto", "model.7.bias holds values that are no finite"),
    (
        GAN | {"model.7.bias": torch.full((8,), 1e300, dtype=torch.double)},
        "auto",
        "model.7.bias holds values that are no finite",
    ),
    (GAN | {"model.7.bias": torch.ones(8, dtype=torch.long)}, "auto", "model.7.bias holds values that are no finite"),
    (GAN | {"model.1.weight": torch.ones(2, 1, 7, 7)}, "auto", "pictures of 1 channels, and photographs have 3"),
    (BLURRED | {"model.7.filt": torch.ones(4, 1, 3, 3)}, "auto", "model.7.filt holds other values than the constants"),
]


@pytest.mark.parametrize(("state", "family", "message"), WRONG, ids=[each[2][:40] for each in WRONG])
def test_what_is_no_published_generator_is_told_in_a_line(state, family, message, tmp_path):
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message) as error:
        import_published(tmp_path / "x.pth", family)
    assert "\n" not in str(error.value)
    assert str(tmp_path / "x.pth") in str(error.value) or family == "cyclgan"


@pytest.mark.parametrize(
    ("options", "message"), [({"nope": 1}, "unexpected keyword argument 'nope'"), ({"output": "x"}, "output is 'x'")]
)
def test_options_that_a_network_does_not_take_are_refused(options, message, tmp_path):
    torch.save(GAN, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message):
        import_published(tmp_path / "x.pth", options=options)


def test_cut_and_scenimefy_share_a_layout_and_differ_in_their_terms(tmp_path):
    torch.save(BLURRED, tmp_path / "x.pth")
    found = {name: import_published(tmp_path / "x.pth", name) for name in ("auto", "cut", "scenimefy")}
    assert found["auto"].family is found["cut"].family
    assert "non-commercial" in found["scenimefy"].family.licence
    assert found["cut"].generator == found["scenimefy"].generator


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="published weights are not here")
@pytest.mark.parametrize("name", ["cartoongan_hayao", "cartoongan_shinkai", "whitebox"])
def test_pictures_are_those_that_published_weights_made_elsewhere(name):
    network = built(import_published(REAL / f"{name}.{'npz' if name == 'whitebox' else 'pth'}"))
    for file in sorted(REAL.glob("*_input.png")):
        photo = torch.from_numpy(np.asarray(Image.open(file).convert("RGB"), np.float32)).permute(2, 0, 1)[None]
        picture = (
            ((translate(network, photo / 127.5 - 1) + 1) * 127.5).byte()[0].permute(1, 2, 0)
        )  # truncated, as those
        theirs = np.asarray(Image.open(str(file).replace("_input", f"_{name}")).convert("RGB"), np.float64)
        error = ((picture.numpy() - theirs) ** 2).mean()
        assert 10 * np.log10(255**2 / error) >= 40, file.name
