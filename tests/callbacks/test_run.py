"""A small real run inside this process, and what its callbacks leave behind."""

import contextlib
import csv
import io
import math
import re
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_ghibli import checkpoints
from lit_ghibli.callbacks.checkpointing import RunCheckpoints
from lit_ghibli.callbacks.csv_log import ContinuedCSVLogger
from lit_ghibli.callbacks.image_grid import ImageGrid
from lit_ghibli.callbacks.progress import RunProgress
from lit_ghibli.data.unpaired import UnpairedDataModule
from lit_ghibli.errors import UserError
from lit_ghibli.methods.cyclegan import CycleGAN
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator

EPOCHS, STEPS = 3, 4
CONFIG = {"method": {"_target_": "lit_ghibli.methods.cyclegan.CycleGAN"}, "seed": 0}
IGNORED = ("LeafSpec", "does not have many workers", "in eval mode at the start of training")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]  # Lightning's, of itself and advice


class Record(Callback):
    """Remembers which files exist after every epoch, and that frozen modules stay in eval mode."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.modes = folder, [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.files.append(sorted(path.name for path in self.folder.glob("*")))
        self.modes.append((pl_module.generator_ab.training, pl_module.generator_ab.encoder.training))


class FakeTrainer:
    """What saving at the end of an epoch asks of a trainer."""

    is_global_zero, world_size = True, 1

    def __init__(self, epoch: int, metrics: dict[str, torch.Tensor]) -> None:
        self.current_epoch, self.callback_metrics = epoch, metrics

    def save_checkpoint(self, path: Path) -> None:
        path.write_bytes(b"")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    method = CycleGAN(
        generator=partial(ResnetGenerator, base_channels=4, num_blocks=1),
        discriminator=partial(PatchDiscriminator, base_channels=4, num_layers=2),
        epochs=EPOCHS,
    )
    method.generator_ab.encoder.eval()  # stands for a frozen part
    data = UnpairedDataModule.from_scenes(
        scene_seed=0,
        count=STEPS,
        test_count=5,
        size=32,
        crop_size=28,
        flip=0.5,
        batch_size=1,
        num_workers=0,
        cache="ram",
        cache_dir=None,
        seed=0,
    )
    record = Record(folder / "checkpoints")
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
        plugins=[checkpoints.RunCheckpointIO(CONFIG)],
        logger=[
            ContinuedCSVLogger(str(folder)),
            TensorBoardLogger(folder, name="", version="tensorboard"),
            WandbLogger(save_dir=folder, project="test", offline=True),
        ],
        callbacks=[
            RunProgress(estimate_after=8),
            ImageGrid(folder / "pictures", every_n_epochs=1, num_images=2, max_side=20),
            RunCheckpoints(folder / "checkpoints", every_n_batches=3, keep_epochs=2),
            record,
        ],
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        trainer.fit(method, data)
    trainer.loggers[2].experiment.finish()
    return folder, record, printed.getvalue().splitlines(), method


def test_checkpoints_of_the_newest_epochs_are_kept(run):
    folder, record, _, _ = run
    assert record.files == [
        [],
        ["epoch_0001.ckpt", "last.ckpt"],
        ["epoch_0001.ckpt", "epoch_0002.ckpt", "last.ckpt"],
    ]
    kept = folder / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == ["epoch_0002.ckpt", "epoch_0003.ckpt", "last.ckpt"]
    assert (kept / "last.ckpt").samefile(kept / "epoch_0003.ckpt")


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", [5.0, 3.0, math.nan, 4.0, 3.0, 2.5], [True, True, False, False, False, True]),
        ("max", [5.0, 3.0, math.inf, 6.0], [True, False, False, True]),
        ("min", [5.0, None, 4.0], [True, False, True]),
    ],
)
def test_the_best_epoch_is_the_one_with_the_best_metric(tmp_path, mode, values, best):
    """Of epochs without validation (None) nothing is known; a resumed run goes on with the best value."""
    found = []
    state = {"best": None}
    for epoch, value in enumerate(values):
        callback = RunCheckpoints(tmp_path, every_n_batches=1, keep_epochs=1, monitor="val/x", mode=mode)
        callback.load_state_dict(state)
        stale = next(known for known in reversed(values[: epoch + 1]) if known is not None)
        trainer = FakeTrainer(epoch, {"val/x": torch.tensor(stale)})
        if value is not None:
            callback.on_validation_end(trainer, None)
        callback.on_train_epoch_end(trainer, None)
        path = tmp_path / "best.ckpt"
        found.append(path.is_file() and path.samefile(tmp_path / f"epoch_{epoch + 1:04}.ckpt"))
        state = callback.state_dict()
    assert found == best


@pytest.mark.parametrize(("file", "best"), [("epoch_0001", 5.0), ("epoch_0002", None)])
def test_a_best_checkpoint_that_is_gone_is_that_of_its_epoch_or_found_anew(tmp_path, monkeypatch, file, best):
    """After a step back the folder may lack it; no worse epoch takes its place while its own is there."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / f"{file}.ckpt").touch()
    callback = RunCheckpoints(tmp_path, every_n_batches=1, keep_epochs=-1, monitor="val/x")
    callback.load_state_dict({"best": 5.0, "best_epoch": 1})
    callback.on_train_start(FakeTrainer(2, {}), None)
    assert callback.best == best
    assert (tmp_path / "best.ckpt").exists() == (best is not None)
    callback.load_state_dict({"best": 5.0})  # as the first version wrote it
    assert (callback.best, callback.best_epoch) == (5.0, None)


