"""`lit-ghibli stylize`: turn photographs into a style, or into that of a trained run.

A style needs neither Hydra nor Lightning, whose imports take longer than the painting: what is typed is looked
through without them where it is plain, and Hydra composes, or says what is wrong with, everything else.
"""

import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml
from PIL import Image

from lit_ghibli.commands import STDIO, split_options, to_overrides
from lit_ghibli.commands._idle import IN_TILES, refuse_idle, refuse_idle_words
from lit_ghibli.commands._made_by import made_by, refuse_others
from lit_ghibli.commands._output import check_writable, write_output
from lit_ghibli.data.image_files import WRITTEN, FolderError, ImageFileError, file_kind, open_image, size_of
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import config_dir, explain
from lit_ghibli.inference.clips import WRITTEN as WRITTEN_CLIPS
from lit_ghibli.inference.clips import is_clip
from lit_ghibli.inference.clips import software_of as software_of_clip
from lit_ghibli.inference.picture_files import OF_QUALITY, plan_outputs, save_like
from lit_ghibli.inference.picture_metadata import software_of
from lit_ghibli.inference.subjects import is_by_pictures

if TYPE_CHECKING:
    from lit_ghibli.inference.translator import Translator  # which imports torch; --help answers without

_HYDRA_COMPOSES = ("checkpoint", "solver", "steps", "direction", "weights", "device")  # of more than styles
# All but tiles, which do not show
_MAKES = (
    "size", "strength", "keep_colors", "stroke", "scale", "solver", "steps", "direction", "weights", "quality"
)  # fmt: skip


def stylize(config: Any) -> None:
    """Translate ``inputs``; a bad file does not keep the others from being translated."""
    from lit_ghibli.inference.styles import DEFAULT, PAINTER, describe_styles, find_style

    if config.style == "?":
        print(describe_styles())
        return
    inputs = [config.inputs] if isinstance(config.inputs, str) else [str(given) for given in config.inputs]
    if not inputs:
        raise UserError("no photographs given: lit-ghibli stylize photo.jpg painted.jpg")
    if not (isinstance(config.quality, int) and 1 <= config.quality <= 100):
        raise UserError(f"quality must be a whole number in 1 ... 100; got {config.quality}")
    if not config.max_megapixels > 0:
        raise UserError(f"max_megapixels must be more than 0; got {config.max_megapixels}")
    Image.MAX_IMAGE_PIXELS = round(config.max_megapixels * 1e6)
    if config.on_bad_file not in ("error", "skip"):
        raise UserError(f"on_bad_file is error or skip; got {config.on_bad_file}")
    style = str(config.style or DEFAULT)
    by_pictures = is_by_pictures(style)
    if config.checkpoint and config.style and not by_pictures:
        raise UserError("checkpoint= and style= are two ways to say in what style: give one of them, or style=PICTURE")
    name = re.sub(r"[:,]", "_", Path(style).stem if by_pictures else style)
    if config.checkpoint and not config.style:
        name = "picture"
    elif not by_pictures and name != PAINTER:
        find_style(style)  # what is wrong is said before anything is planned
    clips = any(map(is_clip, inputs))
    if not clips:
        refuse_idle("stylize", config, ["smooth"], "clips")
    if style != PAINTER and hasattr(config, "painter"):
        refuse_idle_words(r"painter\b", "style=painter")
    inputs, out = _split_output(inputs, None if config.out is None else str(config.out))
    if STDIO in (*inputs, out):
        _pipe(inputs, out, config)
        return
    if clips:
        from lit_ghibli.commands._clip import stylize_clips

        stylize_clips(
            inputs, out, name, config, lambda: _translator(config), _missing, partial(_software, config, "smooth")
        )
        return
    software = partial(_software, config)
    plan = plan_outputs(inputs, out, name=name, overwrite=config.overwrite)
    if all(path.suffix.lower() not in OF_QUALITY for path in plan.values()):
        refuse_idle("stylize", config, ["quality"], f"{', '.join(OF_QUALITY)} and clips")
    plan = _missing(plan, config.overwrite, software)
    if not plan:
        return
    for folder in {path.parent for path in plan.values()}:
        check_writable(folder)
    translator, what, solvers = _translator(config)
    say(f"{len(plan)} photograph{'s' * (len(plan) > 1)} with {what} on {translator.device}")
    started = time.perf_counter()
    good, bad = _translate(plan, translator, config.quality, software())
    if good:
        common = Path(os.path.commonpath([path.parent for path in plan.values()]))
        where = plan[good[0]] if len(plan) == 1 else f"{len(good)} pictures in {common}/"
        say(f"{where}, {time.perf_counter() - started:.1f} s")
    if good and solvers:
        from lit_ghibli.inference.measure import describe_solver

        difference = describe_solver(*solvers, open_image(good[0]))
        say(f"{good[0]} (only the first, to save time): {difference}")
    if bad:
        lines = [f"{len(bad)} of {len(plan)} files could not be translated:", *(f"  {line}" for line in bad)]
        if config.on_bad_file == "error":
            raise FolderError(*lines)
        say(*lines)


