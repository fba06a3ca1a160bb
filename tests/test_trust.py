"""What a stranger's checkpoint may ask for."""

import copy
import os

import pytest
import torch
from helpers.recipes import read_recipe
from omegaconf import OmegaConf

import lit_ghibli.networks.resnet
from lit_ghibli import checkpoints
from lit_ghibli.errors import UserError
from lit_ghibli.inference.load import choose_device, load_translator
from lit_ghibli.recipes import compose
from lit_ghibli.trust import instantiate_trusted, is_trusted, leaves


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
