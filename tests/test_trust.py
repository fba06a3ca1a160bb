"""What a stranger's checkpoint may ask for."""

import copy
import importlib
import json
import os
import stat
from pathlib import Path

import pytest
import torch
from helpers.recipes import read_recipe
from omegaconf import OmegaConf
from PIL import Image

import lit_ghibli
import lit_ghibli.networks.resnet
from lit_ghibli import checkpoints
from lit_ghibli.commands import profile
from lit_ghibli.errors import UserError
from lit_ghibli.files import config_dir, default_cache_dir, write_picture
from lit_ghibli.inference.load import choose_device, load_translator
from lit_ghibli.recipes import compose
from lit_ghibli.trust import (
    check_words,
    instantiate_trusted,
    is_own,
    is_trusted,
    is_trusting,
    leaves,
    signature,
    trusting,
)


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.Adam",
        "torch.optim.adam.Adam",
        "lit_ghibli.methods.cyclegan.CycleGAN",
        "lit_ghibli.networks.resnet.ResnetGenerator",
        "lit_ghibli.data.unpaired.UnpairedDataModule.from_scenes",
        "lit_ghibli.data.paired.PairedDataModule.from_layout",
        "lit_ghibli.data.transforms.Grayscale",
        "lit_ghibli.metrics.suite.MetricSuite",
    ],
)
def test_what_a_method_consists_of_is_trusted(target):
    assert is_trusted(target)


def test_all_that_a_recipe_names_is_trusted(any_method):
    config = OmegaConf.to_container(compose("train", [f"method={any_method}"]).method, resolve=True)
    targets = {value for key, value in leaves(config) if key == "_target_"}
    assert targets
    assert {target for target in targets if not is_trusted(target)} == set()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.optimist.x",
        "hydra.utils.instantiate",
        # Others' names as seen from inside this suite.
        "lit_ghibli.checkpoints.os.system",
        "lit_ghibli.data.cache.os.replace",
        "lit_ghibli.data.cache.pickle.loads",
        "lit_ghibli.data.sources.Path",
        "lit_ghibli.methods.cyclegan.partial",
        "lit_ghibli.methods.cyclegan.CycleGAN.load_from_checkpoint",
        "lit_ghibli.methods.cyclegan.CycleGAN.__init__.__globals__",
        "lit_ghibli.networks.resnet.ResnetGenerator.register_forward_hook",
        "torch.optim.Adam.mro",
        "torch.optim.Adam.__init__.__builtins__.eval",
        "torch.optim.adam.torch.load",
        # This suite's own functions that write files, or run what they are given.
        "lit_ghibli.checkpoints.save",
        "lit_ghibli.data.cache.cached_folder",
        "lit_ghibli.data.download.fetch",
        "lit_ghibli.data.download.unpack",
        "lit_ghibli.reports.tables.write_table",
        "lit_ghibli.commands._hydra.instantiate_trusted",
        "lit_ghibli.cli.main",
        "lit_ghibli.__main__.main",
        # Functions and helpers beside trusted classes.
        "lit_ghibli.networks.weights.find_weights",
        "lit_ghibli.networks.weights.read_weights",
        "lit_ghibli.networks.inception.tensorflow_inception",
        "lit_ghibli.networks.resnet._normalized",
        "lit_ghibli.networks.animegan._Block",
        "lit_ghibli.metrics.features.load_extractor",
        "lit_ghibli.metrics.feature_cache.FeatureCache",
        "lit_ghibli.data.unpaired.UnpairedDataset",
        "lit_ghibli.data.unpaired.UnpairedDataModule.load_from_checkpoint",
        "lit_ghibli.data.unpaired.UnpairedDataModule.setup",
        "lit_ghibli.painter.painter._check",
        "torch.optim.lr_scheduler.LambdaLR",
        # Nothing at all.
        "",
        "lit_ghibli.methods.",
        "lit_ghibli.methods.nowhere.Nothing",
        "lit_ghibli.methods.cyclegan",
        "torch.optim.Nothing",
    ],
)
def test_everything_else_is_not(target):
    assert not is_trusted(target)


def hidden(evil) -> dict[str, dict]:
    """The recipe of CycleGAN with something evil in different places."""
    recipe = read_recipe("cyclegan")
    places = {}
    for name in ("argument", "list", "tuple", "nested", "itself"):
        config = copy.deepcopy(recipe)
        if name == "itself":
            config = evil
        elif name == "nested":
            config["generator"]["base_channels"] = {"deeper": evil}
        else:
            config["epochs"] = {"argument": evil, "list": [evil], "tuple": ((evil,),)}[name]
        places[name] = config
    return places


