"""What is typed after `lit-ghibli stylize` for a clip."""

import re
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="of lit-ghibli[video]")

from helpers.clips import still_scene, write_clip
from helpers.styles import made_style

from lit_ghibli.commands import stylize as command
from lit_ghibli.inference.clips import inspect_clip, read_frames

TIMES = [0, 40, 90, 130, 170, 300, 340, 380, 420, 460]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A folder with a clip and a small style called mine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "styles"))
    made_style(tmp_path / "styles")
    write_clip(Path("clip.mkv"), still_scene(10, 48, 32), TIMES, Fraction(1, 1000), sound="libopus")


def typed(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-ghibli stylize", *words])
    command.main()


def frames_of(path: str) -> np.ndarray:
    return np.array([frame for _, frame in read_frames(inspect_clip(Path(path)))]).astype(float)


def test_a_clip_is_painted_and_its_flicker_told(monkeypatch, capsys):
    typed(monkeypatch, "clip.mkv", "new/painted.mp4", "style=mine")
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "clip.mkv: 10 frames of 48x32, 0.5 s, with style mine on cpu"
    pattern = r"new/painted.mp4, \d+\.\d s; flicker \(warping error, thousandths\): "
    assert re.fullmatch(pattern + r"\S+ with smooth=0.85, \S+ without, \S+ of the clip itself", last)
    clip = inspect_clip(Path("new/painted.mp4"))
    assert [time * clip.time_base * 1000 for time, _ in read_frames(clip)] == TIMES
    painted, plain = frames_of("new/painted.mp4"), frames_of("clip.mkv")
    assert 3 < np.abs(painted - plain).mean() < 60
    typed(monkeypatch, "clip.mkv", "style=mine", "smooth=0")
    assert "thousandths): " in (said := capsys.readouterr().out)
    assert "with smooth" not in said
    assert inspect_clip(Path("clip_mine.mkv")).frames == 10
    typed(monkeypatch, "clip.mkv", "new/painted.mp4", "--out", "all", "style=mine")
    assert sorted(path.name for path in Path("all").iterdir()) == ["clip.mkv", "painted.mp4"]
    with pytest.raises(SystemExit, match=r"2 pictures .*were made with smooth=0.85, not with smooth=0:"):
        typed(monkeypatch, "clip.mkv", "new/painted.mp4", "--out", "all", "style=mine", "smooth=0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere.mp4", "nowhere.mp4: no such clip"),
        ("clip.mkv a.png", "a.png is no clip: give photographs and clips in two calls"),
        ("clip.mkv smooth=2", "smooth must lie in 0 ... 1; got 2"),
        ("clip.mkv there.mp4", "there.mp4 exists already: --out there.mp4 overwrite=true"),
        ("clip.mkv --out there.mp4", "there.mp4 exists already: choose another folder"),
        ("clip.mkv --out clip.mkv", "clip.mkv would overwrite what is to be painted"),
        ("clip.mkv --out a.webm", "a.webm: one clip is written to a file that ends in .mp4"),
        ("clip.mkv --out text.txt", "text.txt: one clip is written to a file that ends in .mp4"),
        ("text.mp4", "text.mp4 is no clip, or truncated or damaged"),
        ("clip.mkv max_megapixels=0.0001", "pixels are above max_megapixels=0.0001; raise that"),
        ("clip.mkv style=min", "there is no such style; did you mean mine"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_nothing_is_written(monkeypatch, words, said):
    for name in ("there.mp4", "text.mp4", "text.txt"):
        Path(name).write_text("no clip")
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises(SystemExit) as error:
        typed(monkeypatch, *words.split())
    assert sorted(Path.cwd().rglob("*")) == before
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SystemExit, match=r"cv2 is needed for clips: pip install 'lit-ghibli\[video\]'"):
        typed(monkeypatch, "clip.mkv")


@pytest.mark.slow
def test_a_killed_call_goes_on_with_what_it_has_painted(monkeypatch, capsys):
    """Killed with a seventh frame written that nothing is noted of."""
    program = (
        "import os, sys\nfrom lit_ghibli import cli\nfrom lit_ghibli.inference.clips import Writer\n"
        "write = Writer.write\ndef killed(self, time, pixels):\n    write(self, time, pixels)\n"
        "    time == 340 and os.kill(os.getpid(), 9)\n"
        "Writer.write = killed; sys.argv = ['', 'stylize', 'clip.mkv', 'a.mp4', 'style=mine']; cli.main()"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not Path("a.mp4").exists()
    typed(monkeypatch, "clip.mkv", "a.mp4", "style=mine")
    assert "; goes on at frame 7\n" in capsys.readouterr().out
    clip = inspect_clip(Path("a.mp4"))
    assert [time * clip.time_base * 1000 for time, _ in read_frames(clip)] == TIMES
    typed(monkeypatch, "clip.mkv", "b.mp4", "style=mine")
    assert np.abs(frames_of("a.mp4") - frames_of("b.mp4")).mean() < 2  # levels, of the encoder
    assert not list(Path.cwd().glob("*.parts"))