@pytest.mark.parametrize(("keep", "kept"), [(-1, [1, 2, 3, 4]), (0, []), (1, [4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4])])
def test_as_many_of_the_newest_epochs_are_kept_as_asked_for(tmp_path, keep, kept):
    callback = RunCheckpoints(tmp_path, every_n_batches=1, keep_epochs=keep)
    for epoch in range(4):
        callback.on_train_epoch_end(FakeTrainer(epoch, {}), None)
    assert sorted(path.name for path in tmp_path.glob("epoch_*.ckpt")) == [f"epoch_{number:04}.ckpt" for number in kept]
    assert (tmp_path / "last.ckpt").exists()


def test_a_metric_that_is_not_logged_is_said_once_and_stops_nothing(tmp_path, caplog):
    callback = RunCheckpoints(tmp_path, every_n_batches=1, keep_epochs=1, monitor="val/fid")
    for epoch in range(2):
        callback.on_validation_end(None, None)
        callback.on_train_epoch_end(FakeTrainer(epoch, {"val/ssim": torch.tensor(1.0)}), None)
    assert caplog.text.count("monitor=val/fid is not logged, only ['val/ssim']") == 1
    assert not (tmp_path / "best.ckpt").exists()
    with pytest.raises(UserError, match="mode must be min or max; got 'least'"):
        RunCheckpoints(tmp_path, every_n_batches=1, keep_epochs=1, monitor="val/x", mode="least")