@pytest.mark.parametrize("place", ["argument", "list", "tuple", "nested", "itself"])
def test_a_configuration_that_asks_for_a_command_is_refused(tmp_path, place):
    trace = tmp_path / "trace"
    evil = {"_target_": "os.mkdir", "path": str(trace)}
    with pytest.raises(UserError, match=r"asks for 'os\.mkdir'"):
        instantiate_trusted(hidden(evil)[place])
    assert not trace.exists()


@pytest.mark.parametrize("wrap", ["${oc.create:{_target_: os.mkdir, path: %s}}", "${oc.env:HOME}", "\\${x}"])
@pytest.mark.parametrize("place", ["argument", "list", "tuple", "nested"])
def test_interpolations_are_refused(tmp_path, place, wrap):
    trace = tmp_path / "trace"
    with pytest.raises(UserError, match="interpolation"):
        instantiate_trusted(hidden(wrap.replace("%s", str(trace)))[place])
    assert not trace.exists()


def test_the_recipe_itself_is_accepted():
    recipe = read_recipe("cyclegan")
    recipe["generator"] |= {"base_channels": 4, "num_blocks": 1}
    method = instantiate_trusted(recipe)
    assert isinstance(method.translator(), lit_ghibli.networks.resnet.ResnetGenerator)


def checkpoint_of(tmp_path, dtype=torch.float32, **changes):
    recipe = read_recipe("cyclegan")
    recipe["generator"] |= {"base_channels": 4, "num_blocks": 1}
    recipe["discriminator"] |= {"base_channels": 4}
    torch.manual_seed(0)
    method = instantiate_trusted(recipe).to(dtype)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    config = {"method": recipe | changes}
    checkpoints.save({"state_dict": method.state_dict(), checkpoints.CONFIG_KEY: config}, path)
    return path, method.translator()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_checkpoint_of_any_precision_becomes_a_function_on_pictures(tmp_path, dtype):
    path, generator = checkpoint_of(tmp_path, dtype)
    translator, config = load_translator(path, "cpu", 0)
    assert config["method"]["generator"]["base_channels"] == 4
    photo = torch.rand(1, 3, 16, 12) * 2 - 1
    torch.testing.assert_close(translator.translate(photo), generator.float()(photo).detach())
    assert not translator.network.training


def test_a_checkpoint_that_asks_for_a_command_is_refused_whole(tmp_path):
    trace = tmp_path / "trace"
    path, _ = checkpoint_of(tmp_path, epochs={"_target_": "os.mkdir", "path": str(trace)})
    with pytest.raises(UserError, match=r"os\.mkdir"):
        load_translator(path, "cpu", 0)
    assert not os.path.exists(trace)


class Inverting(torch.nn.Module):
    """A method that is none of the suite's."""

    def __init__(self, cache_dir=None):
        super().__init__()
        self.network = torch.nn.Identity()

    def translator(self):
        return self.network


def test_a_class_of_ones_own_is_made_where_the_user_says_so(tmp_path):
    asked = {"_target_": f"{__name__}.Inverting", "cache_dir": str(tmp_path / "new")}
    path = checkpoint_asking(tmp_path, {"method": asked})
    for _ in range(2):  # what the first call has found must not serve the second one
        with pytest.raises(UserError, match=r"Inverting', which is no part of a method.*load\(PATH, trust=True\)"):
            lit_ghibli.load(path, device="cpu")
        with trusting():
            assert isinstance(load_translator(path, "cpu", 0)[0].network, torch.nn.Identity)
        assert isinstance(lit_ghibli.load(path, device="cpu", trust=True).network, torch.nn.Identity)
    assert not is_trusted(asked["_target_"])


