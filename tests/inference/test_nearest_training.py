import numpy as np
import torch
from PIL import Image

from lit_ghibli.data.near_duplicates import perceptual_hash
from lit_ghibli.data.sources import Splits
from lit_ghibli.inference.nearest_training import TrainingPictures, search, signature, training_pictures
from lit_ghibli.scenes.scene import render_pair


class Pack(list):
    """Pictures as a cache holds them."""

    def __init__(self, prefix, pictures):
        super().__init__(torch.from_numpy(np.asarray(each).copy()).permute(2, 0, 1) for each in pictures)
        self.names = [f"{prefix}{number}" for number in range(len(pictures))]


SCENES = [Image.fromarray(render_pair(0, number, 48)[0]) for number in range(12)]
TRAINING = TrainingPictures([Pack("a", SCENES[:5]), Pack("b", SCENES[5:])])


def by_hand(picture, others):
    """Index of the nearest, bits and levels, with loops and whole numbers."""
    found = []
    for index, other in enumerate(others):
        bits = bin(perceptual_hash(picture) ^ perceptual_hash(other)).count("1")
        both = (np.asarray(each.resize((16, 16), Image.Resampling.BOX)).astype(float) for each in (picture, other))
        found.append((bits, float(np.sqrt(np.mean((next(both) - next(both)) ** 2))), index))
    bits, levels, index = min(found)
    return index, bits, levels


def test_against_loops():
    for number in range(20, 30):
        picture = Image.fromarray(render_pair(0, number, 64)[0])
        index, bits, levels = by_hand(picture, SCENES)
        nearest = TRAINING.nearest(signature(picture))
        assert (nearest.index, nearest.bits) == (index, bits)
        np.testing.assert_allclose(nearest.levels, levels)


def test_copies_in_another_size_and_brightness_are_found_under_their_names():
    copies = {f"copy {number}": SCENES[number].resize((96, 96)).point(lambda level: 0.8 * level) for number in (2, 7)}
    found = search("ours", {name: signature(copy) for name, copy in copies.items()}, "a run", TRAINING)
    assert [(each.method, each.name, each.trained, each.training) for each in found] == [
        ("ours", "copy 2", "a run", "a2"),
        ("ours", "copy 7", "a run", "b2"),
    ]
    assert all(each.bits <= 6 for each in found)
    assert found[1].picture.tobytes() == SCENES[7].tobytes()


def test_of_equal_hashes_the_nearest_in_color_is_named():
    tinted = [Image.merge("RGB", [band.point(lambda level, add=add: level + add) for band in SCENES[0].split()])
              for add in (60, 2, 30)]  # fmt: skip
    training = TrainingPictures([Pack("x", tinted)])
    assert len({perceptual_hash(each) for each in tinted[1:]}) == 1
    assert training.name(training.nearest(signature(SCENES[0])).index) == "x1"


def test_pictures_of_pairs_are_trained_on_too():
    class Data:
        def setup(self, stage):
            packs = [Pack(prefix, SCENES[:2]) for prefix in "abcdef"]
            assert stage == "fit"
            self.splits = Splits(*packs[:4], False, *packs[4:])

    inputs, targets = training_pictures(Data())
    assert [inputs.name(index) for index in range(4)] == ["a0", "a1", "e0", "e1"]
    assert [targets.name(index) for index in range(4)] == ["b0", "b1", "f0", "f1"]
