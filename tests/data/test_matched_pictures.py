from pathlib import Path

import pytest
from PIL import Image

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.matched_pictures import choose_evenly, match


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def test_pictures_are_matched_by_name(tmp_path):
    inputs = fill(tmp_path / "in", "a.jpg", "b.png", "c.jpg", "sub/a.jpg", "d.jpg", "d.png")
    one = fill(tmp_path / "1", "a.png", "b.png", "sub/a.png", "d.png", "d.png.png", "more.png")
    two = fill(tmp_path / "2", "a.jpg", "c.jpg", "sub/a.webp", "d.jpg", "d.png.png")
    matched = match(inputs, {"one": one, "two": two})
    assert matched == {
        "a.jpg": (inputs / "a.jpg", {"one": one / "a.png", "two": two / "a.jpg"}),
        "d.jpg": (inputs / "d.jpg", {"one": one / "d.png", "two": two / "d.jpg"}),
        "d.png": (inputs / "d.png", {"one": one / "d.png.png", "two": two / "d.png.png"}),
        "sub/a.jpg": (inputs / "sub/a.jpg", {"one": one / "sub/a.png", "two": two / "sub/a.webp"}),
    }


def test_what_cannot_be_matched_is_told(tmp_path):
    inputs, other = fill(tmp_path / "in", "a.jpg"), fill(tmp_path / "out", "b.jpg", "c.jpg")
    with pytest.raises(FolderError, match=r"none of the 1 photographs .* \(pictures: x 2\)"):
        match(inputs, {"x": other})
    with pytest.raises(FolderError, match=r"b\.jpg and .*b\.png"):
        match(inputs, {"x": fill(other, "b.png")})


def test_sets_are_spread_evenly_and_by_seed():
    matched = dict.fromkeys(map(str, range(100)))
    chosen = [list(map(int, choose_evenly(matched, 10, seed))) for seed in (0, 0, 1)]
    assert [number // 10 for number in chosen[0]] == list(range(10))
    assert chosen[0] == chosen[1] != chosen[2]
    assert list(choose_evenly(matched, 100, 0)) == list(matched)
    with pytest.raises(FolderError, match="sets=101, but only 100 photographs"):
        choose_evenly(matched, 101, 0)
