import os
import re
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf, open_dict
from submitit.slurm.slurm import _make_sbatch_string

import __main__
from lit_ghibli.commands import _processes
from lit_ghibli.commands.train import expand_resume
from lit_ghibli.recipes import config_dir

NAMES = ("SLURM_", "TORCHELASTIC_", "RANK")
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train.sh"}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    for name in [name for name in os.environ if name.startswith(NAMES)]:
        monkeypatch.delenv(name)


def compose_train(*overrides):
    """A configuration of `train`, with Hydra's own part."""
    setup_globals()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


@pytest.fixture
def job():
    """Makes a configuration that of the current Hydra job, in the given folder."""

    def enter(config, folder):
        with open_dict(config):
            config.hydra.runtime.output_dir = str(folder)
            config.hydra.job.num, config.hydra.job.id = 1, "1"
        HydraConfig.instance().set_config(config)

    before = HydraConfig.instance().cfg
    yield enter
    HydraConfig.instance().cfg = before


def test_a_folder_is_named_by_when_the_run_began():
    config = OmegaConf.create({"dir": "outputs/x_${started:%Y-%m}"})
    assert re.fullmatch(r"outputs/x_\d{4}-\d\d", config.dir)


@pytest.mark.parametrize("process", ["0", "1"])
def test_only_the_first_process_writes_hydras_files(monkeypatch, process):
    for name, value in {**SRUN, "SLURM_PROCID": process}.items():
        monkeypatch.setenv(name, value)
    arguments = _processes.quiet_further_processes(["seed=1"])
    assert (arguments == ["seed=1"]) == (process == "0")
    if process == "1":
        config = compose_train(*arguments).hydra
        assert config.output_subdir is None
        assert "file" not in config.job_logging.handlers


def test_a_job_of_a_sweep_looks_like_a_run_by_itself(monkeypatch, tmp_path, job):
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=1,2"])
    monkeypatch.setattr(__main__, "__spec__", None)  # as in a process of submitit's
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    job(compose_train("seed=2", "hydra.mode=MULTIRUN", "launcher=local"), tmp_path / "it's $1")
    with _processes.run_of_its_own("lit_ghibli.commands.train"):
        assert __main__.__spec__.name == "lit_ghibli.commands.train"
        assert HydraConfig.get().run.dir == str(tmp_path / "it's $1")
        assert sys.argv[0] == "train.py"
        assert "-m" not in sys.argv
        flags = [word for word in sys.argv[1:] if word.startswith("-")]
        assert flags == ["--config-name=train"]
        again = compose_train(*(word for word in sys.argv[1:] if word not in flags))
        assert (again.hydra.mode.name, again.seed, again.hydra.job.num) == ("RUN", 2, 1)
        os.environ["LOCAL_RANK"] = "0"  # as Lightning leaves it behind
    assert "LOCAL_RANK" not in os.environ
    assert sys.argv == ["train.py", "-m", "seed=1,2"]
    assert __main__.__spec__ is None


def test_a_single_run_keeps_its_arguments(monkeypatch, tmp_path, job):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=2"])
    job(compose_train("seed=2", "hydra.mode=RUN"), tmp_path)
    with _processes.run_of_its_own("lit_ghibli.commands.train"):
        assert sys.argv[:2] == ["train.py", "seed=2"]
    assert sys.argv == ["train.py", "seed=2"]


@pytest.mark.parametrize(
    ("preset", "nodes", "processes"), [("slurm", 1, 1), ("slurm_node", 1, 8), ("slurm_nodes", 2, 8)]
)
def test_slurm_gives_a_run_the_processes_that_lightning_expects(preset, nodes, processes):
    config = compose_train(f"launcher={preset}", "launcher.partition=gpu", "launcher.minutes=90")
    assert (config.trainer.num_nodes, config.trainer.devices) == (nodes, processes)
    assert ("strategy" in config.trainer) == (processes > 1)
    assert config.hydra.mode.name == "MULTIRUN"
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.max_num_timeout, launcher.name) == (100, "cyclegan")
    script = _make_sbatch_string(
        "run",
        "folder",
        nodes=launcher.nodes,
        ntasks_per_node=launcher.tasks_per_node,
        gpus_per_node=launcher.gpus_per_node,
        time=launcher.timeout_min,
        partition=launcher.partition,
        signal_delay_s=launcher.signal_delay_s,
    )
    flags = {"nodes": nodes, "ntasks-per-node": processes, "gpus-per-node": processes, "time": 90, "partition": "gpu"}
    assert {f"#SBATCH --{name}={value}" for name, value in flags.items()} <= set(script.splitlines())


def test_a_run_of_a_cluster_is_resumed_here_unless_told_otherwise(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("- seed=1\n- launcher=slurm\n- launcher.minutes=5\n- name=a\n")
    here = expand_resume([f"resume={tmp_path}"])
    assert here[:2] == ["seed=1", "name=a"]
    assert not any(argument.startswith("launcher") for argument in here)
    again = compose_train(*expand_resume([f"resume={tmp_path}", "launcher=slurm"]))
    assert again.hydra.mode.name == "MULTIRUN"
    assert os.path.abspath(f"{again.hydra.sweep.dir}/{again.hydra.sweep.subdir}") == str(tmp_path)
