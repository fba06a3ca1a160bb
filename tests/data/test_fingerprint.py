"""What a training's pictures are told apart by."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from lit_ghibli.data import image_files as module
from lit_ghibli.data.fingerprint import fingerprint, fingerprint_files
from lit_ghibli.data.pair_sources import PseudoPairFolders, PseudoPairScenes, SideBySideSource
from lit_ghibli.data.sources import FolderSource, SceneSource
from lit_ghibli.scenes.scene import render_pair

READ = {
    "load_size": 32,
    "eval_size": 32,
    "resize": "squash",
    "min_side": 16,
    "on_bad_file": "error",
    "cache": "disk",
}
UNPAIRED = {"train_photo": "trainA", "train_anime": "trainB", "test_photo": "testA", "test_anime": "testB"}
SCENES = {"scene_seed": 0, "count": 3, "test_count": 2, "size": 32, "cache": "ram", "cache_dir": None, "paired": False}


@pytest.fixture
def root(tmp_path):
    """Three folders of files that need not be pictures, since only their bytes count."""
    contents = {"trainA/b.jpg": b"1", "trainA/sub/a.png": b"22", "trainB/c.webp": b"333", "testA/d.jpg": b"4"}
    for name, content in contents.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "data"


def source_of(root: Path) -> FolderSource:
    return FolderSource(root=root, cache_dir=root.parent / "cache", **READ, **UNPAIRED)


def rewrite(path: Path, content: bytes) -> None:
    """Write until the file system's clock has gone on, and set the time of the content back."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_of_folders_names_and_contents_count(root):
    lines = [(b"1", "b.jpg"), (b"22", "sub/a.png")]
    listing = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for content, name in lines)
    found = fingerprint(source_of(root))
    assert list(found) == ["train_photo", "train_anime", "test_photo"], "there is no testB"
    assert found["train_photo"] == {"images": 2, "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    assert found["train_anime"]["images"] == found["test_photo"]["images"] == 1


def test_the_same_files_elsewhere_are_the_same(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy" / "trainA" / "notes.txt").write_text("no picture")
    assert fingerprint(source_of(tmp_path / "copy")) == fingerprint(source_of(root))


def change_content(root: Path) -> None:
    rewrite(root / "trainA" / "b.jpg", b"9")


def rename(root: Path) -> None:
    (root / "trainA" / "b.jpg").rename(root / "trainA" / "z.jpg")


def add(root: Path) -> None:
    (root / "trainA" / "new.jpg").write_bytes(b"1")


def remove(root: Path) -> None:
    (root / "trainA" / "b.jpg").unlink()


@pytest.mark.parametrize("change", [change_content, rename, add, remove])
def test_every_change_of_a_folder_is_seen(root, change):
    before = fingerprint(source_of(root))
    change(root)
    after = fingerprint(source_of(root))
    assert after["train_photo"]["sha256"] != before["train_photo"]["sha256"]
    assert after["train_anime"] == before["train_anime"]


def test_only_changed_files_are_read_again(root, monkeypatch):
    read = []
    real = module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda path: read.append(path.name) or real(path))
    before = fingerprint(source_of(root))
    assert sorted(read) == ["a.png", "b.jpg", "c.webp", "d.jpg"]
    assert fingerprint(source_of(root)) == before
    assert len(read) == 4
    change_content(root)
    fingerprint(source_of(root))
    assert read[4:] == ["b.jpg"]
    assert not list((root.parent / "cache").glob("**/.*.partial"))


def test_a_bad_cache_costs_time_only(root):
    expected = fingerprint(source_of(root))
    for file in (root.parent / "cache" / "checksums").iterdir():
        file.write_bytes(b'{"b.jpg": ')
    assert fingerprint(source_of(root)) == expected
    shutil.rmtree(root.parent / "cache")
    (root.parent / "cache").write_text("a file where a folder should be")
    assert fingerprint(source_of(root)) == expected


def test_a_file_that_cannot_be_read_does_not_stop_a_run(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    expected = fingerprint(source_of(root))
    rewrite(root / "trainA" / "b.jpg", b"1")
    monkeypatch.setattr(module, "sha256_of", refuse)
    assert fingerprint(source_of(root))["train_photo"]["sha256"] != expected["train_photo"]["sha256"]


def test_all_folders_of_every_layout_count(root):
    halves = SideBySideSource(
        root=root, cache_dir=None, train="trainA", test="testA", direction="AtoB", max_half_aspect=1.5, **READ
    )
    assert set(fingerprint(halves)) == {"train", "test"}
    pairs = PseudoPairFolders(root=root, cache_dir=None, pair_input="trainB", pair_target="testA", **UNPAIRED, **READ)
    assert set(fingerprint(pairs)) == {"train_photo", "train_anime", "test_photo", "pair_input", "pair_target"}


def test_scenes_are_known_by_what_decides_them():
    found = fingerprint(SceneSource(**SCENES))["scenes"]
    pixels = b"".join(picture.tobytes() for picture in render_pair(0, 0, 32))
    assert found.pop("renderer") == hashlib.sha256(pixels).hexdigest()
    assert found == {name: value for name, value in SCENES.items() if not name.startswith("cache")}
    assert fingerprint(PseudoPairScenes(pairs=5, **SCENES))["scenes"]["pairs"] == 5


def test_other_sources_have_no_fingerprint():
    assert fingerprint(object()) == {}


def test_single_files_count_in_their_order(root):
    one, other = root / "trainA" / "b.jpg", root / "trainB" / "c.webp"
    assert fingerprint_files([one, other])["images"] == 2
    assert fingerprint_files([one, other]) != fingerprint_files([other, one])
    copy = shutil.copy(one, root / "testA")
    assert fingerprint_files([Path(copy)]) == fingerprint_files([one])
