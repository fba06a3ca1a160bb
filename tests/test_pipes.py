"""Pipes, and links that lead in circles, where files are expected, and full disks: nobody waits, all is named."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from lit_ghibli.callbacks import run_owner
from lit_ghibli.commands._style_jobs import plan
from lit_ghibli.commands.mos_score import find_answers
from lit_ghibli.data.image_files import ImageFileError, bullets
from lit_ghibli.errors import UserError, one_line
from lit_ghibli.files import explain
from lit_ghibli.inference.picture_files import plan_outputs
from lit_ghibli.inference.styles import find_styles
from lit_ghibli.inference.video import _write_state
from lit_ghibli.locks import take
from lit_ghibli.published.reading import read_published
from lit_ghibli.reports.tables import last_values, markdown_table


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIT_GHIBLI_STYLES", "styles")
    Path("styles").mkdir()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("weights.pth", read_published),
        ("weights.npz", read_published),
        ("folder/weights.npy", lambda path: read_published(path.parent)),
        ("run/metrics.csv", last_values),
        ("run/metrics.csv", lambda path: run_owner.claim(path.parent)),
        ("run/train.log", lambda path: run_owner.claim(path.parent)),
        ("run/run.lock", lambda path: run_owner.claim(path.parent)),
        ("pairs.csv", lambda path: plan([], str(path), Path("out"), {})),
    ],
)
def test_a_pipe_is_told_and_not_waited_for(name, read):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(UserError, match=rf"{name}.*no plain file"):
        read(path)


def test_a_pipe_is_neither_a_style_nor_a_lock():
    os.mkfifo("styles/pipe.safetensors")
    assert "pipe" not in find_styles()
    with pytest.raises(OSError, match=r"pipe\.safetensors"):
        take(Path("styles/pipe.safetensors"), None)


def test_line_breaks_and_escape_codes_in_names_do_not_break_a_message():
    name = "a\nb\x1b[31m\t.jpg"
    assert one_line(name) == r"a\nb\x1b[31m\t.jpg"
    Path(name).write_text("no picture")
    error = ImageFileError(name, "is no picture")
    assert str(error) == r"a\nb\x1b[31m\t.jpg is no picture"
    assert bullets([str(error), name]) == ["  a\\nb\\x1b[31m\\t.jpg is no picture", "  a\\nb\\x1b[31m\\t.jpg"]
    assert explain(FileNotFoundError(2, "No such file", name)) == r"a\nb\x1b[31m\t.jpg: no such file"
    assert markdown_table([{"name": name}]).count("\n") == 3


def test_links_in_circles_are_found_with_the_others():
    for name in ("a.png", "out/a.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(name)
    Path("circle.png").symlink_to("circle.png")
    Path("circle.json").symlink_to("circle.json")
    assert list(plan_outputs(["."], "out", overwrite=True)) == [Path("a.png"), Path("circle.png")]
    assert [job.content.name for job in plan([".", "a.png"], None, Path("out"), {})] == ["a.png", "circle.png"]
    assert find_answers([Path()], Path("key.json"), Path("scores"))[0] == [Path("circle.json")]


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """No file may have more bytes than so many, as on a disk that is full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_run_on_a_full_disk_is_refused_before_hydra_writes():
    Path("there").mkdir()
    for name, kept in (("new", False), ("there", True)):
        with room_for(3000), pytest.raises(UserError, match=rf"{name}: a run cannot be written there \(File too large"):
            run_owner.claim(name)
        assert Path(name).exists() == kept


def test_the_state_of_a_clip_that_a_full_disk_does_not_take_is_named():
    with room_for(100), pytest.raises(OSError, match=r"File too large: 'state\.pt'"):
        _write_state({"frame": torch.zeros(1000)}, Path("state.pt"))
    assert list(Path().glob("*state*")) == []
