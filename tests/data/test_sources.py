import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.sources import FIRST_HELD_OUT, FolderSource, SceneSource
from lit_ghibli.scenes.scene import render_pair

RNG = np.random.default_rng(0)


def picture(path: Path, width: int = 40, height: int = 36) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def source(root: Path, **changes) -> FolderSource:
    fields = {
        "root": root,
        "train_photo": "trainA",
        "train_anime": "trainB",
        "test_photo": "testA",
        "test_anime": "testB",
        "load_size": 32,
        "eval_size": 24,
        "resize": "squash",
        "min_side": 20,
        "on_bad_file": "error",
        "cache": "ram",
        "cache_dir": None,
    }
    return FolderSource(**fields | changes)


@pytest.fixture
def root(tmp_path) -> Path:
    """Folders with spaces and umlauts in their names; a subfolder; another extension for a partner."""
    root = tmp_path / "Bilder für Ghibli"
    for name in ("a.png", "ü b.png", "sub folder/c.png"):
        picture(root / "trainA" / name)
    for name in ("x.png", "y.jpg"):
        picture(root / "trainB" / name)
    for name in ("1.png", "10.png", "nested/2.png"):
        picture(root / "testA" / name)
    for name in ("nested/2.bmp", "1.jpg", "10.png", "extra.png"):
        picture(root / "testB" / name)
    return root


def failure(source: FolderSource) -> str:
    with pytest.raises(FolderError) as caught:
        source.load()
    return str(caught.value)


def test_four_folders_are_read_at_their_sizes(root):
    splits = source(root).load()
    assert splits.train_input.names == ["a.png", "sub folder/c.png", "ü b.png"]
    assert splits.train_target.names == ["x.png", "y.jpg"]
    assert {tuple(image.shape) for image in (*splits.train_input, *splits.train_target)} == {(3, 32, 32)}
    assert {tuple(image.shape) for image in (*splits.test_input, *splits.test_target)} == {(3, 24, 24)}


def test_short_side_keeps_the_aspect(root):
    splits = source(root, resize="short_side").load()
    assert {tuple(image.shape) for image in splits.train_input} == {(3, 32, round(40 * 32 / 36))}


def test_partners_are_recognised_by_name_whatever_the_extension(root):
    splits = source(root).load()
    pairs = [
        (name, splits.test_target.names[number])
        for name, number in zip(splits.test_input.names, splits.partners(), strict=True)
    ]
    assert pairs == [("1.png", "1.jpg"), ("10.png", "10.png"), ("nested/2.png", "nested/2.bmp")]


def test_one_photograph_without_a_partner_means_no_pairs(root):
    (root / "testB" / "10.png").unlink()
    assert source(root).load().partners() is None


