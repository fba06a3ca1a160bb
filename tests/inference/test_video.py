"""Clips that are painted in several calls."""

import contextlib
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("av", reason="of lit-ghibli[video]")

import av
from helpers.clips import still_scene, write_clip

from lit_ghibli import locks
from lit_ghibli.errors import UserError
from lit_ghibli.inference.clips import inspect_clip, read_frames, times_of
from lit_ghibli.inference.translator import Translator
from lit_ghibli.inference.video import frames_done, paint_clip, work_folder

SETTINGS = {"style": "mine", "smooth": 0.8}


class Shaded(nn.Module):
    """Brings every picture to one brightness; stops in the middle of the frames, should it be asked to."""

    size_multiple = minimum_size = 1

    def __init__(self, stop_after: int | None = None, shade: float = 0.0) -> None:
        super().__init__()
        self.left, self.shade = stop_after, shade

    def forward(self, photo):
        if self.left is not None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        return torch.tanh(photo - photo.mean() + self.shade)


def paint(folder: Path, network: nn.Module, smooth: float = 0.8, settings=SETTINGS, overwrite=False) -> list[int]:
    """Paint ``clip.mkv`` of a folder into ``out.mp4``; how many frames were done before, and were shown now."""
    clip, path = inspect_clip(folder / "clip.mkv"), folder / "out.mp4"
    told = []
    with work_folder(path, settings, overwrite=overwrite) as work:
        done = frames_done(work)
        paint_clip(clip, path, work, Translator(network), smooth, 100, lambda frames: map_told(frames, told))
    return [done, len(told)]


def map_told(frames, told):
    for frame in frames:
        told.append(frame[0])
        yield frame


def frames_of(path: Path) -> np.ndarray:
    return np.array([frame for _, frame in read_frames(inspect_clip(path))]).astype(int)


@pytest.fixture
def clip(tmp_path) -> Path:
    times = [0, 40, 90, 130, 170, 300, 340, 380, 420, 460]
    return write_clip(tmp_path / "clip.mkv", still_scene(10, 32, 24), times, Fraction(1, 1000))


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "out.mp4.parts").glob("*.nut"))


@pytest.mark.parametrize("torn", [False, True])
def test_a_painting_goes_on_where_it_was_stopped(tmp_path, clip, torn):
    assert paint(tmp_path, Shaded()) == [0, 10]
    expected = frames_of(tmp_path / "out.mp4")
    times = [Fraction(time, 1000) for time, _ in read_frames(inspect_clip(clip))]
    (tmp_path / "out.mp4").unlink()
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path, Shaded(stop_after=7))  # one of them before all others, to tell the network by
    assert times_of(parts(tmp_path)[0]) == times[:5]
    if torn:  # as by a kill while a sixth frame was written: its head, and nothing of what ends a file
        (part,) = parts(tmp_path)
        whole = part.read_bytes()
        with av.open(str(part)) as file:
            last = [packet for packet in file.demux() if packet.size][-1]
            end = whole.index(bytes(last)) + last.size
        part.write_bytes(whole[:end] + whole[last.pos : last.pos + 60])
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path, Shaded(stop_after=1))  # before any other frame
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path, Shaded(stop_after=3))
    assert paint(tmp_path, Shaded()) == [7, 3]
    painted = inspect_clip(tmp_path / "out.mp4")
    assert [time * painted.time_base for time, _ in read_frames(painted)] == times
    assert np.abs(frames_of(tmp_path / "out.mp4") - expected).mean() < 2  # levels, of the encoder
    assert not parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "out.mp4"]


def test_calls_with_other_settings_or_weights_do_not_mix(tmp_path, clip):
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path, Shaded(stop_after=5))
    other = {**SETTINGS, "smooth": 0.5}
    with pytest.raises(
        UserError, match=r"stopped, with smooth=0.8; now it is smooth=0.5: repeat that call .* overwrite"
    ):
        paint(tmp_path, Shaded(), settings=other)
    with pytest.raises(UserError, match="stopped, with other weights: repeat that call"):
        paint(tmp_path, Shaded(shade=0.5))
    assert len(parts(tmp_path)) == 1
    assert paint(tmp_path, Shaded(), settings=other, overwrite=True) == [0, 10]


def test_two_programs_do_not_paint_one_clip(tmp_path, clip):
    with (
        work_folder(tmp_path / "out.mp4", SETTINGS, overwrite=False),
        pytest.raises(UserError, match=rf"out.mp4: process {os.getpid()} on .* paints it: wait for it"),
    ):
        paint(tmp_path, Shaded())
    lock = tmp_path / ".out.mp4.lock"
    lock.write_text(json.dumps({**locks.this_process(), "began": "long ago"}))  # killed
    assert paint(tmp_path, Shaded()) == [0, 10]
    assert not lock.exists()


def test_without_a_painted_frame_nothing_is_left(tmp_path, clip):
    with contextlib.suppress(KeyboardInterrupt):
        paint(tmp_path, Shaded(stop_after=0))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]
