"""Frames and the loss table of a run inside this process."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_ghibli.callbacks.frames import Frames
from lit_ghibli.callbacks.loss_table import LossTable
from lit_ghibli.data.iterations import IterationsDataModule
from lit_ghibli.errors import UserError
from lit_ghibli.methods.base import Method

IGNORED = ("LeafSpec", "does not have many workers", "GPU available")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]


class Brighten(Method):
    """Stands for a method of one picture: grey that becomes one level brighter each iteration, and larger once."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.pixels = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return self.report({"content": torch.tensor(1 / 8), "total": torch.tensor(1e6 / (self.iteration + 1))})

    def inputs(self):
        return {"content": [Path("folder/my photo.jpg")]}

    def picture(self):
        side = 4 if self.iteration < 3 else 12
        return torch.full((1, 3, side, 2 * side), self.iteration / 127.5 - 1)

    def configure_optimizers(self):
        return torch.optim.SGD([self.pixels], lr=0.1)


def run(folder, iterations=7, **frames):
    arguments = {"result": None, "every_n_iterations": 2, "animation": True, "frame_seconds": 0.2, "max_side": 12}
    callbacks = [Frames(folder / "frames", **{**arguments, **frames}), LossTable(3)]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=callbacks,
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        trainer.fit(Brighten(), IterationsDataModule([(1.0, iterations)], epochs=1, seed=0))
    return printed.getvalue().splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(folder)


def test_frames_show_the_picture_of_their_iteration(made):
    frames = sorted((made[0] / "frames").iterdir())
    assert [path.name for path in frames] == [f"{iteration:06}.png" for iteration in (0, 2, 4, 6)]
    for path in frames:
        with Image.open(path) as frame:
            assert (np.asarray(frame) == int(path.stem)).all()
            assert frame.size == ((8, 4) if int(path.stem) < 3 else (24, 12))


def test_the_result_has_the_contents_name_and_the_last_pixels(made):
    with Image.open(made[0] / "my photo.png") as result:
        assert (np.asarray(result) == 7).all()


def test_the_animation_shows_every_frame_in_one_size(made):
    with Image.open(made[0] / "my photo.gif") as animation:
        assert animation.n_frames == 4
        assert animation.size == (12, 6)
        shown = []
        for number in range(4):
            animation.seek(number)
            shown.append(int(np.asarray(animation.convert("RGB")).mean()))
            assert animation.info["duration"] == 200
    assert shown == [0, 2, 4, 6]


def test_with_pyav_the_animation_is_a_clip_too(made):
    av = pytest.importorskip("av", reason="of lit-ghibli[video]")
    with av.open(str(made[0] / "my photo.mp4")) as clip:
        frames = list(clip.decode(video=0))
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx([0, 0.2, 0.4, 0.6])
    for frame, shown in zip(frames, (0, 2, 4, 6), strict=True):
        assert frame.to_ndarray(format="rgb24").shape == (6, 12, 3)
        assert frame.to_ndarray(format="rgb24").mean() == pytest.approx(shown, abs=1.5)


def test_loggers_get_the_frames(made):
    events = EventAccumulator(str(made[0] / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("train/picture")] == [0, 2, 4, 6]


def test_the_table_has_lines_as_the_document_and_the_last(made):
    rows = [line.split() for line in made[1] if not line.startswith("picture")]
    assert rows == [
        ["iteration", "content", "total"],
        ["0", "0.125", "1e+06"],
        ["3", "0.125", "250000"],
        ["6", "0.125", "142857"],
    ]


def test_without_frames_only_the_result_is_written(tmp_path):
    run(tmp_path, every_n_iterations=0, animation=False, result=tmp_path / "new" / "x.png")
    assert (tmp_path / "new" / "x.png").is_file()
    assert not (tmp_path / "frames").exists()


def test_frames_after_the_resumed_iteration_are_dropped(tmp_path):
    for iteration in (2, 4, 6):
        (tmp_path / f"{iteration:06}.png").touch()
    frames = Frames(tmp_path, None, every_n_iterations=2, animation=False, frame_seconds=0.1, max_side=8)
    frames.on_train_start(SimpleNamespace(loggers=[]), SimpleNamespace(iteration=4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002.png", "000004.png"]


def test_impossible_settings_are_refused(tmp_path):
    with pytest.raises(UserError, match="at least 0; got -1"):
        Frames(tmp_path, None, -1, animation=False, frame_seconds=0.1, max_side=8)
    with pytest.raises(UserError, match="an animation needs frames"):
        Frames(tmp_path, None, 0, animation=True, frame_seconds=0.1, max_side=8)
    with pytest.raises(UserError, match="at least 1; got 0"):
        LossTable(0)
