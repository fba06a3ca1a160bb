"""Clips that tests render, in files of every kind."""

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from lit_ghibli.scenes.scene import render_pair

TONE = 440.0  # Hz


def still_scene(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """A rendered landscape into which a red disc moves, below its upper third."""
    scene = render_pair(0, 0, width)[0][:height].copy()
    y, x = np.mgrid[:height, :width]
    frames = []
    for number in range(count):
        frame = scene.copy()
        left = (number + 1) / count * 0.7 * width
        frame[(x - left + height / 5) ** 2 + (y - 0.72 * height) ** 2 < (height / 4.5) ** 2] = (200, 40, 30)
        frames.append(frame)
    return frames


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    sound: str | None = None,
    **options: str,
) -> Path:
    """Frames as a clip, through PyAV alone; with a tone of one second in a codec."""
    import av

    frames = list(frames)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=25, options={"crf": "1"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = time_base
        packets = []
        if sound:
            tone = file.add_stream(sound, rate=48000, layout="mono")
            wave = np.sin(np.arange(48000) * 2 * np.pi * TONE / 48000).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(0.3 * wave[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 48000, 0, Fraction(1, 48000)
            packets += [*tone.encode(samples), *tone.encode(None)]
        for time, pixels in zip(times or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, time_base
            file.mux(stream.encode(frame))
        file.mux([*stream.encode(None), *packets])
    return path


def turn(path: Path, width: int, height: int) -> None:
    """Have an MP4 shown a quarter turn clockwise, by the matrix of its track: ISO/IEC 14496-12, section 6.2.2."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and number, reserved, layer ...
    assert struct.unpack(">9i", content[place : place + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, height << 16, 0, 1 << 30)
    path.write_bytes(content)
