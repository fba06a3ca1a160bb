"""Clips of still scenes stay still, and what smoothing may not do: trail, or mix scenes."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("cv2", reason="of lit-ghibli[video]")

from helpers.clips import still_scene

from lit_ghibli.inference.smoothing import smoothing
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.normalization import InstanceNorm
from lit_ghibli.scenes.scene import render_pair

SKY = 12  # rows of `still_scene` that the disc never touches, nor what the network sees around it


class Painted(nn.Module):
    """Instance normalisation between two layers: every color depends on the whole picture."""

    size_multiple = minimum_size = 1

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), InstanceNorm(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, padding=1), InstanceNorm(8), nn.ReLU(), nn.Conv2d(8, 3, 1)),
        )

    def forward(self, photo):
        return torch.tanh(4 * self.layers(photo))


class Photograph(nn.Module):
    """The photograph itself."""

    size_multiple = minimum_size = 1

    def forward(self, photo):
        return photo


def painted(frames, smooth: float, network: nn.Module | None = None):
    with smoothing(Translator(network or Painted()), smooth) as smoother:
        return [smoother(frame).astype(np.float64) for frame in frames], smoother.errors


def jumps(pictures) -> float:
    """Mean absolute difference of the sky in successive pictures, in levels."""
    return np.mean([np.abs(second - first)[:SKY].mean() for first, second in itertools.pairwise(pictures)])


def test_an_untouched_sky_stays_while_something_moves_in():
    frames = still_scene(12)
    assert jumps([frame.astype(float) for frame in frames]) == 0
    assert jumps(painted(frames, 0.0)[0]) > 2
    pictures, errors = painted(frames, 0.8)
    assert jumps(pictures) <= 0.5
    source, alone, smoothed = np.mean(errors, axis=0)
    assert smoothed < alone / 2
    assert source < alone


def test_without_smoothing_every_frame_is_painted_by_itself():
    frames = still_scene(3)
    network = Painted()
    expected = [Translator(network)(frame) for frame in frames]
    assert np.abs(np.array(painted(frames, 0.0, network)[0]) - expected).max() <= 1


def test_what_has_moved_leaves_no_trace():
    frames = still_scene(8)
    pictures, _ = painted(frames, 0.8, Photograph())
    for picture, frame in zip(pictures, frames, strict=True):
        assert np.abs(picture - frame).mean() < 1.5  # levels; the disc's is 100
        assert np.percentile(np.abs(picture - frame), 98) < 25


def test_where_another_scene_begins_nothing_is_kept():
    network = Painted()
    other = render_pair(0, 5, 64)[0][:48, ::-1] // 2
    frames = [*still_scene(3), other]
    alone, pictures = Translator(network)(other), painted(frames, 0.9, network)[0]
    assert np.abs(pictures[-1] - alone).mean() < 1


def test_a_smoother_goes_on_from_what_was_saved():
    frames = still_scene(6)
    network = Painted()
    expected = painted(frames, 0.8, network)[0]
    with smoothing(Translator(network), 0.8) as smoother:
        for frame in frames[:3]:
            smoother(frame)
        state = smoother.state_dict()
    with smoothing(Translator(network), 0.8) as smoother:
        smoother.load_state_dict(state, frames[2])
        again = [smoother(frame) for frame in frames[3:]]
    assert np.abs(np.array(again) - expected[3:]).max() <= 1