def _software(config: Any, *more: str) -> str:
    """What is noted in a picture of what makes it: its style or run, and the settings of these and of ``more`` keys."""
    from lit_ghibli.inference.style_pictures import find_style_pictures, names_files
    from lit_ghibli.inference.styles import DEFAULT, PAINTER, find_style

    words, files, painter = {key: getattr(config, key) for key in (*_MAKES, *more)}, [], None
    style = str(config.style or DEFAULT)
    if config.checkpoint:
        files.append(path := _checkpoint(config))
        words = {"checkpoint": path.parents[1].name if path.parent.name == "checkpoints" else path.name} | words
    if config.style or not config.checkpoint:
        words = {"style": re.sub(r"[^,:]*/", "", style.rstrip("/"))} | words  # folders may say who somebody is
        if is_by_pictures(style):
            pictures = find_style_pictures(style).files if names_files(style) else []
            files += [picture for picture in pictures if size_of(picture)]  # which refuses what would be waited for
        elif style == PAINTER:
            from omegaconf import OmegaConf  # Hydra has composed it

            painter = OmegaConf.to_container(config.painter, resolve=True)
        else:
            files.append(find_style(style))
    return made_by(words, files, painter)


def _checkpoint(config: Any) -> Path:
    from lit_ghibli import checkpoints
    from lit_ghibli.inference.load import find_checkpoint

    return find_checkpoint(checkpoints.newest_run() if config.checkpoint == "newest" else config.checkpoint)


def _missing(plan: dict[Path, Path], overwrite: bool, software: Callable[[], str]) -> dict[Path, Path]:
    """The part of a plan that is to be done, after a line about the rest.

    Raises:
        UserError: Something else has made a part of the rest.
    """
    other = Counter((photo.suffix, path.suffix) for photo, path in plan.items() if photo.suffix != path.suffix)
    if other and len(plan) > 1:
        print(", ".join(f"{count} {read} written as {written}" for (read, written), count in sorted(other.items())))
    missing = plan if overwrite else {photo: path for photo, path in plan.items() if not path.exists()}
    if len(missing) < len(plan):
        there = [path for photo, path in plan.items() if photo not in missing]
        refuse_others({path: (software_of_clip if is_clip(path) else software_of)(path) for path in there}, software())
        print(f"{len(plan) - len(missing)} there already, {len(missing)} to do; overwrite=true does all again")
    return missing


def _split_output(inputs: list[str], out: str | None) -> tuple[list[str], str | None]:
    """The photographs, and where to: also the second of two words is the picture's file."""
    if out is not None or len(inputs) != 2:
        return inputs, out
    if inputs[1] == STDIO:
        return inputs[:1], STDIO
    written = WRITTEN_CLIPS if is_clip(inputs[0]) else WRITTEN
    if Path(inputs[1]).suffix.lower() not in written or Path(inputs[0]).is_dir():
        return inputs, out
    if Path(inputs[1]).exists():
        raise UserError(
            f"{inputs[1]} exists already: --out {inputs[1]} overwrite=true replaces it; --out FOLDER takes both as "
            f"{'clips' if is_clip(inputs[0]) else 'photographs'}"
        )
    return inputs[:1], inputs[1]


def _pipe(inputs: list[str], out: str | None, config: Any) -> None:
    """From standard input, or to standard output, where nothing else is then written; or both."""
    if len(inputs) > 1 or Path(inputs[0]).is_dir():
        raise UserError("- is one photograph of standard input, or one picture of standard output: give no others")
    to_file = out not in (None, STDIO)
    if to_file and Path(out).suffix.lower() not in WRITTEN:
        raise UserError(f"{out}: name the picture's file, which ends in {', '.join(WRITTEN)}, or - for the output")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        photo = Path(inputs[0])
        if inputs == [STDIO]:
            photo = Path(folder, "photograph")
            photo.write_bytes(sys.stdin.buffer.read())
        try:
            open_image(photo)  # what is wrong with it is said before anything is loaded
        except ImageFileError as error:
            raise ImageFileError("standard input" if inputs == [STDIO] else photo, error.reason) from error
        picture = Path(out) if to_file else Path(folder, f"picture.{file_kind(photo)}")
        plan = plan_outputs([photo], picture, overwrite=config.overwrite)
        if picture.suffix.lower() not in OF_QUALITY:
            refuse_idle("stylize", config, ["quality"], f"{', '.join(OF_QUALITY)} and clips")
        translator, *_ = _translator(config)
        _, bad = _translate(plan, translator, config.quality, _software(config))
        if bad:
            raise FolderError(bad[0])
        if not to_file:
            write_output(picture.read_bytes())


