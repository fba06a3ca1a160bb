"""Reading and writing clips: frames as upright RGB with their times, H.264, and the sound of another clip.

Everything goes through PyAV, whose wheel has FFmpeg inside.
"""

import contextlib
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_ghibli.data.image_files import ImageFileError, OnBadFile
from lit_ghibli.extras import packages
from lit_ghibli.files import replacing

WRITTEN = (".mp4", ".m4v", ".mov", ".mkv")
EXTENSIONS = (*WRITTEN, ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv")

_CONTAINERS = {".mkv": "matroska", ".mov": "mov"}  # else MP4
_HIGH_RANGE = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
_UNSPECIFIED, _BT709, _BT601, _LIMITED = 2, 1, 6, 1  # of H.273 and FFmpeg
_HD = 720  # rows, from which colors that are not specified are those of BT.709
_SHORT = 0.05  # of a clip's seconds: so much more of them than of its last packet means that packets are missing
_SOUND, _SOUND_RATE = "aac", 48_000  # of sound that the container does not hold as it is
_SOFTWARE = "handler_name"  # which all containers here keep of a track, apart from what the clip says of itself
_LAYOUTS = ("3.0", "4.0", "5.0", "5.1", "7.1")  # of more than two channels that it then keeps


@dataclass(frozen=True)
class Clip:
    """What is known of a clip without decoding it.

    Attributes:
        path: Its file.
        width: Of an upright frame, in pixels.
        height: Likewise.
        frames: How many the file holds.
        seconds: From the first frame to the end of the last one.
        time_base: Of the times of frames, in seconds.
        rate: Frames per second, on average.
        aspect: Width of an upright pixel over its height.
        on_bad_file: ``skip`` passes over what cannot be decoded, ``error`` does not.
    """

    path: Path
    width: int
    height: int
    frames: int
    seconds: float
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    on_bad_file: OnBadFile


def is_clip(path: str | Path) -> bool:
    """Whether this is called like a clip."""
    return Path(path).suffix.lower() in EXTENSIONS


def inspect_clip(path: Path, on_bad_file: OnBadFile = "error") -> Clip:
    """Read the heads of a clip's packets and its first frame.

    Args:
        path: Its file.
        on_bad_file: ``skip`` takes what is there of a truncated clip.

    Raises:
        ImageFileError: The file is missing or damaged, has no moving pictures, or is of high dynamic range.
        UserError: PyAV is not installed.
    """
    with _opened(path) as container, _told(path):  # all is read inside: PyAV's streams do not outlive their container
        stream = _pictures_of(container, path)
        times, end = [], 0.0
        for packet in container.demux():
            if packet.size and not packet.is_corrupt:
                times += [packet.pts] if packet.stream.index == stream.index else []
                end = max(end, float((packet.pts or 0) * packet.time_base))
        said, lasts = stream.frames, (container.duration or 0) / 1e6  # 0 where the file does not say it
        time_base, rate = stream.time_base, stream.average_rate or stream.guessed_rate or Fraction(25)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
    with contextlib.closing(_decoded(path, "skip")) as frames:
        first = next(frames, None)
        if not times or first is None:
            raise ImageFileError(path, "holds no frame that can be decoded: it is truncated or damaged")
        width, height, turned, curve = first.width, first.height, first.rotation % 180, first.color_trc
    if kind := _HIGH_RANGE.get(curve):
        raise ImageFileError(
            path, f"is of high dynamic range ({kind}), which pictures of styles are not: save it as SDR"
        )
    known = [time for time in times if time is not None]
    span = (max(known) - min(known)) * time_base if known else (len(times) - 1) / rate
    if turned:
        width, height, aspect = height, width, 1 / aspect
    missing = f"of {lasts:.1f} s the last {lasts - end:.1f}" if lasts - end > _SHORT * lasts + 1 / rate else ""
    missing = f"{said - len(times)} of {said} frames" if len(times) < said else missing
    if missing and on_bad_file == "error":
        remedy = f"on_bad_file=skip paints the {len(times)} others"
        raise ImageFileError(path, f"is truncated: {missing} are not in the file; {remedy}")
    return Clip(path, width, height, len(times), float(span + 1 / rate), time_base, rate, aspect, on_bad_file)


def read_frames(clip: Clip, since: int | None = None) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Times in units of the clip's ``time_base``, each later than the one before, and upright frames.

    Args:
        clip: As `inspect_clip` returns it.
        since: Time of the first frame that is wanted; None for all.

    Yields:
        Time, and ``(H, W, 3)`` in RGB.

    Raises:
        ImageFileError: The file is damaged.
    """
    step = max(round(1 / (clip.rate * clip.time_base)), 1)
    last = None
    for frame in _decoded(clip.path, clip.on_bad_file):
        time = frame.pts
        if last is not None:
            time = last + step if time is None else max(time, last + 1)
        last = time or 0
        if since is None or last >= since:
            yield last, _upright(frame)


class Writer:
    """Writes frames as H.264 of 4:2:0 in BT.709, each of which is in the file as soon as it is given.

    H.264 of this kind has even sides: of odd ones the last row or column is there twice. Frames are stored in the order
    in which they are shown, so that parts that were written one after the other can be joined whatever their times are.

    Args:
        path: The file.
        clip: Whose size, times and shape of pixels the frames have.
        quality: 1 ... 100, as of pictures; 95 is a constant rate factor of 14.
        container: FFmpeg's name of one.
    """

    def __init__(self, path: Path, clip: Clip, quality: int, container: str = "nut") -> None:
        (av,) = packages("clips", "video", "av")
        self._av = av
        self._file = av.open(str(path), "w", format=container, options={"flush_packets": "1"})
        factor = min(round(12 + 0.4 * (100 - quality)), 51)
        options = {"crf": str(factor), "preset": "medium", "tune": "zerolatency", "bf": "0"}
        self._stream = self._file.add_stream("libx264", rate=clip.rate, options=options)
        self._stream.width, self._stream.height = (side + side % 2 for side in (clip.width, clip.height))
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = self._stream.time_base = self._time_base = clip.time_base
        context.sample_aspect_ratio = clip.aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED

    def write(self, time: int, pixels: NDArray[np.uint8]) -> None:
        """Add an upright frame ``(H, W, 3)`` in RGB."""
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED)
        frame.pts, frame.time_base = time, self._time_base
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """End the file."""
        self._file.mux(self._stream.encode())
        self._file.close()


def write_frames(path: Path, frames: Sequence[Any], seconds: float, quality: int) -> None:
    """Write an MP4 of frames ``(H, W, 3)`` of one size, each shown for so many seconds; whole or not at all.

    Args:
        path: The file.
        frames: What `numpy.asarray` makes such arrays of, one after the other.
        seconds: Of one frame.
        quality: As for `Writer`.
    """
    height, width = np.asarray(frames[0]).shape[:2]
    time_base = Fraction(seconds).limit_denominator(10_000)
    clip = Clip(path, width, height, len(frames), len(frames) * seconds, time_base, 1 / time_base, Fraction(1), "error")
    with replacing(path) as partial:
        writer = Writer(partial, clip, quality, container_of(path))
        for number, frame in enumerate(frames):
            writer.write(number, np.asarray(frame))
        writer.close()


def times_of(part: Path) -> list[Fraction]:
    """When the frames of a part are shown, in seconds; the last one, should its writer be killed, may be cut off."""
    (av,) = packages("clips", "video", "av")
    try:
        with av.open(str(part)) as file:
            return [packet.pts * packet.time_base for packet in _whole(file, file.streams.video[0])]
    except (av.error.FFmpegError, IndexError):
        return []  # killed before its first frame


def join(parts: Sequence[Path], clip: Clip, path: Path, container: str, software: str = "") -> None:
    """Write a clip of the frames of parts and the sound of the clip, which is copied where the container takes it.

    Args:
        parts: As `Writer` has written them, each with a frame; of a part all before the next one's first is taken.
        clip: Whose sound, and whose title and the like.
        path: The file.
        container: FFmpeg's name of one.
        software: What has made the frames, which `software_of` reads.
    """
    (av,) = packages("clips", "video", "av")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_opened(clip.path))
        options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
        out = stack.enter_context(av.open(str(path), "w", format=container, options=options))
        with av.open(str(parts[0])) as first:
            video = out.add_stream_from_template(first.streams.video[0])
        out.metadata.update(source.metadata)
        video.metadata[_SOFTWARE] = software
        flows = [_of_parts(parts, video)]
        for sound in source.streams.audio:
            if sound.codec_context.name in out.supported_codecs:
                flows.append(_copied(clip.path, sound.index, out.add_stream_from_template(sound)))
            else:
                layout = sound.layout.name if sound.channels > 2 and sound.layout.name in _LAYOUTS else "stereo"
                track = out.add_stream(_SOUND, rate=_SOUND_RATE, layout="mono" if sound.channels == 1 else layout)
                flows.append(_encoded(clip.path, sound.index, track))
        for _, packet in heapq.merge(*flows, key=itemgetter(0)):
            out.mux(packet)


def software_of(path: Path) -> str:
    """What a clip says that has made its frames; empty where it says nothing, or is no clip."""
    try:
        with _opened(path) as file:
            noted = {key.lower(): text for key, text in _pictures_of(file, path).metadata.items()}  # as of Matroska
            return noted.get(_SOFTWARE, "")
    except ImageFileError:
        return ""


def container_of(path: Path) -> str:
    """FFmpeg's name of the container that a file's name stands for."""
    return _CONTAINERS.get(path.suffix.lower(), "mp4")


Timed = tuple[float, Any]  # seconds and packet


def _of_parts(parts: Sequence[Path], track: Any) -> Iterator[Timed]:
    (av,) = packages("clips", "video", "av")
    ends = [times_of(part)[0] for part in parts[1:]]
    for part, end in itertools.zip_longest(parts, ends):
        with av.open(str(part)) as file:
            for packet in _whole(file, file.streams.video[0]):
                if end is not None and packet.pts * packet.time_base >= end:
                    break
                packet.stream = track
                yield float(packet.pts * packet.time_base), packet


def _copied(path: Path, index: int, track: Any) -> Iterator[Timed]:
    last = 0.0
    with _opened(path) as source, _told(path):
        for packet in _whole(source, source.streams[index]):
            last = max(last, float(packet.dts * packet.time_base))
            packet.stream = track
            yield last, packet


def _encoded(path: Path, index: int, track: Any) -> Iterator[Timed]:
    last = 0.0
    with _opened(path) as source, _told(path):
        for frame in itertools.chain(source.decode(source.streams[index]), [None]):  # None ends the track
            for packet in track.encode(frame):
                last = max(last, float(packet.pts * packet.time_base))
                yield last, packet


def _whole(file: Any, stream: Any) -> Iterator[Any]:
    for packet in file.demux(stream):
        if packet.size and not packet.is_corrupt and packet.pts is not None:
            if packet.dts is None:  # of a part that was not closed, or of sound, whose packets are all in order
                packet.dts = packet.pts
            yield packet


def _decoded(path: Path, on_bad_file: OnBadFile) -> Iterator[Any]:
    (av,) = packages("clips", "video", "av")
    with _opened(path) as container, _told(path):
        stream = _pictures_of(container, path)
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if on_bad_file == "error":
                    raise
                continue
            yield from frames


def _upright(frame: Any) -> NDArray[np.uint8]:
    space = frame.colorspace
    if space == _UNSPECIFIED:
        space = _BT709 if frame.height >= _HD else _BT601
    pixels = frame.reformat(format="rgb24", src_colorspace=space).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _pictures_of(container: Any, path: Path) -> Any:
    (av,) = packages("clips", "video", "av")
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise ImageFileError(path, f"holds no moving pictures{', but sound' if container.streams.audio else ''}")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    (av,) = packages("clips", "video", "av")
    try:
        yield
    except av.error.FFmpegError as error:
        raise ImageFileError(path, f"is truncated or damaged ({error.strerror})") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    (av,) = packages("clips", "video", "av")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        damaged = isinstance(error, av.error.InvalidDataError | av.error.EOFError)
        reason = "is no clip, or truncated or damaged" if damaged else f"cannot be read ({error.strerror})"
        raise ImageFileError(path, reason) from error
    with container:
        yield container
