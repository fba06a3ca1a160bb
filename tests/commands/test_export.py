"""`lit-ghibli export`: what it writes computes the same, and says what a caller has to know."""

import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.styles import made_style
from hydra import compose
from omegaconf import OmegaConf
from torch import nn

import lit_ghibli
from lit_ghibli.commands import export, to_overrides
from lit_ghibli.errors import UserError
from lit_ghibli.images import to_picture
from lit_ghibli.inference.exporting import export_model
from lit_ghibli.inference.load import Model
from lit_ghibli.inference.onnx_model import network_of
from lit_ghibli.inference.profiling import scenes
from lit_ghibli.inference.stylization import Stylization
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.animegan import AnimeGenerator
from lit_ghibli.networks.gated_attention import GatedAttention
from lit_ghibli.networks.normalization import shared_statistics
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.style_transformer import StyleTransformer
from lit_ghibli.networks.unet import UnetGenerator

SETTINGS = {"format": "onnx", "dtype": "float32", "opset": 18, "tolerance": 1e-4}
export_onnx = partial(export_model, calibration=[])
pytestmark = pytest.mark.usefixtures("composing")


def run(*words):
    export.export.__wrapped__(compose("export", to_overrides("export", list(words))))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine", "--out", "model.pt"], "ends in .onnx"),
        (["mine", "--out", "there.onnx"], "there.onnx exists already"),
        (["painter", "--out", "painter.onnx"], "cannot be exported"),
        (["mien", "--out", "model.onnx"], "no such run or checkpoint"),
        (["--out", "model.onnx"], "what is to be exported"),
        (["mine", "--out", "model.onnx", "dtype=int4"], "dtype is float32, float16 or int8; got int4"),
        (["mine", "--out", "model.pt", "format=pt"], "format is onnx or torchscript; got pt"),
        (["mine", "--out", "model.onnx", "format=torchscript"], r"ends in \.pt"),
        (["mine", "--out", "model.pt", "format=torchscript", "dtype=int8"], "dtype=int8 is of format=onnx"),
        (["mine", "--out", "model.onnx", "calibration=."], "calibration= is of dtype=int8"),
        (["mine", "--out", "model.onnx", "dtype=int8", "tolerance=1"], "tolerance=1: that is of dtype=float32"),
        (["mine", "--out", "model.pt", "format=torchscript", "opset=17"], "opset=17: that is of format=onnx"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(words, message):
    Path("there.onnx").touch()
    with pytest.raises(UserError, match=message):
        run(*words)
    assert [path.name for path in Path().iterdir()] == ["there.onnx"]


def test_a_file_that_is_no_model_is_refused():
    pytest.importorskip("onnxruntime")
    Path("bad.onnx").write_text("junk")
    with pytest.raises(UserError, match=r"bad\.onnx: damaged, or no model"):
        lit_ghibli.load("bad.onnx")


def stylization(count: int) -> Stylization:
    torch.manual_seed(0)
    return Stylization(StyleTransformer((4, 5, 6, 5, 4), 1, 3, "conditional"), torch.rand(count, 3) if count else None)


@pytest.mark.parametrize("styles", [0, 2])
def test_a_network_that_takes_styles_is_exported_in_one_alone(styles):
    with pytest.raises(UserError, match="is exported with one that is fixed: give style=PICTURE"):
        network_of(stylization(styles))


@pytest.mark.slow
def test_an_exported_picture_of_a_style_paints_what_the_network_paints_in_it():
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    network = stylization(1)
    export_onnx(
        Model("x", Translator(network, tile=0), None, "origin"),
        Path("model.onnx"),
        scenes(1, 64),
        config=OmegaConf.create(SETTINGS),
    )
    photo = scenes(1, 64)[..., :40]
    torch.testing.assert_close(lit_ghibli.load("model.onnx")(photo), network.eval()(photo), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("flatten", [0, 0.01])
def test_an_exported_style_paints_what_the_style_paints(tmp_path, monkeypatch, capsys, flatten):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path))
    made_style(tmp_path, flatten=flatten)
    run("mine", "--out", "model.onnx")
    assert "largest difference from torch" in capsys.readouterr().out
    card = json.loads(Path("model.json").read_text())
    assert (card["size_multiple"], card["pixels"], card["whole"]) == (4, 1024, False)
    photo = to_picture(scenes(1, 50))
    theirs, ours = (np.asarray(lit_ghibli.load(name)(photo)).astype(int) for name in ("model.onnx", "mine"))
    assert abs(theirs - ours).max() <= 1 < abs(np.asarray(photo).astype(int) - ours).max()
    picture = runtime.InferenceSession("model.onnx").run(None, {"photo": np.zeros((1, 3, 8, 20), np.float32)})[0]
    assert picture.shape == (1, 3, 8, 20)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "dtype", "bound"),
    [
        (partial(ResnetGenerator, base_channels=4, num_blocks=1), "float32", 1e-4),
        (partial(ResnetGenerator, base_channels=4, num_blocks=1, flatten=0.01), "float16", 0.05),
        (partial(UnetGenerator, base_channels=4, depth=4), "float32", 1e-4),
        (partial(AnimeGenerator, base_channels=8), "float32", 1e-3),
    ],
)
def test_norms_of_an_exported_network_take_the_same_statistics_for_all_tiles(network, dtype, bound):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = Model("run", Translator(network(), tile=128), {"method": {}}, "origin")
    card = export_onnx(model, Path("model.onnx"), scenes(1, 64), config=OmegaConf.create(SETTINGS | {"dtype": dtype}))
    loaded, photo = lit_ghibli.load("model.onnx", tile=128), scenes(1, 304)[..., :208]
    assert (card["whole"], loaded.tile) == (False, 128)
    ours = model.translator(photo)
    assert (loaded(photo) - ours).abs().max() < bound < (loaded.network(photo) - ours).abs().max()
    with shared_statistics(loaded.network, keep=1), shared_statistics(model.translator.network, keep=1):
        for clip in (photo[..., :128, :128], photo[..., 176:, 80:]):  # the second one as the first
            assert (loaded(clip) - model.translator(clip)).abs().max() < bound


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_weights_that_are_not_finite_are_refused_by_their_layer(form, tmp_path):
    network = ResnetGenerator(base_channels=4, num_blocks=1)
    nn.init.constant_(network.decoder.head.weight, float("nan"))
    model = Model("a.ckpt", Translator(network, tile=0), {"method": {}}, "origin")
    with pytest.raises(UserError, match=r"a\.ckpt: layer decoder\.head .* its weight is not finite"):
        export_onnx(model, Path("model.x"), scenes(1, 64), config=OmegaConf.create(SETTINGS | {"format": form}))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_network_that_looks_at_the_whole_photograph_is_never_run_in_tiles_and_a_wrong_one_is_not_written(tmp_path):
    pytest.importorskip("onnxscript")
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), GatedAttention(16), nn.Conv2d(16, 3, 1))
    network.size_multiple, network.minimum_size, network.context = 1, 1, 1
    model = Model("run", Translator(network, tile=0), {"method": {}}, "origin")
    with pytest.raises(UserError, match=r"is not written: .* more than tolerance=0"):
        export_onnx(model, Path("model.onnx"), scenes(1, 64), config=OmegaConf.create(SETTINGS | {"tolerance": 0}))
    assert not list(tmp_path.iterdir())
    card = export_onnx(model, Path("model.onnx"), scenes(1, 64), config=OmegaConf.create(SETTINGS))
    assert card["whole"]
    assert lit_ghibli.load("model.onnx", tile=128).tile == 0


