"""What a dry run does, counted on a method that only counts, and what is made of its times."""

import io

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from lit_ghibli.callbacks.dry_run import DryRun, Stage, WeighingCheckpointIO, forecast, plan
from lit_ghibli.methods.base import Method


class Counting(Method):
    """Learns nothing; notes in which order its hooks are called."""

    def __init__(self, levels=()):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1000))
        self.calls = []
        self.levels = levels

    def training_step(self, batch, batch_idx):
        self.calls.append(self.iteration if self.levels else "step")
        self.report({})

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.calls.append(f"validation {dataloader_idx}")

    def configure_optimizers(self):
        return None


def try_out(module, dry, per_epoch, held_out=(), **settings):
    """Fit as the command does, on batches of one number; return what a checkpoint weighs."""
    weighing = WeighingCheckpointIO({"seed": 0})
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    settings = {"max_epochs": 5, "num_sanity_val_steps": 0, **quiet, **settings}
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[dry], plugins=[weighing], **settings)
    loaders = [DataLoader(range(count)) for count in (per_epoch, *held_out)]
    trainer.fit(module, loaders[0], loaders[1:] or None)
    return weighing.bytes


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


IGNORED = ("LeafSpec", "does not have many workers", "configure_optimizers.*None", "have no `val_dataloader`")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]


def test_the_steps_run_over_epochs_and_one_validation_follows(tmp_path):
    module, dry = Counting(), DryRun(10, validation_batches=3)
    try_out(module, dry, per_epoch=7, held_out=(8, 2))
    assert module.calls == ["step"] * 10 + ["validation 0"] * 3 + ["validation 1"] * 2
    (stage,) = dry.stages
    assert (stage.first, stage.left, len(stage.seconds), len(stage.waiting)) == (0, 35, 10, 10)
    assert all(0 < waiting < seconds for waiting, seconds in zip(stage.waiting, stage.seconds, strict=True))
    assert dry.steps_per_epoch == 7
    assert (dry.validation.measured, dry.validation.total) == (5, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [14, 100])
def test_it_never_does_more_than_the_training_would(steps):
    module, dry = Counting(), DryRun(steps, validation_batches=9)
    try_out(module, dry, per_epoch=7, max_epochs=2)
    assert module.calls == ["step"] * 14
    assert dry.validation is None


def test_a_limit_of_the_trainings_own_stays():
    module, dry = Counting(), DryRun(1, validation_batches=9)
    try_out(module, dry, per_epoch=7, held_out=(8,), limit_val_batches=2)
    assert (dry.validation.measured, dry.validation.total) == (2, 2)


def test_every_level_of_a_picture_is_tried():
    module, dry = Counting(levels=[(0.5, 20), (1.0, 3), (2.0, 7)]), DryRun(15, validation_batches=1)
    try_out(module, dry, per_epoch=6)
    assert module.calls == [0, 1, 2, 3, 4, 20, 21, 22, 23, 24, 25, 26, 27]
    assert [(stage.left, len(stage.seconds)) for stage in dry.stages] == [(20, 5), (3, 3), (7, 5)]


def test_a_checkpoint_weighs_what_its_file_would():
    module = Counting()
    weight = try_out(module, DryRun(1, validation_batches=1), per_epoch=1)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    assert len(file.getvalue()) < weight < len(file.getvalue()) + 20_000  # state of loops and random numbers
    io_plugin = WeighingCheckpointIO({})
    io_plugin.save_checkpoint(module.state_dict(), "nowhere")
    file = io.BytesIO()
    torch.save({**module.state_dict(), "lit_ghibli_config": {}}, file)
    assert io_plugin.bytes == len(file.getvalue())


@pytest.mark.parametrize(
    ("lengths", "done", "steps", "planned"),
    [
        ([100], 0, 50, [(0, 100, 50)]),
        ([100], 80, 50, [(80, 20, 20)]),
        ([100], 100, 50, []),
        ([10, 40], 0, 30, [(0, 10, 10), (10, 40, 15)]),
        ([10, 40], 25, 30, [(25, 25, 25)]),
        ([5, 5, 5], 0, 2, [(0, 5, 1), (5, 5, 1), (10, 5, 1)]),
    ],
)
def test_steps_are_shared_out_among_what_is_left(lengths, done, steps, planned):
    assert [(stage.first, stage.left, stage.steps) for stage in plan(lengths, done, steps)] == planned


def test_the_forecast_is_the_median_times_the_steps_left():
    seconds = [9.0, 9.0, *(float(number) for number in range(1, 12))]  # two to warm up, then 1 ... 11
    stage = Stage(first=30, left=70, steps=13, seconds=seconds, waiting=[9.0, 9.0, *[1.5] * 11])
    assert forecast([stage], warm_up=2) == pytest.approx(
        {
            "steps_measured": 11,
            "seconds_per_iteration": 6.0,
            "seconds_p10": 2.0,
            "seconds_p90": 10.0,
            "waiting_share": 16.5 / 66,
            "steps_left": 70,
            "eta_seconds": 420.0,
        }
    )


def test_levels_count_by_their_iterations_and_warm_up_takes_at_most_half_of_each():
    coarse = Stage(first=0, left=30, steps=4, seconds=[50.0, 50.0, 1.0, 1.0], waiting=[0.0] * 4)
    fine = Stage(first=30, left=10, steps=1, seconds=[8.0], waiting=[0.0])
    times = forecast([coarse, fine], warm_up=10)
    assert times["eta_seconds"] == pytest.approx(30 * 1.0 + 10 * 8.0)
    assert times["seconds_per_iteration"] == pytest.approx(110 / 40)
    assert (times["steps_measured"], times["steps_left"]) == (3, 40)
