"""The part of `lit-ghibli stylize` that paints clips."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_ghibli.commands._output import check_writable
from lit_ghibli.data.image_files import FolderError
from lit_ghibli.errors import UserError, say
from lit_ghibli.extras import packages
from lit_ghibli.inference.clips import WRITTEN, Clip, inspect_clip, is_clip
from lit_ghibli.inference.picture_files import check_collisions

if TYPE_CHECKING:
    from lit_ghibli.inference.translator import Translator  # which imports torch

_OF_OTHERS = ("inputs", "out", "device", "on_bad_file", "overwrite", "trust", "max_megapixels", "defaults", "hydra")


def stylize_clips(
    inputs: Sequence[str],
    out: str | None,
    name: str,
    config: Any,
    load: Callable[[], "tuple[Translator, str, Any]"],
    missing: Callable[[dict[Path, Path], bool, Callable[[], str]], dict[Path, Path]],
    software: Callable[[], str],
) -> None:
    """Paint clips one after the other, each from where an earlier call has stopped.

    Args:
        inputs: Clips.
        out: A clip's file, or a folder; None: beside each clip.
        name: What stands behind a clip's own name there.
        config: Of the command.
        load: Returns the translator and what it is called.
        missing: Returns the part of a plan that is to be done.
        software: Returns what is noted in a clip of what makes it.

    Raises:
        UserError: A clip, or a value, cannot be used, or the parts of an earlier call have other settings.
    """
    if not 0 <= config.smooth <= 1:
        raise UserError(f"smooth must lie in 0 ... 1; got {config.smooth}")
    packages("clips", "video", "av", "cv2")
    plan = missing(plan_clips(inputs, out, name, overwrite=config.overwrite), config.overwrite, software)
    clips = {path: inspect_clip(clip, config.on_bad_file) for clip, path in plan.items()}
    for clip in clips.values():
        if clip.width * clip.height > config.max_megapixels * 1e6:
            raise UserError(
                f"{clip.path}: frames of {clip.width}x{clip.height} pixels are above max_megapixels="
                f"{config.max_megapixels:g}; raise that if you know the file"
            )
    for folder in {path.parent for path in plan.values()}:
        check_writable(folder)
    if plan:
        translator, what, _ = load()
    for path, clip in clips.items():
        _stylize(clip, path, config, translator, what, software())


def plan_clips(inputs: Sequence[str], out: str | None, name: str, *, overwrite: bool) -> dict[Path, Path]:
    """Where every clip's painted one goes.

    Raises:
        FolderError: One is missing or no clip, ``out`` is no clip's name, or something would be overwritten.
    """
    plan = {}
    for given in map(Path, inputs):
        if not is_clip(given):
            raise FolderError(f"{given} is no clip: give photographs and clips in two calls")
        if not given.is_file():
            raise FolderError(f"{given}: no such clip")
        suffix = given.suffix if given.suffix.lower() in WRITTEN else ".mp4"
        if out is None:
            plan[given] = given.with_name(f"{given.stem}_{name}{suffix}")
        elif Path(out).suffix.lower() in WRITTEN and len(inputs) == 1 and not Path(out).is_dir():
            plan[given] = Path(out)
        elif (Path(out).suffix and not Path(out).is_dir()) or Path(out).is_file():
            raise FolderError(
                f"{out}: one clip is written to a file that ends in {', '.join(WRITTEN)}, others to folders"
            )
        else:
            plan[given] = Path(out) / f"{given.stem}{suffix}"
    check_collisions(plan, overwrite or len(inputs) > 1)
    return plan


def _stylize(clip: Clip, path: Path, config: Any, translator: "Translator", what: str, software: str) -> None:
    from lit_ghibli.inference.video import frames_done, paint_clip, work_folder

    (av,) = packages("clips", "video", "av")
    settings = {
        "clip": f"{clip.path.name} ({clip.path.stat().st_size} bytes)",
        **_plain(config),
        "PyAV": av.__version__,
    }
    started = time.perf_counter()
    with work_folder(path, settings, overwrite=config.overwrite) as folder:
        done = frames_done(folder)
        frames = f"{clip.frames} frames of {clip.width}x{clip.height}, {clip.seconds:.1f} s"
        goes_on = f"; goes on at frame {done + 1}" if done else ""
        say(f"{clip.path}: {frames}, with {what} on {translator.device}{goes_on}")
        shown = partial(_shown, total=clip.frames, done=done)
        errors = paint_clip(clip, path, folder, translator, config.smooth, config.quality, shown, software)
    say(f"{path}, {time.perf_counter() - started:.1f} s{_flicker(errors, config.smooth)}")


def _plain(config: Any) -> dict[str, Any]:
    """The values that the picture depends on."""
    if isinstance(config, SimpleNamespace):
        values = vars(config)
    else:
        from omegaconf import OmegaConf  # Hydra has composed it

        values = OmegaConf.to_container(config, resolve=True)
    from lit_ghibli.inference.styles import PAINTER

    of_others = _OF_OTHERS if config.style == PAINTER else (*_OF_OTHERS, "painter")
    return {key: value for key, value in values.items() if key not in of_others}


def _shown(frames: Iterable, total: int, done: int) -> Iterator:
    from rich.progress import Progress  # whose track() would begin at 0 all the same

    with Progress() as progress:
        task = progress.add_task("Stylizing", total=total, completed=done)
        for frame in frames:
            yield frame
            progress.advance(task)


def _flicker(errors: Sequence[Sequence[float]], smooth: float) -> str:
    if not errors:
        return ""
    source, alone, smoothed = (f"{1e3 * value:.3f}" for value in np.mean(errors, axis=0))
    changed = f"{smoothed} with smooth={smooth:g}, {alone} without" if smooth else alone
    return f"; flicker (warping error, thousandths): {changed}, {source} of the clip itself"