class Made(Inverting):
    """Tells that an object was made."""

    def __init__(self):
        raise UserError("it was made")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("export", "model={} out=m.onnx"),
        ("profile", "checkpoints=[{}] repeats=[1] size=32 out=o"),
        ("mos_build", "inputs=photos methods={{mine:{}}} out=o"),
        ("nst", "inputs=[a.png,b.png] checkpoint={} trainer=cpu out=o"),
    ],
)
def test_every_command_that_loads_checkpoints_takes_the_word(tmp_path, monkeypatch, module, words):
    monkeypatch.chdir(tmp_path)
    for path in ("a.png", "b.png", "photos/c.png"):
        write_picture(Image.new("RGB", (40, 40), "teal"), path)
    asked = checkpoint_asking(tmp_path, {"method": {"_target_": f"{__name__}.Made"}})
    command = importlib.import_module(f"lit_ghibli.commands.{module}")
    measure = profile.measure  # in this process, which knows the class
    monkeypatch.setattr(profile, "measure_apart", lambda settings: measure({**settings, "trust": is_trusting()}))
    config = compose(module, words.format(asked).split())
    for config.trust, said in ((False, "Only if you know whose it is, add trust=true"), (True, "it was made")):
        with pytest.raises(SystemExit, match=said):
            getattr(command, module)(config)


def checkpoint_asking(tmp_path, config):
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoints.save({"state_dict": {}, checkpoints.CONFIG_KEY: config}, path)
    return path


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": {"num_blocks": 10**7}}, "num_blocks=10000000, above 4096"),
        ({"generator": {"base_channels": 10**9}}, "base_channels=1000000000, above 4096"),
        ({"generator": {"widths": [1, 10**6]}}, "sizes=1000000, above 4096"),
        ({"epochs": [1] * 20_000}, "more than 10,000 values"),
        ({"generator": {"deep": nested(200)}}, "nested deeper than 100 levels"),
        (None, "method must be a mapping; got null"),
        ([], "method must be a mapping; got a list of 0"),
        ({"_target_": None}, "method._target_ must be text; got null"),
    ],
)
def test_what_a_checkpoint_may_not_ask_for_is_one_line(tmp_path, changes, message):
    recipe = read_recipe("cyclegan")
    if isinstance(changes, dict):
        for key, value in changes.items():
            recipe[key] = {**recipe[key], **value} if isinstance(value, dict) else value
    else:
        recipe = changes
    with pytest.raises(UserError, match=message) as refusal:
        load_translator(checkpoint_asking(tmp_path, {"method": recipe}), "cpu", 0)
    assert "\n" not in str(refusal.value)


def test_nothing_is_fetched_while_a_checkpoint_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *arguments, **options: pytest.fail("fetched"))
    recipe = read_recipe("cyclegan")
    recipe["generator"] = {"_target_": "lit_ghibli.networks.vgg.VggFeatures", "taps": ["relu1_1"], "_partial_": True}
    with pytest.raises(UserError, match="nothing is fetched while a checkpoint is loaded"):
        load_translator(checkpoint_asking(tmp_path, {"method": recipe}), "cpu", 0)
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("place", ["new", "cache", "~/new-cache-of-nobody", "../new"])
def test_a_new_cache_elsewhere_is_not_made(tmp_path, monkeypatch, place):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    place = str(tmp_path / place) if place == "new" else place
    data = {"_target_": "lit_ghibli.data.unpaired.UnpairedDataModule.from_scenes", "cache_dir": place}
    with pytest.raises(UserError, match="asks for a new folder"):
        instantiate_trusted(data)


def test_caches_that_are_there_and_places_of_the_user_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = OmegaConf.to_container(compose("train", []).data, resolve=True)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "x.pack").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for place in (None, str(tmp_path / "old"), "../old", str(default_cache_dir() / "more")):
        instantiate_trusted({**recipe, "cache_dir": place})
    instantiate_trusted({**recipe, "cache_dir": "new"}, typed=["cache_dir"])


WORDS = [
    "method=cyclegan",
    "logger=[csv,tensorboard]",
    "seed=1",
    "~callbacks.doctor",
    "data.root=/a/b",
    "+vgg=random",
    "method.vgg.weights=${vgg}",
    "method.decay_epochs='${half:${method.epochs}}'",
    "method.generator.weights=/a/b.pth",
    "method.generator._target_=lit_ghibli.networks.unet.UnetGenerator",
    "+callbacks.watch._target_=lit_ghibli.callbacks.watch.Watch",
    "trainer.max_time='00:00:01:30'",
    "launcher.partition=gpu",
    "callbacks.image_grid.folder=FOLDER/pictures",
    "callbacks.pruning.journal=FOLDER/../../search.journal",
    "White-box:imported/whitebox",
]


