import os
import re
from pathlib import Path

import pytest
from PIL import Image

from lit_ghibli.data import image_files, image_folders
from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.image_folders import check_disjoint, is_read, list_images


def save(path: Path, size=(12, 8), color=(200, 40, 90), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def test_lists_nested_images_in_natural_order_with_any_case(tmp_path):
    wanted = ["2.png", "10.PNG", "b/1.JpEg", "b/3.webp", "ä ü/photo one.BMP"]
    for name in wanted:
        save(tmp_path / name)
    for clutter in (".hidden.png", "__MACOSX/1.png", ".git/2.png", "b/Thumbs.db", "b/notes.txt"):
        (tmp_path / clutter).parent.mkdir(exist_ok=True)
        (tmp_path / clutter).write_bytes(b"x")
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == wanted


def test_links_are_followed_and_a_loop_of_links_ends(tmp_path):
    save(tmp_path / "elsewhere" / "1.png")
    folder = tmp_path / "data"
    save(folder / "0.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert [path.name for path in list_images(folder)] == ["0.png", "1.png"]


def test_files_of_other_kinds_are_passed_over_aloud_and_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(image_folders, "EXTENSIONS", (".tif", ".jfif", ".gif", ".avif", ".tiff"))  # as without HEIC
    for name in ("1.TIF", "2.jfif", "3.gif", "4.avif", "5.tiff"):
        (tmp_path / name).touch()
    for name in (
        "IMG_1.HEIC",
        "IMG_2.heic",
        "a.psd",
        "b.CR2",
        "c.mp4",
        "notes.txt",
        "CREDITS.md",
        "list.csv",
        "README",
    ):
        (tmp_path / name).touch()
    for _ in range(2):
        assert [path.name for path in list_images(tmp_path)] == ["1.TIF", "2.jfif", "3.gif", "4.avif", "5.tiff"]
    (record,) = caplog.records
    (counts,) = re.findall(r"passed over: (.*?);", record.getMessage())
    assert set(counts.split(", ")) == {"2 .heic", "1 .psd", "1 .cr2", "1 .mp4"}
    assert record.getMessage().endswith(
        "HEIC pictures, as iPhones take them, are read with pip install 'lit-ghibli[heic]'"
    )


def test_lists_that_lie_beside_pictures_are_worth_no_word(tmp_path, caplog):
    save(tmp_path / "1.png")
    for name in ("CREDITS.md", "train.txt", "pairs.csv", "meta.json", "LICENSE"):
        (tmp_path / name).touch()
    assert len(list_images(tmp_path)) == 1
    assert not caplog.records


def test_results_below_the_folder_are_no_data(tmp_path, monkeypatch):
    for name in ("1.png", "outputs/run/grid.png", "holiday/outputs/2.png"):
        save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [path.as_posix() for path in list_images(".")] == ["1.png", "holiday/outputs/2.png"]
    assert [path.as_posix() for path in list_images("outputs")] == ["outputs/run/grid.png"]
    assert [path.name for path in list_images(tmp_path / "outputs" / "run")] == ["grid.png"]
    places = [("outputs/x", "."), ("x", "."), ("holiday/outputs", "."), ("outputs/x", "outputs"), ("x", "holiday")]
    assert [is_read(Path(place), Path(folder)) for place, folder in places] == [False, True, True, True, False]
    monkeypatch.chdir("/")
    assert len(list_images(tmp_path)) == 3


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    save(tmp_path / "1.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "locked":  # root, as whom tests may run, is refused nothing
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FolderError, match=r"folder .*locked cannot be listed \(Permission denied\)"):
        list_images(tmp_path)


def test_a_folder_too_deep_for_the_system_is_named(tmp_path, monkeypatch):
    save(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(17):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    with pytest.raises(FolderError, match=r"cannot be listed \(File name too long\)"):
        list_images(tmp_path)
    with pytest.raises(FolderError, match="does not exist"):
        list_images(tmp_path / ("x" * 300))


def test_folder_problems_have_messages_of_their_own(tmp_path):
    with pytest.raises(FolderError, match="does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(FolderError, match="is a file, not a folder"):
        list_images(save(tmp_path / "1.png"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FolderError, match="found no files at all"):
        list_images(empty)
    for name in ("a.txt", "b.TXT", "c.txt", "d.svg"):
        (empty / name).write_text("x")
    with pytest.raises(FolderError, match=r"found 3 \.txt files, 1 \.svg file; .*\.jpg, \.jpeg, .*\.gif,.*$"):
        list_images(empty)


def test_same_pictures_are_found_by_content(tmp_path):
    train = [save(tmp_path / "train" / f"{i}.bmp", color=(i, 0, 0)) for i in range(4)]
    test = [save(tmp_path / "test" / f"{i}.bmp", color=(i, 0, 0)) for i in (9, 2)]
    same_size_other_content = test[0].stat().st_size == train[0].stat().st_size
    assert same_size_other_content
    check_disjoint(train, test[:1])
    with pytest.raises(FolderError, match=r"seen in training \(1 of 2\)") as caught:
        check_disjoint(train, test)
    assert str(train[2]) in str(caught.value)
    assert str(test[1]) in str(caught.value)


def test_files_of_unequal_size_are_never_read(tmp_path, monkeypatch):
    train, test = [tmp_path / "a.png"], [tmp_path / "b.png"]
    train[0].write_bytes(b"123")
    test[0].write_bytes(b"1234")
    monkeypatch.setattr(image_files, "sha256_of", lambda path: pytest.fail(f"{path} was read"))
    check_disjoint(train, test)
