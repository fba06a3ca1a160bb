"""What `lit-ghibli profile` takes, and how it hands each method to a process of its own."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.styles import made_style
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from lit_ghibli import checkpoints
from lit_ghibli.commands import profile, to_overrides
from lit_ghibli.errors import UserError
from lit_ghibli.inference.load import load_translator
from lit_ghibli.recipes import compose, config_dir

SMALL = ["method.generator.base_channels=4", "method.discriminator.base_channels=4"]
SETTINGS = {"name": "x", "size": 16, "batch_size": 1, "warm_up": 0, "threads": 1, "repeats": [1, 2], "device": "cpu"}
SETTINGS |= {"trust": False}


@pytest.fixture(autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        yield


def composed(*arguments: str):
    return compose("profile", to_overrides("profile", list(arguments)))


@pytest.mark.parametrize(
    ("words", "expanded"),
    [
        (["method=a,b", "size=64"], ["size=64", 'methods=["a","b"]']),
        (["method=a", "method=b,a"], ['methods=["a","b"]']),
        (["checkpoint=r 1,r2/x.ckpt"], ['checkpoints=["r 1","r2/x.ckpt"]']),
        (["checkpoint='r 1'"], ['checkpoints=["r 1"]']),
        (
            ["method=a", "method.x.y=1", "++method.z=[1,2]", "method/bottleneck=resnet", "~method.q"],
            ['methods=["a"]', 'overrides=["method.x.y=1","++method.z=[1,2]","method/bottleneck=resnet","~method.q"]'],
        ),
        (["--out", "my folder", "--help", "hydra.x=1"], ["--help", 'out="my folder"', "hydra.x=1"]),
    ],
)
def test_lists_are_hidden_from_hydra_which_reads_commas_as_a_sweep(words, expanded):
    assert to_overrides("profile", words) == expanded


def test_a_path_with_a_comma_is_one_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a,b").mkdir()
    assert list(composed("checkpoint=a,b").checkpoints) == ["a,b"]
    assert list(composed("checkpoint=a,c").checkpoints) == ["a", "c"]


def test_what_was_typed_arrives():
    config = composed("method=a,b", "method.x='y, z'", "repeats=[3]", "size=32")
    assert (config.methods, config.overrides, config.repeats, config.size) == (["a", "b"], ["method.x='y, z'"], [3], 32)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is to be measured"),
        (["checkpoint=x", "method.y=1"], "method.y=1: values are of methods"),
        (["checkpoint=x", "seed=1"], "seed=1: that is of methods"),
        (["method=x", "size=0"], "size must be a whole number of at least 1; got 0"),
        (["method=x", "batch_size=1.5"], "batch_size must be a whole number of at least 1; got 1.5"),
        (["method=x", "warm_up=-1"], "warm_up must be a whole number of at least 0; got -1"),
        (["method=x", "threads=0"], "threads must be"),
        (["method=x", "repeats=[]"], "repeats is empty"),
        (["method=x", "repeats=[5,0]"], "each of it a whole number of at least 1; got [5, 0]"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, message):
    with pytest.raises(UserError) as error:
        profile.check_settings(composed(*words))
    assert message in str(error.value)


def fresh(tmp_path, name, *words):
    return profile._fresh(name, composed(f"method={name}", *words), tmp_path / f"{name}.ckpt")


def test_fresh_weights_are_those_of_the_translator_alone_and_of_the_seed(tmp_path):
    paths = [fresh(tmp_path / f"{seed}", "cyclegan", *SMALL, f"seed={seed}") for seed in (0, 0, 1)]
    weights = [checkpoints.load(path)["state_dict"] for path in paths]
    assert {name.split(".")[0] for name in weights[0]} == {"generator_ab"}
    name = "generator_ab.encoder.stem.0.weight"
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])
    translator, config = load_translator(paths[0], "cpu", tile=0)
    assert config["method"]["generator"]["base_channels"] == 4
    assert torch.equal(translator.network.encoder.stem[0].weight, weights[0][name])


def test_methods_that_cannot_be_measured_are_named(tmp_path):
    with pytest.raises(UserError, match="method=nst: NeuralStyle paints one picture and has no network"):
        fresh(tmp_path, "nst")
    with pytest.raises(UserError, match=r"(?s)method=foo: there is no such choice.*cyclegan") as error:
        fresh(tmp_path, "foo")
    assert "search path" not in str(error.value)
    with pytest.raises(UserError, match=r"method=cyclegan: .* has no 'method\.generator\.color'"):
        fresh(tmp_path, "cyclegan", "method.generator.color=red")
    assert not list(tmp_path.iterdir())


def test_a_row_says_what_was_measured_on_what(tmp_path):
    path = fresh(tmp_path, "cyclegan", *SMALL, "method.generator.num_blocks=1")
    torch.set_num_threads(1)
    row = profile.measure({**SETTINGS, "checkpoint": str(path)})
    weights = checkpoints.load(path)["state_dict"].values()
    assert row["parameters_m"] * 1e6 == pytest.approx(sum(tensor.numel() for tensor in weights))
    expected = {"method": "x", "size": 16, "batch_size": 1, "threads": 1, "nfe": None}
    assert {key: row[key] for key in expected} == expected
    assert json.loads(json.dumps(row)) == row
    assert list(row)[:4] == ["method", "seconds_1", "seconds_2", "peak_mib"]


def test_weights_that_are_not_finite_are_refused_by_their_layer(tmp_path):
    path = fresh(tmp_path, "cyclegan", *SMALL, "method.generator.num_blocks=1")
    checkpoint = checkpoints.load(path)
    checkpoint["state_dict"]["generator_ab.encoder.stem.0.weight"][:] = float("inf")
    checkpoints.save(checkpoint, path)
    with pytest.raises(UserError, match=r"layer encoder\.stem\.0 .* its weight is not finite"):
        profile.measure({**SETTINGS, "checkpoint": str(path)})


@pytest.mark.slow
def test_modules_first_imported_for_a_translator_are_whole(tmp_path):
    """Nothing but the checkpoint names the ODE generator, whose solver has constants, so that it is imported late."""
    ode = ["method/bottleneck=ode", "method.generator.solver=dopri5"]
    path = fresh(tmp_path, "cyclegan", *SMALL, *ode, "method.generator.num_blocks=1")
    row = profile.measure_apart({**SETTINGS, "checkpoint": str(path)})
    assert row["nfe"] >= 7
    assert row["peak_mib"] < 200, "the program itself, which takes more, does not count"


def test_styles_are_measured_and_filters_have_no_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path))
    made_style(tmp_path)
    torch.set_num_threads(1)
    style, painter = (profile.measure({**SETTINGS, "checkpoint": word}) for word in ("mine", "painter"))
    assert style["parameters_m"] > 0
    assert style["tflop"] > 0
    assert (painter["parameters_m"], painter["tflop"], painter["tflop_per_s"]) == (0, None, None)
    assert painter["seconds_2"] > 0


@pytest.mark.slow
def test_a_process_that_fails_shows_why(capfd):
    with pytest.raises(UserError, match="x: the process that measured it failed; its message is above"):
        profile.measure_apart({**SETTINGS, "checkpoint": "nowhere"})
    assert "lit-ghibli profile: nowhere: no such run or checkpoint" in capfd.readouterr().err


@pytest.mark.parametrize(("status", "said"), [(-9, "was killed by signal 9"), (1, "failed; its message is above")])
def test_a_process_that_did_not_end_well_is_told(monkeypatch, status, said):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, status, ""))
    with pytest.raises(UserError, match=f"x: the process that measured it {said}"):
        profile.measure_apart({**SETTINGS, "checkpoint": "x"})


def test_the_defaults_are_those_of_the_papers_table():
    config = OmegaConf.to_container(compose("profile"))
    assert (config["repeats"], config["size"], config["batch_size"]) == ([5, 50], 256, 1)