@pytest.mark.parametrize("path", sorted(Path(config_dir(), "callbacks").glob("*.yaml")), ids=lambda path: path.stem)
def test_all_callbacks_of_the_suite_are_trusted(tmp_path, path):
    targets = [value for key, value in leaves(OmegaConf.to_container(OmegaConf.load(path))) if key == "_target_"]
    check_words([f"+callbacks.x._target_={target}" for target in targets], "study.yaml", tmp_path)


def test_words_that_a_training_consists_of_may_come_from_a_file(tmp_path):
    folder = tmp_path / "cells" / "a"
    check_words([word.replace("FOLDER", str(folder)) for word in WORDS], "study.yaml", folder)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("callbacks.x._target_=os.system", "makes what is no part"),
        ("+callbacks.x={_target_: os.system, command: x}", "makes what is no part"),
        ("+callbacks.x=[{a: {_target_: os.system}}]", "makes what is no part"),
        ("method.generator._target_=lit_ghibli.networks.weights.find_weights", "makes what is no part"),
        ("+x-y._target_=os.system", "makes what is no part"),
        ("callbacks.x._target_=${name}", "makes what is no part"),
        ("+x=${oc.create:'{_target_: os.system}'}", "an interpolation, which may hide anything"),
        ("method.epochs=${oc.env:SECRET}", "an interpolation, which may hide anything"),
        ("method.epochs=${oc.${x}:SECRET}", "an interpolation, which may hide anything"),
        ("method.epochs=${${x}:SECRET}", "an interpolation, which may hide anything"),
        ("method.epochs=${oc.env", "an interpolation, which may hide anything"),
        ("hydra.job_logging.handlers.x.class=os.system", "says how Hydra works"),
        ("+hydra.callbacks.x={a: 1}", "says how Hydra works"),
        ("hydra/launcher=submitit_local", "says how Hydra works"),
        ("+x@hydra.launcher=y", "says how Hydra works"),
        ("--config-dir=/tmp", "is an option"),
        ("-m", "is an option"),
        ("seed=1,2", "has several values"),
        ("out=x", "says where to write"),
        ("run_dir=/tmp/x", "says where to write"),
        ("data.cache_dir=/tmp/nowhere", "names no cache of yours"),
        ("metrics.cache_dir=/tmp/nowhere", "names no cache of yours"),
        ("callbacks.image_grid.folder=/tmp/x", "names no place below"),
        ("callbacks.frames.result=../../x.png", "names no place below"),
        ("logger.csv.save_dir='~'", "names no place below"),
        ("callbacks.pruning.journal=/tmp/x", "names no place below"),
        ("launcher.partition=a\nb", "holds more than text"),
        ("logger=wandb", "sends pictures away"),
        ("logger=[csv,wandb]", "sends pictures away"),
        ("trust=true", "says whom to trust"),
    ],
)
def test_words_that_do_more_are_refused(tmp_path, word, why):
    with pytest.raises(UserError, match=rf"study\.yaml is refused: its word .* {why}.* trust=true"):
        check_words(["seed=1", word], "study.yaml", tmp_path / "cells" / "a")


def test_runs_of_ones_own_are_known(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GHIBLI_CACHE", str(tmp_path / "mine"))
    words = ["seed=1", "+callbacks.x._target_=my.Own"]
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"attempts": [{}, {"signature": signature(words)}, {"signature": None}]}))
    assert is_own(words, tmp_path)
    assert not is_own([*words, "seed=2"], tmp_path)
    assert not is_own(words, tmp_path / "nowhere")
    (secret,) = (tmp_path / "mine").iterdir()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    monkeypatch.setenv("LIT_GHIBLI_CACHE", str(tmp_path / "another's"))
    assert not is_own(words, tmp_path), "somebody else has another secret"
    monkeypatch.setenv("LIT_GHIBLI_CACHE", str(record))  # no folder
    assert signature(words) is None
    record.write_text(json.dumps({"attempts": [{"signature": None}]}))
    assert not is_own(words, tmp_path)


def test_weights_that_do_not_fit_are_said_to(tmp_path):
    recipe = read_recipe("cyclegan")["generator"] | {"base_channels": 8, "num_blocks": 1}
    path, _ = checkpoint_of(tmp_path, generator=recipe)
    with pytest.raises(checkpoints.CheckpointError, match="do not fit"):
        load_translator(path, "cpu", 0)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device=cuda:1: no GPU"):
        choose_device("cuda:1")
    with pytest.raises(UserError, match="device=toaster: choose auto, cpu or cuda"):
        choose_device("toaster")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
