"""What users type, and what becomes of it, without starting a process."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lit_ghibli.checkpoints import CheckpointError
from lit_ghibli.commands._hydra import expand_out
from lit_ghibli.commands.evaluate import allow_data_values
from lit_ghibli.commands.stylize import expand_inputs
from lit_ghibli.commands.train import expand_resume
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import config_dir, quote

CONF = Path(config_dir())
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
PRESETS = sorted(path.stem for path in (CONF / "preset").glob("*.yaml"))
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
TRAINERS = sorted(path.stem for path in (CONF / "trainer").glob("*.yaml"))

AWKWARD = [
    "a b.jpg",
    "a=b.jpg",
    "it's.jpg",
    'say "cheese".jpg',
    "a\\b.jpg",
    'a\\".jpg',
    "ends with \\",
    "x${y}.jpg",
    "x\\${y}.jpg",
    "a,b[1]{2}(3).jpg",
    "süß 宮崎.jpg",
    "$HOME",
    "null",
    "1",
    " space around ",
    "~x",
    "%:@#!?",
]


@pytest.fixture(autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def train_config(*overrides: str):
    config = compose("train", [*overrides, "hydra.runtime.output_dir=/run"], return_hydra_config=True)
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    with_choices = compose("train", [*overrides, f"name={choices['method']}", "run_dir=/run"])
    return OmegaConf.to_container(with_choices, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_every_experiment_composes_with_every_preset(experiment, preset):
    config = train_config(
        *([f"experiment={experiment}"] if experiment else []), *([f"preset={preset}"] if preset else [])
    )
    assert config["method"]["_target_"].startswith("lit_ghibli.methods.")
    assert config["trainer"]["max_epochs"] == config["method"]["epochs"] > 0
    assert config["data"]["seed"] == config["seed"] == config["metrics"]["seed"]
    assert "${" not in str(config)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_size_for_every_method(preset, method):
    plain, sized = (train_config(f"method={method}", *more)["method"] for more in ([], [f"preset={preset}"]))
    assert plain != sized


@pytest.mark.parametrize("derive", sorted(path.stem for path in (CONF / "data" / "derive").glob("*.yaml")))
def test_every_derivation_composes(derive):
    config = train_config("experiment=pix2pix_colorize", f"data/derive={derive}", "data.root=/x")
    assert instantiate(config["data"], _convert_="object").source.derive == instantiate(config["data"]["derive"])


@pytest.mark.parametrize("logger", ["csv", "tensorboard", "wandb"])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_and_logger_composes(trainer, logger):
    config = train_config(f"trainer={trainer}", f"logger={logger}")
    assert {"compile", "channels_last"} == set(config["runtime"])
    assert logger in config["logger"]
    assert "csv" in config["logger"], "resume and reports read it"


@pytest.mark.parametrize("name", AWKWARD)
def test_any_name_survives_hydras_grammar(name):
    config = compose(
        "stylize",
        expand_inputs([name, "--out", name])
        if "=" not in name and name[0] != "~"
        else [f"inputs=[{quote(name)}]", f"out={quote(name)}"],
    )
    assert list(config.inputs) == [name]
    assert config.out == name


def test_photographs_folders_and_overrides_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=b.jpg").touch()
    Path("c=d").mkdir()
    words = ["a=b.jpg", "x y.jpg", "tile=512", "c=d", "--out", "my out", "overwrite=true", "not=there.jpg"]
    expanded = expand_inputs(words)
    assert sorted(expanded[:4]) == ["not=there.jpg", 'out="my out"', "overwrite=true", "tile=512"]
    assert expanded[4:] == ['inputs=["a=b.jpg","x y.jpg","c=d"]']
    config = compose("stylize", [word for word in expanded if not word.startswith("not=")])
    assert (config.inputs, config.out, config.tile, config.overwrite) == (
        ["a=b.jpg", "x y.jpg", "c=d"],
        "my out",
        512,
        True,
    )


@pytest.mark.parametrize("words", [["--out", "o p"], ["-o", "o p"], ["--out=o p"], ['out="o p"']])
def test_forms_of_out(words):
    assert expand_inputs(["a.jpg", *words]) == ['out="o p"', 'inputs=["a.jpg"]']
    assert expand_out(words) == ['out="o p"']


def test_hydras_own_flags_and_their_values_pass():
    words = ["--cfg", "job", "-cd", "folder", "--help", "~hydra.x", "a.jpg"]
    assert expand_inputs(words) == [*words[:-1], 'inputs=["a.jpg"]']
    assert expand_inputs(["tile=0"]) == ["tile=0"]


@pytest.mark.parametrize("flag", ["--out", "-o"])
def test_out_without_a_folder_is_refused(flag):
    with pytest.raises(UserError, match=f"{flag} needs a folder"):
        expand_inputs(["a.jpg", flag])


def test_values_of_the_checkpoints_data_can_be_replaced():
    assert allow_data_values(["data.root=/x", "seed=1", "++data.y=2"]) == ["++data.root=/x", "seed=1", "++data.y=2"]


# --- resume --------------------------------------------------------------------


def made_run(folder: Path, *overrides: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides) or "[]\n")
    return folder


@pytest.mark.parametrize("quoted", ["", '"', "'"])
def test_resume_becomes_the_runs_own_command_line(tmp_path, quoted):
    run = made_run(tmp_path / "a run", "data=scenes", "seed=3", "resume=older")
    ours = expand_resume(["method.epochs=9", f"resume={quoted}{run}{quoted}"])
    last = run / "checkpoints" / "last.ckpt"
    assert ours == ["data=scenes", "seed=3", "method.epochs=9", f'resume="{last}"', f'hydra.run.dir="{run}"']
    assert expand_resume(ours) == ours, "a further process of a DDP run has it expanded already"
    config = compose("train", [*ours, "name=x", "run_dir=y"], return_hydra_config=True)
    assert (config.resume, config.hydra.run.dir, config.seed) == (str(last), str(run), 3)


def test_resume_takes_a_checkpoint_of_the_run(tmp_path):
    run = made_run(tmp_path / "run")
    epoch = run / "checkpoints" / "epoch_0001.ckpt"
    epoch.touch()
    assert expand_resume([f"resume={epoch}"]) == [f'resume="{epoch}"', f'hydra.run.dir="{run}"']


def test_resume_leaves_other_command_lines_alone():
    assert expand_resume(["seed=1", "data=scenes"]) == ["seed=1", "data=scenes"]


def test_runs_that_cannot_be_resumed_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such run"):
        expand_resume([f"resume={tmp_path / 'nowhere'}"])
    with pytest.raises(CheckpointError, match="nothing was saved yet"):
        expand_resume([f"resume={tmp_path}"])
    stray = tmp_path / "stray" / "checkpoints" / "x.ckpt"
    stray.parent.mkdir(parents=True)
    stray.touch()
    with pytest.raises(CheckpointError, match=r"not a run's folder, since it has no \.hydra/overrides\.yaml"):
        expand_resume([f"resume={stray}"])
