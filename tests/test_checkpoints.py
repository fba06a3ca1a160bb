import errno
import os
import pickle
import resource
import stat
import zipfile
from pathlib import Path

import pytest
import torch

from lit_ghibli import checkpoints
from lit_ghibli.checkpoints import CONFIG_KEY, CheckpointError, RunCheckpointIO

GOOD = {"state_dict": {"weight": torch.arange(6.0).view(2, 3)}, CONFIG_KEY: {"method": {"_target_": "a", "lr": 1e-3}}}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(path: Path) -> str:
    messages = []
    for mmap in (False, True):
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load(path, mmap=mmap)
        assert str(path) in str(caught.value)
        messages.append(str(caught.value))
    return messages[0]


def saved(path: Path, content=GOOD) -> Path:
    checkpoints.save(content, path)
    return path


@pytest.mark.parametrize("mmap", [False, True])
def test_round_trip(tmp_path, mmap):
    path = saved(tmp_path / "new folder" / "ä b.ckpt")
    assert files(path.parent) == ["ä b.ckpt"]
    loaded = checkpoints.load(path, mmap=mmap)
    assert torch.equal(loaded["state_dict"]["weight"], GOOD["state_dict"]["weight"])
    assert loaded[CONFIG_KEY] == GOOD[CONFIG_KEY]