def test_torchscript_of_any_size_computes_the_same_and_says_what_a_caller_has_to_know(tmp_path):
    network = ResnetGenerator(base_channels=4, num_blocks=1)
    model, settings = Model("run", Translator(network, tile=0), None, "origin"), SETTINGS | {"format": "torchscript"}
    card = export_model(model, Path("model.pt"), scenes(1, 64), [], OmegaConf.create(settings))
    notes = {"lit_ghibli": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch means to give it up
        written = torch.jit.load("model.pt", _extra_files=notes)
    photo = scenes(1, 64)[..., :40]
    torch.testing.assert_close(written(photo), network(photo), atol=1e-5, rtol=0)
    assert json.loads(notes["lit_ghibli"])["size_multiple"] == network.size_multiple == card["size_multiple"]
    assert (card["format"], card["opset"]) == ("torchscript", None)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "share", "levels"), [("float16", 0.6, 0.2), ("int8", 0.4, 2)])
def test_fewer_bits_are_smaller_files_of_nearly_the_same_picture(dtype, share, levels, capsys):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    run("meadow", "--out", "whole.onnx")
    run("meadow", "--out", "small.onnx", f"dtype={dtype}")
    assert "of 255 levels" in capsys.readouterr().out
    assert Path("small.onnx").stat().st_size < share * Path("whole.onnx").stat().st_size
    photo = scenes(1, 96)
    whole, small = (lit_ghibli.load(name).network.paint(photo) for name in ("whole.onnx", "small.onnx"))
    assert 0 < (whole - small).abs().mean() * 127.5 < levels
    assert json.loads(Path("small.json").read_text())["dtype"] == dtype
