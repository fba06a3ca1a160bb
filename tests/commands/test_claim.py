"""Which folder a run gets, and with which words it goes on."""

import json
import re

import pytest
from hydra import compose
from omegaconf import OmegaConf, read_write

from lit_ghibli import checkpoints
from lit_ghibli.callbacks import record_file, run_owner
from lit_ghibli.commands._claim import ClaimFolder
from lit_ghibli.commands._trainer import check_trainer
from lit_ghibli.commands.train import _check_length, expand_resume
from lit_ghibli.errors import UserError


@pytest.fixture
def composed(composing):
    """Composes `train` with Hydra's own part, as its programs do."""

    def compose_train(*overrides):
        config = compose("train", list(overrides), return_hydra_config=True)
        OmegaConf.set_readonly(config.hydra, True)
        return config

    yield compose_train
    run_owner._release_all()


def finish(run):
    """Leave a run that is over."""
    checkpoints.save({"state_dict": {}}, run / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("words", [["name=x"], ["method=pix2pix", "data=scene_pairs"]])  # called like its method
def test_a_new_run_gets_a_folder_of_its_own(composed, tmp_path, words):
    config = composed(*words)
    ClaimFolder().on_run_start(config)
    assert re.match(r"outputs/(x|pix2pix)_2", config.hydra.run.dir)
    first = tmp_path / config.hydra.run.dir
    assert (first / run_owner.FILE).is_file()
    run_owner.release(first)
    finish(first)  # and another begins in the same second
    ClaimFolder().on_run_start(config)
    assert config.hydra.run.dir == f"outputs/{first.name}_2"
    assert (first.with_name(f"{first.name}_2") / run_owner.FILE).is_file()


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ([], {}, "lit-ghibli train: run holds a run: go on with it by resume=run, or give another folder"),
        (["resume=run"], {}, None),
        ([], {"LOCAL_RANK": "1"}, None),
        ([], {"TORCHELASTIC_RUN_ID": "x", "RANK": "1"}, None),
    ],
)
def test_a_folder_that_was_typed_is_taken_or_refused(composed, tmp_path, monkeypatch, words, environment, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    finish(tmp_path / "run")
    config = composed("hydra.run.dir=run", *words)
    if said is None:
        ClaimFolder().on_run_start(config)
        assert config.hydra.run.dir == "run"
    else:
        with pytest.raises(SystemExit, match=f"^{re.escape(said)}$"):
            ClaimFolder().on_run_start(config)
    assert (tmp_path / "run" / run_owner.FILE).exists() == (words == ["resume=run"])


def test_sweeps_have_folders_of_their_own(composed, tmp_path):
    swept = ["hydra.mode=MULTIRUN", "hydra.sweep.dir=swept"]
    ClaimFolder().on_multirun_start(composed(*swept))
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "multirun.yaml").touch()
    with pytest.raises(SystemExit, match="swept holds the runs of a sweep: give another folder"):
        ClaimFolder().on_multirun_start(composed(*swept))
    ClaimFolder().on_multirun_start(composed(*swept, "resume=swept/0"))
    ClaimFolder().on_multirun_start(composed(*swept, "hydra/sweeper=search"))

    folder = composed("hydra.mode=MULTIRUN").hydra.sweep.dir
    for expected in (folder, f"{folder}_2"):
        config = composed("hydra.mode=MULTIRUN")
        with read_write(config.hydra):
            config.hydra.sweep.dir = folder  # in one second
        ClaimFolder().on_multirun_start(config)
        assert config.hydra.sweep.dir == expected
        assert config.hydra.overrides.hydra[-1] == f'hydra.sweep.dir="{expected}"'
        assert (tmp_path / expected).is_dir()


def test_a_run_goes_on_with_the_words_of_its_record(tmp_path):
    """Hydra's notes may not be there, or be those of another command; a copy goes on where it is."""
    run = tmp_path / "a run"
    finish(run)
    attempts = [
        {"overrides": ["seed=1"]},
        {"overrides": [f"--config-dir={tmp_path}", "seed=2", "name=x", "run_dir=elsewhere", "resume=x.ckpt"]},
    ]
    (run / record_file.FILE).write_text(json.dumps({"config": {}, "links": {}, "attempts": attempts}))
    last = run / "checkpoints" / "last.ckpt"
    typed = ["name=y", f'resume="{run}"', "trust=true"]
    words = [f"--config-dir={tmp_path}", "seed=2", "name=y", f'resume="{last}"', f'hydra.run.dir="{run}"']
    assert expand_resume(typed) == words
    assert expand_resume([*typed, "--config-dir", "other"])[:2] == ["seed=2", "name=y"]
    (run / record_file.FILE).unlink()
    with pytest.raises(UserError, match=r"not a run's folder, since it has no record\.json"):
        expand_resume(typed)


def test_lengths_that_schedules_do_not_know_are_refused():
    for asked in (0, 3, 5):
        _check_length(5, asked)
    _check_length(None, 7)  # a method without schedules
    for asked in (6, -1, None):
        with pytest.raises(UserError, match=f"trainer.max_epochs={asked} is not within method.epochs=5.*change"):
            _check_length(5, asked)
    with pytest.raises(UserError, match=r"trainer\.max_steps=4 cannot be used here.*method\.epochs"):
        check_trainer({"max_steps": 4})
