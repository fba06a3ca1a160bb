"""Painting a clip frame by frame into a folder beside the result, from which a stopped painting goes on."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import named, replacing, write_picture, write_text
from lit_ghibli.inference.clips import Clip, Writer, container_of, join, read_frames, times_of
from lit_ghibli.inference.smoothing import smoothing
from lit_ghibli.inference.translator import Translator
from lit_ghibli.locks import Taken, take

_SETTINGS, _STATE, _FIRST, _JOINED = "settings.json", "state.pt", "first.png", "joined"  # beside parts, NNNN.nut
_ALIKE = 1.0  # levels on average by which pictures of one frame differ at most whose networks are the same

_REMEDY = ": repeat that call to go on with it, or add overwrite=true to begin anew"


@contextmanager
def work_folder(path: Path, settings: Mapping[str, Any], *, overwrite: bool) -> Iterator[Path]:
    """A folder beside a clip that is to be painted, for what is painted of it; this program's alone inside the block.

    Args:
        path: Of the clip.
        settings: By which it is painted; JSON.
        overwrite: Begin anew where the folder is of other settings.

    Raises:
        UserError: It is, without ``overwrite``, or another program paints this clip.
    """
    folder = path.with_name(f"{path.name}.parts")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Beside the folder, which is removed while the lock is held.
        lock = take(
            path.with_name(f".{path.name}.lock"),
            lambda who: say(f"{path}: looking whether {who} still paints it"),
        )
    except Taken as error:
        raise UserError(f"{path}: {error} paints it: wait for it") from error
    with lock:
        folder.mkdir(exist_ok=True)
        noted = folder / _SETTINGS
        before = json.loads(noted.read_text()) if noted.is_file() else None
        if before not in (None, settings) and not overwrite:
            changed = [key for key in settings if before.get(key) != settings[key]]
            was, now = (", ".join(f"{key}={each.get(key)}" for key in changed) for each in (before, settings))
            raise UserError(f"{folder} is of a call that was stopped, with {was}; now it is {now}{_REMEDY}")
        if before != settings:
            _clear(folder)
            write_text(noted, json.dumps(settings, indent=2))
        try:
            yield folder
        finally:
            if folder.is_dir() and not (folder / _STATE).exists():
                shutil.rmtree(folder)  # of which no frame was painted


def frames_done(folder: Path) -> int:
    """How many frames a folder has from earlier calls."""
    state = _read_state(folder)
    return state["count"] if state else 0


def paint_clip(
    clip: Clip,
    path: Path,
    folder: Path,
    translator: Translator,
    smooth: float,
    quality: int,
    shown: Callable[[Iterable], Iterable] = iter,
    software: str = "",
) -> list[list[float]]:
    """Paint the frames that are missing, and join all with the clip's sound.

    Every frame is in the folder as soon as it is painted.

    Args:
        clip: What is painted.
        path: Of the painted clip.
        folder: As of `work_folder`; is removed at the end.
        translator: Paints single frames.
        smooth: As for `Smoother`.
        quality: As for `Writer`.
        shown: Passes frames through and shows that.
        software: What is noted in the clip of what has made it.

    Returns:
        The warping errors, as `Smoother` measures them.

    Raises:
        ImageFileError: The clip is damaged.
        UserError: The network is not that of the frames in the folder.
    """
    state = _read_state(folder)
    frames = read_frames(clip, state and state["time"])
    _check_network(folder, clip, translator, new=state is None)
    with smoothing(translator, smooth) as smoother:
        if state:
            smoother.load_state_dict(state, next(frames)[1])
        writer = None
        try:
            for time, frame in shown(frames):
                picture = smoother(frame)
                writer = writer or Writer(folder / f"{len(_parts(folder)):04d}.nut", clip, quality)
                writer.write(time, picture)
                _write_state({"time": time, **smoother.state_dict()}, folder / _STATE)
        finally:
            if writer:
                writer.close()
    joined = folder / _JOINED
    join([part for part in _parts(folder) if times_of(part)], clip, joined, container_of(path), software)
    os.replace(joined, path)
    shutil.rmtree(folder)
    return smoother.errors


def _check_network(folder: Path, clip: Clip, translator: Translator, *, new: bool) -> None:
    """Note the picture of the first frame, or compare it with the one noted: weights can change in their file."""
    picture = translator(next(read_frames(clip))[1])
    noted = folder / _FIRST
    if new:
        write_picture(Image.fromarray(picture), noted)
    elif np.abs(np.asarray(open_image(noted), np.float32) - picture).mean() > _ALIKE:
        raise UserError(f"{folder} is of a call that was stopped, with other weights{_REMEDY}")


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.nut"))


def _write_state(state: Mapping[str, Any], path: Path) -> None:
    content = io.BytesIO()  # torch's writer of files hides a full disk behind what follows from it
    torch.save(state, content)
    with named(path), replacing(path) as partial:
        partial.write_bytes(content.getbuffer())


def _read_state(folder: Path) -> dict[str, Any] | None:
    file = folder / _STATE
    return torch.load(file, map_location="cpu", weights_only=True) if file.is_file() else None


def _clear(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
