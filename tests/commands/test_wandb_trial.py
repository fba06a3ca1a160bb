"""Trials of a W&B sweep, asked for by W&B's own agents, offline."""

import os
import queue
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import yaml
from helpers.wandb_files import history, named, read_run, records
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from wandb import wandb_agent
from wandb.agents import pyagent
from wandb.sdk.lib import config_util

from lit_ghibli.commands import wandb_trial
from lit_ghibli.commands.wandb_trial import main, training, trial
from lit_ghibli.errors import UserError
from lit_ghibli.overrides import spell
from lit_ghibli.recipes import config_dir

SWEEP = yaml.safe_load((Path(__file__).parents[2] / "experiments" / "wandb_sweep" / "sweep.yaml").read_text())
AGENTS = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_DIR")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder to work in, and an environment that agents may change."""
    monkeypatch.chdir(tmp_path)
    for name in AGENTS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(wandb, "Api", lambda: None)
    return tmp_path


def composed(arguments: list[str]) -> DictConfig:
    """What `lit-ghibli train` makes of arguments, but for those of Hydra itself."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return compose("train", [argument for argument in arguments if not argument.startswith("hydra.")])


def plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def asked(folder: Path, values: dict, sweep: str = "s1", run: str = "r1") -> dict[str, str]:
    """An agent's environment."""
    path = folder / "asked.yaml"
    config_util.save_config_file_from_dict(str(path), {key: {"value": value} for key, value in values.items()})
    return {"WANDB_SWEEP_ID": sweep, "WANDB_RUN_ID": run, "WANDB_SWEEP_PARAM_PATH": str(path)}


def test_values_keep_their_types():
    values = [None, True, False, 0, -3, 1e-05, 2.5, float("inf"), [0.5, None, "a, b", [True, "1"]]]
    values += ["", "null", "true", "1e3", "a b", "a,b", "x=y", "[1]", "${seed}", "C:\\", "it's", 'say "no"', "photo/é"]
    values += [{"a": 1, "b": ["x y", None]}]
    told = composed([f"+told.v{number}={spell(value)}" for number, value in enumerate(values)]).told
    found = [plain(told[f"v{number}"]) for number in range(len(values))]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_values_that_yaml_does_not_know_are_refused():
    with pytest.raises(UserError, match=r"values are numbers, text, true, .*; got \{1\}"):
        spell({1})


def test_the_sample_sweep_as_its_agent_runs_it(workplace, monkeypatch):
    """The command of sweep.yaml, through the agent's own code, becomes a training with the agent's values."""
    started = []

    def start(**process):
        started.append(process)
        return SimpleNamespace()

    monkeypatch.setattr(wandb_agent, "AgentProcess", start)
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    agent = wandb_agent.Agent(None, queue.Queue(), sweep_id="s1")
    agent._sweep_command = list(SWEEP["command"])
    keys = SWEEP["parameters"]
    extremes = [
        {key: values.get("min", values.get("values", [None])[0]) for key, values in keys.items()},
        {key: values.get("max", values.get("values", [None])[-1]) for key, values in keys.items()},
    ]
    for number, values in enumerate(extremes):
        args = {key: {"value": value} for key, value in values.items()}
        agent._command_run({"run_id": f"r{number}", "program": SWEEP["program"], "args": args})
        words = started[number]["command"]
        assert words[:3] == ["/usr/bin/env", "lit-ghibli", "wandb-trial"]
        command = training(words[3:], started[number]["env"])
        assert command[:4] == [sys.executable, "-m", "lit_ghibli", "train"]
        assert command[-1] == f'hydra.run.dir="outputs/wandb_s1/r{number}"'
        config = composed(command[4:])
        for key, value in values.items():
            assert plain(OmegaConf.select(config, key)) == value
        assert (config.name, config.logger.wandb.group) == ("cyclegan_demo", "cyclegan_weights")


def test_a_trial_goes_on_where_it_stopped(workplace):
    environment = asked(workplace, {"seed": 3})
    assert training(["logger=[wandb,tensorboard]"], environment)[4:] == [
        "logger=[wandb,tensorboard]",
        "seed=3",
        'hydra.run.dir="outputs/wandb_s1/r1"',
    ]
    checkpoint = Path("outputs/wandb_s1/r1/checkpoints/last.ckpt")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert training(["x=1"], environment)[4:] == ['resume="outputs/wandb_s1/r1"']
    assert training([], environment | {"WANDB_RUN_ID": "r2"})[4:5] == ["logger=wandb"]


def test_without_an_agent_there_is_no_trial(workplace, capsys):
    with pytest.raises(SystemExit, match="WANDB_SWEEP_ID, WANDB_RUN_ID, WANDB_SWEEP_PARAM_PATH not set: a trial is"):
        main(["seed=1"])
    main(["--help"])
    assert "outputs/wandb_SWEEP/RUN" in capsys.readouterr().out


def test_a_training_that_fails_is_a_trial_that_fails(workplace, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "r7")
    monkeypatch.setattr(wandb_trial, "training", lambda *told: [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(UserError, match="trial r7: the training ended with exit status 3"):
        trial()


def test_a_trial_that_is_stopped_stops_its_training(workplace, monkeypatch):
    children = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            # Tests that a shell started in the background ignore the signal, and so would their children.
            super().__init__(*arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)
            children.append(self)

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb_trial.subprocess, "Popen", Popen)
    monkeypatch.setattr(wandb_trial.time, "sleep", stop)
    monkeypatch.setattr(wandb_trial, "training", lambda *told: ["sleep", "60"])
    with pytest.raises(KeyboardInterrupt):
        trial()
    assert children[0].returncode == -signal.SIGINT


@pytest.mark.slow
def test_an_agents_function_trains_in_a_process_of_its_own(workplace, tiny, monkeypatch):
    """W&B's agent for functions, given a job as from the server, and what the trial tells W&B."""
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(workplace / "own"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    agent = pyagent.Agent("s1", function=partial(trial, *tiny, "method.epochs=1", "trainer.limit_train_batches=2"))
    agent._init()
    agent._sweep_id, agent._count = "s1", 1
    values = {"method.weights.cycle": 7.5, "method.optimizer_g.betas": [0.25, 0.75]}
    job = pyagent.Job({"type": "run", "run_id": "r1", "args": {key: {"value": value} for key, value in values.items()}})
    agent._run_status["r1"] = pyagent.RunStatus.QUEUED
    agent._queue.put(job)
    agent._run_jobs_from_queue()

    assert not agent._exceptions
    assert agent._run_status["r1"] == pyagent.RunStatus.DONE
    assert wandb.run is None
    (file,) = Path("outputs/wandb_s1/r1/wandb").glob("offline-run-*/run-*.wandb")
    told = records(file)
    run = read_run(told)
    assert (run.run_id, run.sweep_id, run.display_name) == ("r1", "s1", "")
    config = {}
    for record in told:
        config |= named(record.config.update)
    assert config["method"]["weights"]["cycle"] == 7.5
    assert config["method"]["optimizer_g"]["betas"] == [0.25, 0.75]
    assert any("val/swd" in row for row in history(told)), "what the sweep looks at"
    assert os.environ.get("WANDB_RUN_ID") is None
