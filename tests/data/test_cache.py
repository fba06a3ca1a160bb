import logging
import multiprocessing
import os
import pickle
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, StackDataset

from lit_ghibli.data import cache
from lit_ghibli.data.cache import cached_renders
from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.image_folders import list_images
from lit_ghibli.data.transforms import AtLeast, Grayscale, Half, Resize
from lit_ghibli.files import default_cache_dir


def cached_folder(folder: Path, **options) -> cache.PackedImages:
    """Of all pictures in a folder."""
    return cache.cached_folder(folder, list_images(folder), **options)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three pictures of different sizes and noise, below a name with spaces and umlauts."""
    folder = tmp_path / "fotos für Ghibli"
    (folder / "süß e").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shape in {"10.png": (40, 60, 3), "2.png": (50, 30, 3), "süß e/ö 1.png": (32, 32, 3)}.items():
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return folder


def decoded(monkeypatch) -> list:
    """Return a list that grows by one path for each file that is decoded from now on."""
    seen, decode_all = [], cache.decode_all

    def spy(paths, convert, **options):
        seen.extend(paths)
        return decode_all(paths, convert, **options)

    monkeypatch.setattr(cache, "decode_all", spy)
    return seen


def expected(path: Path, size: tuple[int, int]) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.resize(size, Image.Resampling.BICUBIC))).permute(2, 0, 1)


@pytest.mark.parametrize("storage", ["disk", "ram"])
def test_pictures_are_resized_and_named(folder, tmp_path, storage):
    squash = cached_folder(folder, steps=[Resize(24, "squash")], cache_dir=tmp_path / "c", storage=storage)
    short = cached_folder(folder, steps=[Resize(24, "short_side")], cache_dir=tmp_path / "c", storage=storage)
    assert squash.names == short.names == ["2.png", "10.png", "süß e/ö 1.png"]
    for index, (name, size) in enumerate(zip(squash.names, [(24, 40), (36, 24), (24, 24)], strict=True)):
        assert torch.equal(squash[index], expected(folder / name, (24, 24)))
        assert torch.equal(short[index], expected(folder / name, size))
    assert (tmp_path / "c").exists() == (storage == "disk")


@pytest.mark.parametrize("storage", ["disk", "ram"])
def test_it_is_a_sequence_of_fresh_writable_tensors(folder, tmp_path, storage):
    packed = cached_folder(folder, steps=[Resize(8, "squash")], cache_dir=tmp_path / "c", storage=storage)
    first = packed[0]
    untouched = first.clone()
    first.zero_()
    assert first.dtype == torch.uint8
    assert torch.equal(packed[0], untouched)
    assert torch.equal(packed[-1], packed[2])
    assert len(list(packed)) == len(packed) == 3
    with pytest.raises(IndexError):
        packed[3]


def test_second_call_decodes_nothing(folder, tmp_path, monkeypatch):
    options = {"steps": [Resize(8, "squash")], "cache_dir": tmp_path / "c", "storage": "disk"}
    first = cached_folder(folder, **options)
    seen = decoded(monkeypatch)
    again = cached_folder(folder, **options)
    assert seen == []
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("change", ["content", "added", "renamed", "size", "mode", "step"])
def test_any_change_is_noticed(folder, tmp_path, monkeypatch, change):
    options = {"steps": [Resize(8, "squash")], "cache_dir": tmp_path / "c", "storage": "disk"}
    cached_folder(folder, **options)
    seen = decoded(monkeypatch)
    if change == "content":  # of the same name, size and time
        old, content = (folder / "2.png").stat(), bytearray((folder / "2.png").read_bytes())
        content[-5] ^= 1  # in the checksum of the last chunk, which has no pixels
        (folder / "other").write_bytes(content)
        (folder / "other").replace(folder / "2.png")
        os.utime(folder / "2.png", ns=(old.st_atime_ns, old.st_mtime_ns))
    elif change == "added":
        Image.new("RGB", (9, 9)).save(folder / "3.png")
    elif change == "renamed":
        (folder / "2.png").rename(folder / "1.png")
    else:
        other = {
            "size": [Resize(9, "squash")],
            "mode": [Resize(8, "short_side")],
            "step": [Resize(8, "squash"), Grayscale()],
        }
        options["steps"] = other[change]
    packed = cached_folder(folder, **options)
    assert len(seen) == len(packed) == 3 + (change == "added")


def test_cache_moves_with_its_folder(folder, tmp_path, monkeypatch):
    options = {"steps": [Resize(8, "squash")], "cache_dir": tmp_path / "c", "storage": "disk"}
    cached_folder(folder, **options)
    seen = decoded(monkeypatch)
    cached_folder(folder.rename(tmp_path / "moved"), **options)
    assert seen == []


def test_chosen_files_are_named_below_their_folder(folder, tmp_path):
    paths = [folder / "süß e" / "ö 1.png", folder / "2.png"]
    packed = cache.cached_folder(folder, paths, steps=[Resize(8, "squash")], cache_dir=tmp_path / "c", storage="ram")
    assert packed.names == ["süß e/ö 1.png", "2.png"]
    assert torch.equal(packed[0], expected(paths[0], (8, 8)))


def test_steps_are_taken_in_order_and_what_one_refuses_is_a_bad_file(folder, tmp_path):
    wide = folder / "wide.png"
    Image.fromarray(np.arange(20 * 48 * 3, dtype=np.uint8).reshape(20, 48, 3)).save(wide)
    packed = cache.cached_folder(
        folder, [wide], steps=[Half("right", 1.5), Resize(8, "squash")], cache_dir=tmp_path / "c", storage="ram"
    )
    with Image.open(wide) as image:
        right = image.crop((24, 0, 48, 20)).resize((8, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(packed[0].permute(1, 2, 0).numpy(), np.array(right))
    with pytest.raises(FolderError, match=r"wide\.png is 48x20, 2\.40:1, too far from 2:1.*max_half_aspect to 1\.20"):
        cache.cached_folder(folder, [wide], steps=[Half("left", 1.1)], cache_dir=tmp_path / "c", storage="ram")


@pytest.mark.parametrize("storage", ["disk", "ram"])
def test_some_pictures_can_be_taken(folder, tmp_path, storage):
    packed = cached_folder(folder, steps=[Resize(8, "short_side")], cache_dir=tmp_path / "c", storage=storage)
    some = packed.take([2, 0])
    for taken in (some, pickle.loads(pickle.dumps(some))):
        assert taken.names == [packed.names[2], packed.names[0]]
        assert [taken.shape(0), taken.shape(1)] == [tuple(packed[2].shape[1:]), tuple(packed[0].shape[1:])]
        assert torch.equal(taken[0], packed[2])
        assert torch.equal(taken[1], packed[0])
        assert len(taken) == len(list(taken)) == 2
    assert len(packed) == 3


@pytest.mark.parametrize("damage", ["truncated", "empty", "other version", "index", "pixel", "name", "no sense"])
def test_damaged_cache_is_rebuilt(folder, tmp_path, caplog, damage):
    options = {"steps": [Resize(8, "squash")], "cache_dir": tmp_path / "c", "storage": "disk"}
    before = [image.clone() for image in cached_folder(folder, **options)]
    (file,) = (tmp_path / "c").glob("*.pack")
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[cache._PREFIX.size + 100] ^= 4
    prefix = b"ghibli03" + bytes(8) + (2).to_bytes(8, "little") + zlib.crc32(b"[]").to_bytes(4, "little")
    leftover = file.with_name(".killed.0123456789ab.partial")
    leftover.touch()
    file.write_bytes(
        {
            "truncated": content[:-1],
            "empty": b"",
            "other version": content.replace(b"ghibli03", b"ghibli01"),
            "index": content[:-20] + b"\0" * 20,
            "pixel": bytes(flipped),
            "name": content.replace(b"10.png", b"11.png"),
            "no sense": prefix + b"[]",
        }[damage]
    )
    with caplog.at_level(logging.INFO):
        after = cached_folder(folder, **options)
    assert "rebuilding the image cache" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert file.read_bytes() == content
    assert sorted((tmp_path / "c").iterdir()) == sorted([file, tmp_path / "c" / "checksums"]), "and no leftover"


def test_bad_files_are_errors_or_skipped_and_remembered(folder, tmp_path, caplog):
    (folder / "5.png").touch()
    options = {"steps": [Resize(8, "squash")], "cache_dir": tmp_path / "c", "storage": "disk"}
    with pytest.raises(FolderError, match=r"1 of 4 images cannot be used(.|\n)*5\.png is empty"):
        cached_folder(folder, **options)
    assert list((tmp_path / "c").glob("*.pack")) == []
    for _ in range(2):  # built, then mapped
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            packed = cached_folder(folder, on_bad_file="skip", **options)
        assert packed.names == ["2.png", "10.png", "süß e/ö 1.png"]
        assert len(caplog.records) == 1
    with pytest.raises(FolderError, match="3 of 4 can be used, but at least 4"):
        cached_folder(folder, on_bad_file="skip", min_images=4, **options)
    with pytest.raises(FolderError, match="is 32x32, smaller than 33"):
        cached_folder(folder / "süß e", **options | {"steps": [AtLeast(33)]})


def test_unwritable_cache_names_the_ways_out(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"data\.cache_dir(.|\n)*LIT_GHIBLI_CACHE(.|\n)*data\.cache=ram"):
        cached_folder(folder, steps=[Resize(8, "squash")], cache_dir=tmp_path / "file" / "c", storage="disk")


def test_an_unknown_storage_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="'tape'"):
        cached_folder(folder, steps=[Resize(8, "squash")], cache_dir=tmp_path, storage="tape")


def test_pickle_of_a_mapped_file_is_its_path(folder, tmp_path):
    packed = cached_folder(folder, steps=[Resize(64, "squash")], cache_dir=tmp_path / "c", storage="disk")
    data = pickle.dumps(packed)
    assert len(data) < 500
    assert all(torch.equal(a, b) for a, b in zip(pickle.loads(data), packed, strict=True))


@pytest.mark.slow
def test_spawned_workers_read_the_same_pictures(folder, tmp_path):
    options = {"steps": [Resize(8, "squash")], "cache_dir": tmp_path / "c"}
    packs = [cached_folder(folder, storage=storage, **options) for storage in ("disk", "ram")]
    loader = DataLoader(StackDataset(*packs), batch_size=3, num_workers=1, multiprocessing_context="spawn")
    for batch in next(iter(loader)):
        assert torch.equal(batch, torch.stack(list(packs[1])))


def build_once(folder: Path, cache_dir: Path, start, results) -> None:
    start.wait()
    packed = cached_folder(folder, steps=[Resize(48, "squash")], cache_dir=cache_dir, storage="disk")
    results.put([int(image.sum()) for image in packed])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from python 3.12 on
def test_two_processes_may_build_at_once(folder, tmp_path):
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(2), context.Queue()
    builders = [context.Process(target=build_once, args=(folder, tmp_path / "c", start, results)) for _ in range(2)]
    for builder in builders:
        builder.start()
    sums = [results.get(timeout=60) for _ in builders]
    for builder in builders:
        builder.join()
    ram = cached_folder(folder, steps=[Resize(48, "squash")], cache_dir=tmp_path, storage="ram")
    assert sums == [[int(image.sum()) for image in ram]] * 2
    assert len(list((tmp_path / "c").glob("*.pack"))) == 1


@pytest.mark.parametrize("storage", ["disk", "ram"])
def test_renders_are_packed_once(tmp_path, storage):
    calls = []

    def render(number: int) -> np.ndarray:
        calls.append(number)
        return np.full((2 + number, 3, 3), [number, 100, 200], np.uint8)

    for _ in range(2):
        packed = cached_renders("ramp, seed 0", 70, render, cache_dir=tmp_path / "c", storage=storage)
    assert sorted(calls) == sorted(list(range(70)) * (1 if storage == "disk" else 2))
    assert packed.names[:2] == ["000000", "000001"]
    assert [image.shape for image in packed] == [(3, 2 + number, 3) for number in range(70)]
    assert packed[69][:, 5, 1].tolist() == [69, 100, 200]
    other = cached_renders("ramp, seed 1", 2, render, cache_dir=tmp_path / "c", storage=storage)
    assert len(other) == 2
    assert len(calls) > 70


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from python 3.12 on
def test_many_renders_keep_their_order(tmp_path):
    render = partial(np.full, (2, 1, 3), dtype=np.uint8)  # picture i has brightness i
    packed = cached_renders("brightness", 230, render, cache_dir=tmp_path, storage="ram")
    assert [image[0, 0, 0].item() for image in packed] == list(range(230))


def test_much_work_shows_a_bar_on_a_terminal_only(tmp_path, monkeypatch, capsys):
    def render(number: int) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setenv("TERM", "xterm")
    for terminal, count, progress, shown in (
        (True, 60, True, True),
        (True, 60, False, False),
        (True, 40, True, False),
        (False, 60, True, False),
    ):
        monkeypatch.setattr(cache.sys.stderr, "isatty", lambda terminal=terminal: terminal)
        packed = cached_renders("black", count, render, cache_dir=tmp_path, storage="ram", progress=progress)
        assert len(packed) == count
        assert ("Rendering" in capsys.readouterr().err) == shown


def test_default_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LIT_GHIBLI_CACHE", str(tmp_path / "Bilder ü"))
    assert default_cache_dir() == tmp_path / "Bilder ü"
    monkeypatch.delenv("LIT_GHIBLI_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "lit_ghibli"


def test_folders_alike_in_names_sizes_and_times_are_told_apart(tmp_path):
    packs = []
    for name, value in (("A", 10), ("B", 200)):
        path = tmp_path / name / "1.bmp"
        path.parent.mkdir()
        Image.new("RGB", (16, 16), (value,) * 3).save(path)
        os.utime(path, ns=(10**18, 10**18))
        packs.append(cached_folder(path.parent, steps=[Resize(8, "squash")], cache_dir=tmp_path / "c", storage="disk"))
    assert [pack[0].float().mean().item() for pack in packs] == [10, 200]