def _translator(config: Any) -> "tuple[Translator, str, tuple[Translator, Translator] | None]":
    """The function on pictures, what it is called, and, if solved otherwise than in training, its own and that."""
    from lit_ghibli.inference.load import AHEAD, choose_device, load_painter, load_translator, options_of
    from lit_ghibli.inference.styles import DEFAULT, PAINTER, load_style

    style = str(config.style or DEFAULT)
    of_run = config.checkpoint and not config.style
    if of_run:
        refuse_idle("stylize", config, ["stroke", "scale"], "styles (a run has size=)")
    else:
        refuse_idle("stylize", config, ["size"], "runs (a style has stroke=, one by pictures scale=)")
        options = options_of(
            style, {key: getattr(config, key) for key in ("strength", "keep_colors", "stroke", "scale")}
        )
    if config.checkpoint:
        path = _checkpoint(config)
        trained, recipe = load_translator(path, config.device, config.tile, config.direction, config.weights)
        if trained.tile != config.tile:
            refuse_idle("stylize", config, ["tile"], IN_TILES)
        translator = trained.with_solver(config.solver, config.steps)
        if not of_run:
            return translator.with_style(style, **options), f"{path} and style {style}", None
        data = (recipe or {}).get("data", {})
        seen = None if config.size else data.get("load_size") or data.get("size")
        what = f"{path} (size={seen} paints as in training)" if seen else str(path)
        solvers = (translator, trained) if translator is not trained else None
        return translator.with_size(config.size, config.strength, config.keep_colors), what, solvers
    if (config.solver, config.steps, config.direction, config.weights) != (None, None, AHEAD, None):
        raise UserError("solver, steps, direction and weights are of runs: give checkpoint=<a run> with them")
    device = choose_device(config.device)
    if is_by_pictures(style):
        from lit_ghibli.inference.stylization import open_stylization
        from lit_ghibli.inference.translator import Translator

        stylization = open_stylization(style, device, config.tile, **options)
        return Translator(stylization, device, tile=0), f"style {style}", None
    refuse_idle("stylize", config, ["tile"], IN_TILES)
    if style == PAINTER:
        from lit_ghibli.recipes import build

        return load_painter(device, build(config.painter), **options), "the painter", None
    return load_style(style, device, **options), f"style {style}", None


def _translate(
    plan: dict[Path, Path], translator: Callable[[Image.Image], Image.Image], quality: int, software: str
) -> tuple[list[Path], list[str]]:
    """Write the picture of every photograph; return the photographs that could be read, and what ails the others."""
    good, bad = [], []
    items = plan.items()
    if len(items) > 1:
        from rich.progress import track

        items = track(items, description="Stylizing")
    for photo, path in items:
        try:
            save_like(translator(open_image(photo)), photo, path, quality=quality, software=software)
            good.append(photo)
        except ImageFileError as error:
            bad.append(str(error))
    return good, bad


def _composed_plainly(words: list[str]) -> SimpleNamespace | None:
    """The configuration that words come to that need no Hydra; None where they need it, or where it has to object."""
    try:
        options, overrides = split_options(to_overrides("stylize", words))
    except UserError:
        return None
    values = yaml.safe_load(Path(config_dir(), "stylize.yaml").read_text())
    given = dict(override.partition("=")[::2] for override in overrides)
    if options or len(given) < len(overrides):
        return None
    for key, text in given.items():
        try:
            value = text if text == "?" else yaml.safe_load(text)
        except yaml.YAMLError:
            return None
        kind = type(values.get(key))
        alike = type(value) in (kind, {float: int}.get(kind)) or (type(value), kind) == (str, type(None))
        other_grammar = "${" in text or "\\" in text or not text.isprintable()  # which YAML reads in another way
        negative = isinstance(value, int | float) and value < 0
        hydras = key not in values or key in ("defaults", "hydra", *_HYDRA_COMPOSES)
        if hydras or other_grammar or not alike or negative:
            return None
        values[key] = value
    return None if values["style"] == "painter" else SimpleNamespace(**values)


def main() -> None:
    """Compose with Hydra only what needs it."""
    config = _composed_plainly(sys.argv[1:])
    if config is None:
        from lit_ghibli.commands._hydra import command

        command("stylize")(stylize)()
        return
    try:
        stylize(config)
    except (UserError, OSError) as error:
        message = explain(error) if isinstance(error, OSError) else str(error)
        raise SystemExit(f"lit-ghibli stylize: {message}") from error


if __name__ == "__main__":
    main()
