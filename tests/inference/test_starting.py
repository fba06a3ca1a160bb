"""Trainings from weights of before: whose they may be, what starts from them, and what is noted."""

import json
from pathlib import Path

import pytest
import torch
from helpers import published as layouts
from safetensors.torch import load_file

from lit_ghibli import checkpoints
from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands.train import prepare, train_here
from lit_ghibli.errors import UserError
from lit_ghibli.inference.importing import import_weights
from lit_ghibli.inference.starting import start_from
from lit_ghibli.inference.styles import SHIPPED
from lit_ghibli.networks.animegan import AnimeGenerator
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.recipes import compose
from lit_ghibli.trust import is_trusting

TINY = {"base_channels": 2, "num_blocks": 1, "upsample": "transposed", "downsample": "stride", "output": "tanh"}
TRAINED = ["data=scenes", "data.count=2", "data.test_count=1", "data.size=32", "data.crop_size=32", "trainer=cpu"]
TRAINED += ["callbacks.progress_bar.refresh_rate=0", "callbacks.image_grid.num_images=1", "metrics.metrics=[l1]"]
TRAINED += ["method=cyclegan", "method.generator.base_channels=2", "method.generator.num_blocks=1"]
TRAINED += ["method.discriminator.base_channels=2", "method.generator.weights=published.pth"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(shapes: layouts.Shapes) -> None:
    torch.save(layouts.drawn(shapes), "published.pth")


def test_published_files_imported_folders_and_checkpoints_are_the_same_start():
    written(layouts.cyclegan(2, 1))
    import_weights(Path("published.pth"), Path("imported"))
    checkpoint = Path("imported/checkpoints/last.ckpt")
    starts = {"published.pth": Path("published.pth"), "imported": checkpoint, str(checkpoint): checkpoint}
    states = []
    for start, file in starts.items():
        network = ResnetGenerator(**TINY)
        assert start_from(network, Path(start), TINY) == {"file": str(file), "sha256": sha256_of(file)}
        states.append(network.state_dict())
    head = layouts.drawn(layouts.cyclegan(2, 1))["model.18.weight"]
    assert all(torch.equal(state["decoder.head.weight"], head) for state in states)
    assert all(torch.equal(state[name], value) for state in states for name, value in states[0].items())


def test_a_style_is_a_start_by_its_name():
    network, settings = PaintingNetwork(), {"channels": 20, "deep_channels": 48, "dilations": [1, 2, 1, 2]}
    file = SHIPPED / "ink.safetensors"
    assert start_from(network, Path("ink"), settings) == {"file": str(file), "sha256": sha256_of(file)}
    assert all(torch.equal(network.state_dict()[key], value.float()) for key, value in load_file(file).items())

    narrow = {**settings, "channels": 12}
    with pytest.raises(
        UserError, match=r"shape \(20, 12, 3, 3\) there and \(12, .*; give method\.generator\.channels=20$"
    ):
        start_from(PaintingNetwork(**narrow), Path("ink"), narrow)


ALONE = r"bottleneck\.1\.branch\.0\.weight is in it alone; give method\.generator\.num_blocks=3$"
WRONG = [
    (layouts.cyclegan(2, 3), {}, ALONE),
    (layouts.cyclegan(4, 1), {}, r"shape \(4, 3, 7, 7\) there and \(2, 3, 7, 7\) here; give .*base_channels=4$"),
    (layouts.cut(2, 1), {"upsample": "bilinear"}, "downsample is blur there and stride here; give"),
    (
        layouts.pix2pix(2, 3),
        {},
        "its UnetGenerator is another .* this ResnetGenerator.*; give weights of a Resnet",
    ),
    ({"x.weight": (1,)}, {}, "published.pth: of no family that is known here"),
]


@pytest.mark.parametrize(("shapes", "settings", "message"), WRONG)
def test_another_generator_is_told_with_what_to_set(shapes, settings, message):
    written(shapes)
    settings = TINY | settings
    with pytest.raises(UserError, match=message) as error:
        start_from(ResnetGenerator(**settings), Path("published.pth"), {"weights": "published.pth", **settings})
    assert "\n" not in str(error.value)


def test_a_layer_that_the_recipe_does_not_have_is_told_by_a_word_that_adds_it():
    torch.save(layouts.pytorch_animegan(layouts.drawn(layouts.animegan2_pytorch(2))), "port.pt")
    settings = {"base_channels": 2, "upsample": "legacy"}
    with pytest.raises(UserError, match=r"give .*\.upsample=half_pixel \+method\.generator\.head_bias=true$"):
        start_from(AnimeGenerator(**settings), Path("port.pt"), settings)
    settings = {"base_channels": 2, "upsample": "half_pixel", "head_bias": True}
    start_from(AnimeGenerator(**settings), Path("port.pt"), settings)


def test_only_the_generator_that_translates_starts_from_the_file():
    written(layouts.cyclegan(2, 1))
    given = prepare(compose("train", [*TRAINED, "run_dir=run"])).method
    fresh = prepare(compose("train", [*TRAINED, "run_dir=run", "method.generator.weights=null"])).method
    changed = {name for name, value in fresh.state_dict().items() if not torch.equal(value, given.state_dict()[name])}
    assert changed == {name for name in given.state_dict() if name.startswith("generator_ab.")}
    assert fresh.started_from is None
    assert given.started_from == {"file": "published.pth", "sha256": sha256_of(Path("published.pth"))}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*logging interval")
def test_weights_of_a_stranger_are_a_start_for_whom_trusts_them(monkeypatch, here):
    Path("own_methods.py").write_text(
        "from lit_ghibli.methods.imported import Imported\n\n\nclass Mine(Imported):\n    pass\n"
    )
    monkeypatch.syspath_prepend(here)
    written(layouts.cyclegan(2, 1))
    import_weights(Path("published.pth"), Path("theirs"))
    path = Path("theirs/checkpoints/last.ckpt")
    checkpoint = checkpoints.load(path)
    checkpoint[checkpoints.CONFIG_KEY]["method"]["_target_"] = "own_methods.Mine"
    checkpoints.save(checkpoint, path)
    words = [*TRAINED, "run_dir=run", "name=x", "method.epochs=1", "method.generator.weights=theirs"]
    with pytest.raises(UserError, match=r"asks for 'own_methods\.Mine', .* add trust=true"):
        train_here(*words)
    assert not is_trusting()
    run = train_here(*words, "trust=true")
    assert not is_trusting()
    assert json.loads((run.folder / "record.json").read_text())["attempts"][0]["weights"]["file"] == str(path)


def test_weights_that_are_not_finite_are_no_start():
    written(layouts.cyclegan(2, 1))
    import_weights(Path("published.pth"), Path("imported"))
    checkpoint = checkpoints.load(path := Path("imported/checkpoints/last.ckpt"))
    checkpoint["state_dict"]["generator.decoder.head.weight"][0, 0, 3, 3] = float("nan")
    checkpoints.save(checkpoint, path)
    with pytest.raises(UserError, match=r"weights=imported: decoder\.head\.weight is not finite"):
        start_from(ResnetGenerator(**TINY), Path("imported"), TINY)


def test_an_initialisation_would_undo_the_weights():
    words = ["method=animegan", "data=scenes", "run_dir=run", "method.generator.weights=published.pth"]
    with pytest.raises(UserError, match=r"method\.initialization_epochs=0"):
        prepare(compose("train", words))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*logging interval")
def test_the_file_is_noted_and_not_read_again_for_resuming_or_painting():
    written(layouts.cyclegan(2, 1))
    run = train_here(*TRAINED, "run_dir=run", "name=x", "method.epochs=1")
    started = {"file": "published.pth", "sha256": sha256_of(Path("published.pth"))}
    Path("published.pth").unlink()
    train_here("resume=run", "method.epochs=2")
    record = json.loads(Path("run/record.json").read_text())
    assert [attempt["weights"] for attempt in record["attempts"]] == [started, started]
    assert record["config"]["method"]["generator"]["weights"] == "published.pth"
    assert run.load(device="cpu")(torch.zeros(3, 8, 8)).shape == (3, 8, 8)
