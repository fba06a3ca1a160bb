"""The motion between frames, and the warping error of their pictures, against scenes whose motion is known."""

import numpy as np
import pytest
import torch

pytest.importorskip("cv2", reason="of lit-ghibli[video]")

from lit_ghibli.errors import UserError
from lit_ghibli.images import from_picture
from lit_ghibli.metrics.flicker import Flicker, warping_error
from lit_ghibli.metrics.motion import motion_between
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.scenes.scene import render_pair

SCENE = render_pair(0, 3, 128)[0]


def window(left: int, top: int, width: int = 96, height: int = 72) -> np.ndarray:
    return SCENE[top : top + height, left : left + width]


def unit(*pictures: np.ndarray) -> torch.Tensor:
    return (torch.cat([from_picture(picture) for picture in pictures]) + 1) / 2


@pytest.mark.parametrize("moved", [(0, 0), (3, 0), (-2, 4)])
def test_a_camera_that_moves_moves_all_pixels_by_so_much(moved):
    motion = motion_between(window(10, 10), window(10 + moved[0], 10 + moved[1]))
    inner = motion.flow[12:-12, 12:-12]
    assert np.median(inner, axis=(0, 1)) == pytest.approx(moved, abs=0.15)
    assert motion.seen[12:-12, 12:-12].mean() > 0.97
    if moved[0] > 0:  # what has come into the frame at the right was not to be seen
        assert motion.seen[12:-12, -moved[0] + 1 :].mean() < 0.2


def test_what_an_object_uncovers_was_not_to_be_seen():
    frames = []
    for left in (30, 42):
        frame = window(10, 10).copy()
        frame[20:52, left : left + 24] = window(4, 4)[20:52, 60:84] // 3
        frames.append(frame)
    seen = motion_between(*frames).seen
    assert seen[24:48, 31:41].mean() < 0.5
    assert seen[:14].mean() > 0.85


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (1000, 700)])
def test_frames_of_any_size_have_a_motion(size):
    frame = np.asarray(np.resize(SCENE, (*size, 3)))
    motion = motion_between(frame, frame)
    assert motion.flow.shape == (*size, 2)
    assert motion.seen.mean() > 0.9
    assert np.abs(motion.flow).mean() < 0.1


def test_the_warping_error_of_a_still_scene_is_the_mean_squared_difference_of_pictures():
    first, second = (np.random.default_rng(seed).integers(0, 255, (24, 32, 3)).astype(np.uint8) for seed in (0, 1))
    frame = np.ascontiguousarray(window(0, 0, 32, 24))
    expected = np.square((first.astype(np.float64) - second) / 255).mean()
    assert warping_error(first, second, motion_between(frame, frame)) == pytest.approx(expected, rel=1e-4)


def test_pictures_that_move_with_the_camera_flicker_less_than_those_that_change_color():
    frames = [window(10 + 2 * number, 10) for number in range(4)]
    steady = [255 - frame for frame in frames]
    uneasy = [(frame * share).astype(np.uint8) for frame, share in zip(steady, (1.0, 0.9, 1.0, 0.9), strict=True)]
    values = {}
    for name, pictures in (("steady", steady), ("uneasy", uneasy)):
        suite = MetricSuite(("flicker",))
        for picture, frame in zip(pictures, frames, strict=True):
            suite.update_photo(from_picture(picture), from_picture(frame))
        values[name] = suite.compute()["flicker"]
        assert suite.intervals().keys() == {"flicker"}
    change = np.square(0.1 * steady[0] / 255.0).mean()
    assert values["uneasy"] > 0.7 * change > 3 * values["steady"]


def test_pairs_are_those_of_successive_frames_however_they_are_given():
    frames = [window(10 + number, 10) for number in range(5)]
    pictures = [np.roll(frame, number, axis=2) for number, frame in enumerate(frames)]
    one, several = Flicker(), Flicker()
    for picture, frame in zip(pictures, frames, strict=True):
        one.update(unit(picture), unit(frame))
    several.update(unit(*pictures[:3]), unit(*frames[:3]))
    several.update(unit(*pictures[3:]), unit(*frames[3:]))
    assert one.compute().tolist() == several.compute().tolist()
    assert one.compute().shape == (2, 4)
    one.reset()
    one.update(unit(pictures[0]), unit(frames[0]))
    assert one.compute().shape == (2, 0)


def test_one_frame_has_no_flicker_and_frames_have_one_size():
    suite = MetricSuite(("l1", "flicker"))
    suite.update_photo(from_picture(window(0, 0)), from_picture(window(0, 0)))
    assert suite.compute() == {}
    with pytest.raises(UserError, match="all of one size: 96x70 follows 96x72"):
        suite.update_photo(from_picture(window(0, 0, 96, 70)), from_picture(window(0, 0, 96, 70)))