def test_checkpoints_hold_the_weights_of_their_epoch(run):
    folder, _, _, method = run
    for number in (2, 3):
        loaded = checkpoints.load(folder / "checkpoints" / f"epoch_{number:04}.ckpt")
        progress = loaded["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        assert progress["total"]["completed"] == number * STEPS
        assert loaded[checkpoints.CONFIG_KEY] == CONFIG
    assert all(torch.equal(loaded["state_dict"][name], value) for name, value in method.state_dict().items())


def test_a_grid_is_drawn_after_every_epoch(run):
    grids = sorted((run[0] / "pictures").iterdir())
    assert [path.name for path in grids] == [f"epoch_{number:04}.png" for number in (1, 2, 3)]
    with Image.open(grids[0]) as grid:
        # Two rows of 20 pixels; three columns, as wide as their titles at least; margins of 6, a title of 22.
        assert grid.height == 22 + 2 * 20 + 3 * 6
        assert grid.width >= 3 * 20 + 4 * 6
        assert grid.mode == "RGB"


def test_drawing_leaves_every_module_in_its_mode(run):
    assert run[1].modes == [(True, False)] * EPOCHS


def test_loggers_get_the_grids_under_the_steps_of_the_metrics(run):
    folder, _, _, _ = run
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()
    steps = [STEPS * epoch - 1 for epoch in range(1, EPOCHS + 1)]
    assert [event.step for event in events.Images("val/grid")] == steps
    assert [event.step for event in events.Scalars("train/data_wait_share")] == steps
    with Image.open(folder / "pictures" / "epoch_0003.png") as grid:
        pixels = np.asarray(grid)
    encoded = events.Images("val/grid")[-1].encoded_image_string
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))), pixels)

    (wandb,) = (folder / "wandb").glob("offline-run-*")
    assert (wandb / "files" / "media" / "images" / "val").is_dir()
    sent = sorted((wandb / "files" / "media" / "images" / "val").glob("grid_*.png"))
    assert len(sent) == EPOCHS
    assert any(np.array_equal(np.asarray(Image.open(path)), pixels) for path in sent)
    assert list(wandb.glob("*.wandb"))


def test_the_csv_log_has_a_row_for_every_step(run):
    with open(run[0] / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    logged = [int(row["step"]) for row in rows if row["train/cycle"]]
    assert logged == list(range(EPOCHS * STEPS))


def test_progress_says_what_runs_where(run):
    printed, method = run[2], run[3]
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in method.named_children()}
    assert printed[0].startswith("CycleGAN on cpu, precision 32-true | ")
    for name, count in counts.items():
        assert f"{name} {count:,}" in printed[0]
    assert "4 photos, 4 anime pictures" in printed[0]
    assert "12 iterations in 3 epochs" in printed[0]
    assert "done" not in printed[0]


def test_progress_estimates_once_and_reports_every_epoch(run):
    printed = run[2]
    assert [bool(re.match(r"\d+\.\d{3} s per iteration, so about \d:\d\d:\d\d to go", line)) for line in printed].count(
        True
    ) == 1
    epochs = [line for line in printed if line.startswith("epoch ")]
    assert [line.split(" in ")[0] for line in epochs] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    for line in epochs:
        assert re.search(r"s/it, \d+\.\d% of it waiting for data, \d:\d\d:\d\d to go \| ", line)
        assert " cycle=" in line
    assert "0:00:00 to go" in epochs[-1]


def test_what_is_left_ends_at_the_time_limit_or_where_iterations_change_their_cost():
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=9))
    limit, passed = Timer("00:00:02:00"), Timer("00:00:02:00")
    passed.time_remaining = lambda: -15.0  # while the last epoch is validated
    for timers, levels, left in (  # 10 of 1000 iterations are done
        ([], [], "0:16:30"),
        ([limit], [], "0:02:00"),
        ([passed], [], "0:00:00"),
        ([], [("a", 70), ("b", 930)], "0:01:00 and 930 iterations of another cost"),
        ([], [("a", 10), ("b", 990)], "0:16:30"),
    ):
        method = SimpleNamespace(levels=levels)
        trainer = SimpleNamespace(
            num_training_batches=50, max_epochs=20, fit_loop=loop, callbacks=timers, lightning_module=method
        )
        assert RunProgress(estimate_after=8)._remaining(trainer, seconds=1.0) == left


@pytest.mark.parametrize(("every", "keep"), [(0, 1), (1, -2)])
def test_impossible_checkpoint_settings_are_refused(tmp_path, every, keep):
    with pytest.raises(UserError, match="must be"):
        RunCheckpoints(tmp_path, every, keep)