def test_a_disk_that_takes_no_more_is_named_and_leaves_the_old_file(tmp_path):
    path = saved(tmp_path / "last.ckpt")
    before, old = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, old[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*last\.ckpt'"):
            saved(path, {**GOOD, "state_dict": {"weight": torch.zeros(1000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_bytes() == before
    assert files(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = saved(tmp_path / "last.ckpt")
    before = path.read_bytes()

    def half(checkpoint, file):
        file.write(before[: len(before) // 2])
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(error)):
        checkpoints.save(GOOD, path)
    assert path.read_bytes() == before
    assert files(tmp_path) == ["last.ckpt"]


def test_the_new_file_is_complete_and_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    path = saved(tmp_path / "last.ckpt")
    synced, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))

    def check(source, target):
        assert synced == [os.stat(source).st_ino]
        assert checkpoints.load(source)["state_dict"] == {}
        replace(source, target)

    monkeypatch.setattr(os, "replace", check)
    saved(path, {**GOOD, "state_dict": {}})
    assert len(synced) == 1
    assert checkpoints.load(path)["state_dict"] == {}


def test_truncated_files_are_refused(tmp_path):
    content = saved(tmp_path / "good.ckpt").read_bytes()
    for length in range(0, len(content), len(content) // 7):
        path = tmp_path / "cut.ckpt"
        path.write_bytes(content[:length])
        assert f"({length:,} bytes read)" in refusal(path)


def test_files_of_other_kinds_are_refused(tmp_path):
    assert "no such checkpoint file" in refusal(tmp_path / "missing.ckpt")
    assert "no such checkpoint file" in refusal(tmp_path)

    text = tmp_path / "notes.txt"
    text.write_text("weights")
    assert "not a checkpoint" in refusal(text)

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "damaged" in refusal(tmp_path / "other.zip")

    for content in ({"state_dict": {}}, {CONFIG_KEY: {}}, [1, 2], torch.zeros(2)):
        torch.save(content, tmp_path / "other.ckpt")
        assert "another program" in refusal(tmp_path / "other.ckpt")


def test_damaged_archives_are_refused_whatever_is_damaged(tmp_path):
    good = saved(tmp_path / "good.ckpt")
    with zipfile.ZipFile(good) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in contents if name.endswith("data.pkl"))
    for damaged in (b"", b"garbage", b"\x80\x02}q\x00(X\x05\x00\x00\x00ab", b"\x80\x02(t.", b"\x80\x02K\x01R."):
        with zipfile.ZipFile(tmp_path / "bad.ckpt", "w") as archive:
            for entry, data in contents.items():
                archive.writestr(entry, damaged if entry == name else data)
        refusal(tmp_path / "bad.ckpt")


def test_flipped_bytes_are_noticed_wherever_they_are(tmp_path):
    content = saved(tmp_path / "good.ckpt").read_bytes()
    path = tmp_path / "flipped.ckpt"
    with zipfile.ZipFile(tmp_path / "good.ckpt") as archive:
        names = [part for part in archive.infolist() if "data/" in part.filename]
    for part in names:
        start = content.index(archive_bytes(tmp_path / "good.ckpt", part.filename))
        for place in (start, start + part.file_size - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])
            assert "the checksum of" in refusal(path)
            assert "use another one of its run" in refusal(path)


def archive_bytes(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def test_an_archive_that_would_grow_without_end_is_not_unpacked(tmp_path):
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(10**6))
    assert "compressed, to who knows what size" in refusal(bomb)


class Attack:
    """Pickles as a call of a function that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path, zipped):
    path, trace = tmp_path / "attack.ckpt", tmp_path / "trace"
    torch.save(GOOD | {"extra": Attack(trace)}, path, _use_new_zipfile_serialization=zipped)
    assert ("more than tensors" if zipped else "not a checkpoint") in refusal(path)
    with pytest.raises(CheckpointError):  # nor through Lightning's door, whatever it asks for
        RunCheckpointIO({}).load_checkpoint(path, weights_only=False)
    assert not trace.exists()

    pickle.loads(pickle.dumps(Attack(trace)))
    assert trace.exists(), "the attack itself is harmless, so this test shows nothing"


def test_lightnings_door_adds_the_configuration(tmp_path):
    door = RunCheckpointIO({"method": {"_target_": "a"}})
    content = {"state_dict": {"a": torch.ones(2)}}
    door.save_checkpoint(content, tmp_path / "x.ckpt")
    loaded = door.load_checkpoint(tmp_path / "x.ckpt", map_location="meta")
    assert loaded[CONFIG_KEY] == {"method": {"_target_": "a"}}
    assert loaded["state_dict"]["a"].tolist() == [1, 1]
    assert content.keys() == {"state_dict"}


def test_link_is_the_same_file_until_one_of_them_is_rewritten(tmp_path):
    epoch, last = saved(tmp_path / "epoch_0001.ckpt"), saved(tmp_path / "last.ckpt", GOOD | {"old": 1})
    checkpoints.link(epoch, last)
    assert epoch.samefile(last)
    checkpoints.link(epoch, last)  # again: rename() does nothing where both names are one file
    assert files(tmp_path) == ["epoch_0001.ckpt", "last.ckpt"]

    before = epoch.read_bytes()
    saved(last, GOOD | {"new": 2})
    assert epoch.read_bytes() == before


def test_link_copies_where_links_cannot_be_made(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "no links here")

    epoch, last = saved(tmp_path / "epoch_0001.ckpt"), tmp_path / "last.ckpt"
    monkeypatch.setattr(os, "link", refuse)
    checkpoints.link(epoch, last)
    assert not epoch.samefile(last)
    assert epoch.read_bytes() == last.read_bytes()
    assert files(tmp_path) == ["epoch_0001.ckpt", "last.ckpt"]


def test_find(tmp_path):
    run = tmp_path / "run with spaces"
    with pytest.raises(CheckpointError, match="no such run or checkpoint"):
        checkpoints.find(run)
    run.mkdir()
    with pytest.raises(CheckpointError, match="nothing was saved yet"):
        checkpoints.find(run)
    last = saved(run / "checkpoints" / "last.ckpt")
    assert checkpoints.find(str(run)) == checkpoints.find(last) == checkpoints.find(last.parent) == last


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "no file, but a folder, a pipe or the like"),
        (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "no file"),
        (os.mkdir, "no file"),
        (lambda path: os.symlink("gone.ckpt", path), "a link that leads nowhere"),
    ],
    ids=["pipe", "socket", "folder", "link"],
)
def test_what_is_no_file_is_named_rather_than_passed_over(tmp_path, make, said):
    saved(tmp_path / "checkpoints" / "epoch_0001.ckpt")
    make(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match=f"last.ckpt: {said}.*: move it away, or name another checkpoint"):
        checkpoints.find(tmp_path)


def test_without_a_last_checkpoint_the_newest_that_there_is_counts(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    for name in ("best", "epoch_0002", "epoch_0010"):
        newest = saved(folder / f"{name}.ckpt")
        assert checkpoints.find(folder.parent) == checkpoints.find(folder) == newest
        assert checkpoints.newest_run(tmp_path) == folder.parent


def test_newest_run_is_that_of_the_newest_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no run with a checkpoint"):
        checkpoints.newest_run(tmp_path)
    for number, (name, age) in enumerate({"b": 10, "sweep/0_x": 5, "a": 20}.items()):
        last = saved(tmp_path / name / "checkpoints" / "last.ckpt")
        os.utime(last, (1e9 + number - age, 1e9 - age))
    (tmp_path / "unfinished" / "checkpoints").mkdir(parents=True)
    assert checkpoints.newest_run(tmp_path) == tmp_path / "sweep/0_x"
    assert checkpoints.runs_below(tmp_path) == [tmp_path / name for name in ("sweep/0_x", "b", "a")]


OLD = {
    "_target_": "lit_ghibli.methods.nijigan.NijiGAN",
    "generator": {"base_channels": 4},
    "weights": {"gan": 1.0, "src": 0.05, "hdce": 0.1, "nce": 0.0, "vgg": 0.1, "gan_pair": 1.0, "style_nce": 0.1},
    "flip_equivariance": False,
    "schedule": {"name": "ramp_up"},
    "temperature": 0.07,
}


def test_runs_of_nijigan_from_when_it_held_cut_are_read():
    now = checkpoints.as_today({"method": OLD, "seed": 1})
    assert now["seed"] == 1
    assert now["method"].keys() == OLD.keys() - {"flip_equivariance"}
    assert now["method"]["weights"].keys() == OLD["weights"].keys() - {"nce"}
    assert "nce" in OLD["weights"], "what is given stays as it is"
    assert checkpoints.as_today(now) == now


def test_runs_of_cut_from_when_it_was_an_option_of_nijigan_are_read():
    weights = {**dict.fromkeys(OLD["weights"], 0.0), "gan": 1.0, "nce": 10.0}
    method = checkpoints.as_today({"method": {**OLD, "weights": weights, "flip_equivariance": True}})["method"]
    assert method == {
        "_target_": "lit_ghibli.methods.cut.CUT",
        "generator": {"base_channels": 4},
        "weights": {"gan": 1.0, "nce": 10.0},
        "flip_equivariance": True,
        "temperature": 0.07,
    }
    mixed = {"method": {**OLD, "weights": {**weights, "vgg": 0.1}}}
    assert checkpoints.as_today(mixed) == mixed, "no method is such a mixture now, and none is made up"
