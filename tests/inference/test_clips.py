"""Clips that are written and read, against what FFmpeg is told directly."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="of lit-ghibli[video]")

from helpers.clips import TONE, still_scene, turn, write_clip  # noqa: E402

from lit_ghibli.data.image_files import ImageFileError  # noqa: E402
from lit_ghibli.inference.clips import Clip, Writer, container_of, inspect_clip, join, read_frames, times_of  # noqa: E402

COLORS = [(200, 30, 20), (20, 200, 40), (255, 255, 255), (0, 0, 0), (10, 20, 200), (128, 128, 128)]
UNEVEN = [900_000 + time for time in (0, 3600, 3700, 9000, 20000, 23600)]


def plain(width: int, height: int, time_base: Fraction = Fraction(1, 90_000)) -> Clip:
    return Clip(Path("none"), width, height, 0, 0.0, time_base, Fraction(25), Fraction(1), "error")


def filled(color: tuple, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def written(path: Path, width: int = 32, height: int = 24, container: str = "nut") -> Path:
    writer = Writer(path, plain(width, height), 100, container)
    for time, color in zip(UNEVEN, COLORS, strict=True):
        writer.write(time, filled(color, width, height))
    writer.close()
    return path


def sound_of(path: Path) -> tuple[str, float, float]:
    """Codec, and start and pitch of what is heard."""
    with av.open(str(path)) as file:
        codec = file.streams.audio[0].codec_context.name
        frames = list(file.decode(audio=0))
        start = float(frames[0].pts * frames[0].time_base)
        samples = np.concatenate([frame.to_ndarray().astype(np.float64).reshape(1, -1)[0] for frame in frames])
        samples -= samples.mean()
        return codec, start, np.abs(np.fft.rfft(samples)).argmax() / len(samples) * frames[0].sample_rate


@pytest.mark.parametrize("size", [(32, 24), (33, 21), (17, 40)])
def test_colors_times_and_even_sides(tmp_path, size):
    clip = inspect_clip(written(tmp_path / "a.mp4", *size, "mp4"))
    width, height = (side + side % 2 for side in size)
    assert (clip.width, clip.height, clip.frames) == (width, height, 6)
    read = list(read_frames(clip))
    assert [time * clip.time_base for time, _ in read] == [Fraction(time, 90_000) for time in UNEVEN]
    for (_, frame), color in zip(read, COLORS, strict=True):
        assert frame.shape == (height, width, 3)
        assert np.abs(frame.astype(int) - color).max() <= 2
    assert [time for time, _ in read_frames(clip, since=read[3][0])] == [time for time, _ in read[3:]]


def test_the_luma_of_a_clip_is_that_of_bt_709(tmp_path):
    writer = Writer(tmp_path / "a.mp4", plain(32, 24), 100, "mp4")
    writer.write(0, filled((255, 0, 0), 32, 24))
    writer.close()
    with av.open(str(tmp_path / "a.mp4")) as file:
        frame = next(file.decode(video=0))
    assert frame.to_ndarray()[:24].mean() == pytest.approx(16 + 219 * 0.2126, abs=1)
    assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)


def test_a_clip_that_is_turned_is_read_upright(tmp_path):
    frame = filled((0, 0, 0), 32, 16)
    frame[:8, :8] = (255, 0, 0)  # the upper left corner, which a quarter turn clockwise puts to the upper right
    path = write_clip(tmp_path / "a.mp4", [frame] * 3)
    turn(path, 32, 16)
    clip = inspect_clip(path)
    assert (clip.width, clip.height) == (16, 32)
    (_, upright), *_ = read_frames(clip)
    assert upright.shape == (32, 16, 3)
    assert upright[2:6, 10:14, 0].min() > 200
    assert upright[2:6, 2:6].max() < 50


def test_parts_are_joined_and_later_ones_win(tmp_path):
    """A part that a killed writer has left ends with a frame that the next one has painted again."""
    clip = inspect_clip(write_clip(tmp_path / "source.mp4", [filled((9, 9, 9), 32, 24)] * 6))
    parts = [tmp_path / name for name in ("0.nut", "1.nut")]
    for part, numbers in zip(parts, (range(4), range(3, 6)), strict=True):
        writer = Writer(part, plain(32, 24), 100)
        for number in numbers:
            color = (77, 77, 77) if (part, number) == (parts[0], 3) else COLORS[number]
            writer.write(UNEVEN[number], filled(color, 32, 24))
        assert times_of(part) == [Fraction(UNEVEN[number], 90_000) for number in numbers]  # before it is closed, too
        if part == parts[0]:
            torn = part.read_bytes()[:-4]
        writer.close()
    parts[0].write_bytes(torn)
    assert len(times_of(parts[0])) == 4
    join(parts, clip, tmp_path / "joined.mp4", "mp4")
    joined = inspect_clip(tmp_path / "joined.mp4")
    read = list(read_frames(joined))
    assert [time * joined.time_base for time, _ in read] == [Fraction(time, 90_000) for time in UNEVEN]
    assert max(np.abs(frame.astype(int) - color).max() for (_, frame), color in zip(read, COLORS, strict=True)) <= 2


@pytest.mark.parametrize(
    ("source", "sound", "result", "kept"),
    [
        ("a.mp4", "aac", "b.mp4", "aac"),
        ("a.mkv", "libopus", "b.mp4", "opus"),
        ("a.mov", "pcm_s16le", "b.mov", "pcm_s16le"),
        ("a.mkv", "pcm_u8", "b.mp4", "aac"),
    ],
)
def test_sound_is_copied_where_the_container_takes_it(tmp_path, source, sound, result, kept):
    clip = inspect_clip(write_clip(tmp_path / source, [filled((9, 9, 9), 32, 24)] * 25, sound=sound))
    part = written(tmp_path / "part.nut")
    join([part], clip, tmp_path / result, container_of(tmp_path / result))
    codec, start, pitch = sound_of(tmp_path / result)
    assert codec == kept
    assert start == pytest.approx(sound_of(tmp_path / source)[1], abs=0.03)
    assert pitch == pytest.approx(TONE, abs=2)


def test_clips_of_other_containers_are_read(tmp_path):
    times = [0, 40, 90, 130]
    path = write_clip(tmp_path / "a.webm", still_scene(4), times, Fraction(1, 1000), "libvpx-vp9", "libopus")
    clip = inspect_clip(path)
    assert [time for time, _ in read_frames(clip)] == times
    assert clip.seconds == pytest.approx(0.13 + 0.04, abs=0.01)


def broken(folder: Path) -> dict[str, Path]:
    frames = [filled((number, 99, 99), 64, 48) for number in range(50)]
    noise = [np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8) for number in range(50)]
    files = {name: folder / name for name in ("text.mp4", "empty.mp4", "folder.mp4", "head.mp4", "sound.mp4")}
    files["text.mp4"].write_text("no clip")
    files["empty.mp4"].touch()
    files["folder.mp4"].mkdir()
    whole = write_clip(folder / "whole.mp4", frames).read_bytes()
    files["head.mp4"].write_bytes(whole[: len(whole) // 2])
    with av.open(str(files["sound.mp4"]), "w") as file:
        stream = file.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 48000, 0
        file.mux([*stream.encode(silence), *stream.encode(None)])
    for name, options in (("cut.mp4", {"movflags": "+faststart"}), ("cut.mkv", {})):
        content = write_clip(folder / name, noise, **options).read_bytes()
        (folder / name).write_bytes(content[: len(content) * 6 // 10])
        files[name] = folder / name
    return files


def test_what_is_no_clip_is_told(tmp_path):
    said = {
        "text.mp4": "is no clip, or truncated or damaged",
        "empty.mp4": "is no clip, or truncated or damaged",
        "folder.mp4": "cannot be read",
        "head.mp4": "is no clip, or truncated or damaged",
        "sound.mp4": "holds no moving pictures, but sound",
        "cut.mp4": r"is truncated: \d+ of 50 frames are not in the file; on_bad_file=skip paints the \d+ others",
        "cut.mkv": r"is truncated: of 2.0 s the last 0.\d are not in the file",
    }
    files = broken(tmp_path)
    for name, reason in said.items():
        with pytest.raises(ImageFileError, match=rf"{name} {reason}"):
            inspect_clip(files[name])
    for name in ("cut.mp4", "cut.mkv"):
        assert 25 <= len(list(read_frames(inspect_clip(files[name], "skip")))) <= 35