def test_scenes_are_pairs_and_training_shows_none_of_them():
    splits = SceneSource(scene_seed=5, count=3, test_count=2, size=32, cache="ram", cache_dir=None, paired=False).load()
    shown = {
        "train_input": [render_pair(5, index, 32)[0] for index in (0, 1, 2)],
        "train_target": [render_pair(5, index, 32)[1] for index in (3, 4, 5)],
        "test_input": [render_pair(5, index, 32)[0] for index in (FIRST_HELD_OUT, FIRST_HELD_OUT + 1)],
        "test_target": [render_pair(5, index, 32)[1] for index in (FIRST_HELD_OUT, FIRST_HELD_OUT + 1)],
    }
    for name, expected in shown.items():
        images = getattr(splits, name)
        assert len(images) == len(expected)
        for image, pixels in zip(images, expected, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    assert splits.partners() == [0, 1]


def test_home_is_found(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(source(f"~/{root.name}").load().train_input) == 3


def test_a_missing_root_or_folder_is_named(root, tmp_path):
    assert str(tmp_path / "nowhere" / "trainA") in failure(source(tmp_path / "nowhere"))
    told = failure(source(root, train_anime="trainC"))
    assert f"{root / 'trainC'} does not exist: data.train_anime=trainC, but data.root={root} has " in told
    assert "trainA, trainB" in told
    both = failure(source(root, train_photo="trainD", train_anime="trainC"))
    assert f"{root / 'trainD'} does not exist" in both
    assert f"{root / 'trainC'} does not exist" in both
    (root / "empty").mkdir()
    assert "holds no images" in failure(source(root, train_anime="empty"))


def test_bad_files_of_all_folders_are_reported_at_once(root):
    bad = [root / "trainA" / "broken.png", root / "trainB" / "sub" / "empty.jpg", root / "testB" / "text.png"]
    bad[1].parent.mkdir()
    for path, content in zip(bad, (b"\x89PNG\r\n\x1a\n", b"", b"hello"), strict=True):
        path.write_bytes(content)
    bad.append(picture(root / "testA" / "small.png", width=19))
    message = failure(source(root))
    assert all(str(path) in message for path in bad)
    assert "19x36, smaller than 20 pixels" in message
    assert "data.on_bad_file=skip" in message


def test_bad_files_are_skipped_on_request(root, caplog):
    (root / "trainA" / "broken.png").write_bytes(b"no picture")
    picture(root / "testA" / "small.png", height=5)
    with caplog.at_level(logging.WARNING):
        splits = source(root, on_bad_file="skip").load()
    assert splits.train_input.names == ["a.png", "sub folder/c.png", "ü b.png"]
    assert splits.test_input.names == ["1.png", "10.png", "nested/2.png"]
    assert "broken.png" in caplog.text
    assert "small.png" in caplog.text


def test_a_folder_of_bad_files_only_is_an_error_even_when_skipping(root):
    for path in (root / "trainB").iterdir():
        path.write_bytes(b"")
    assert "too few images: 0 of 2" in failure(source(root, on_bad_file="skip"))


@pytest.mark.parametrize(("train", "test"), [("trainA/a.png", "testA/z.png"), ("trainB/y.jpg", "testB/z.jpg")])
def test_a_picture_in_training_and_test_is_refused(root, train, test):
    (root / test).write_bytes((root / train).read_bytes())
    message = failure(source(root))
    assert str(root / train) in message
    assert str(root / test) in message


def test_held_out_pictures_of_both_domains_that_were_trained_on_come_in_one_message(root):
    for train, test in (("trainA/a.png", "testA/z.png"), ("trainB/y.jpg", "testB/z.jpg")):
        (root / test).write_bytes((root / train).read_bytes())
    message = failure(source(root))
    assert str(root / "testA/z.png") in message
    assert str(root / "testB/z.jpg") in message


def test_without_held_out_folders_training_pictures_are_shown_and_this_is_said(root, caplog):
    for number in range(12):
        picture(root / "trainA" / f"{number:02}.png")
    with caplog.at_level(logging.WARNING):
        splits = source(root, test_photo="none", test_anime="none either").load()
    assert splits.test_input.names == [f"{number:02}.png" for number in range(8)]
    assert splits.test_target.names == ["x.png", "y.jpg"]
    assert splits.partners() is None, "equal names of unpaired training pictures mean nothing"
    assert "no folder none in" in caplog.text
    assert "training images" in caplog.text


def test_held_out_pictures_need_no_training_folders(root):
    shutil.rmtree(root / "trainA")
    shutil.rmtree(root / "trainB")
    splits = source(root).load(training=False)
    assert (splits.train_input, splits.train_target) == (None, None)
    assert (len(splits.test_input), len(splits.test_target)) == (3, 4)
    assert "trainA" in failure(source(root))


def test_the_disk_cache_gives_the_same_pictures(root, tmp_path):
    ram = source(root).load()
    for _ in range(2):
        disk = source(root, cache="disk", cache_dir=tmp_path / "cache").load()
        for name in ("train_input", "train_target", "test_input", "test_target"):
            assert all((a == b).all() for a, b in zip(getattr(ram, name), getattr(disk, name), strict=True))
    assert len(list((tmp_path / "cache").glob("*.pack"))) == 4
