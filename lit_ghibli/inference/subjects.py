"""What is measured beside each other: runs, checkpoints, styles and folders of pictures, each with a name."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lit_ghibli.errors import UserError
from lit_ghibli.inference.hub import is_address
from lit_ghibli.inference.style_pictures import is_of_one_piece, is_style_pictures

INPUT, UNTOUCHED, AS_TRAINED, TARGET = "input", "untouched input", "as trained", "target"  # of rows and columns
COMPARISON = "comparison.json"  # in a comparison's folder: what was compared, and on which data

_RUN_HOLDS = ("checkpoints", ".hydra")  # what tells a run's folder from one of pictures


def find_subjects(words: Iterable[str]) -> dict[str, Path]:
    """What was given, by its name: the one before a colon, or one made of the path.

    Returns:
        Paths, and names of styles, which are no paths.

    Raises:
        UserError: Nothing is given, something does not exist, or two things have one name.
    """
    from lit_ghibli.inference.load import is_style, like_styles  # here, so that --help answers at once

    given = [_split_name(word) for word in words]
    if not given:
        raise UserError(
            "what is to be compared? Give runs, checkpoints, styles or folders of pictures, each as [NAME:]PATH"
        )
    for _, path in given:
        if not path.exists() and not is_style(path) and not is_address(path):
            raise UserError(f"{path}: no such run, checkpoint or folder of pictures, and no style{like_styles(path)}")
    short = Counter(name or _short_name(path) for name, path in given)
    names = [name or (str(path) if short[_short_name(path)] > 1 else _short_name(path)) for name, path in given]
    for name, count in Counter([*names, UNTOUCHED, TARGET, INPUT]).items():
        if count > 1:
            raise UserError(f"two columns would be called {name!r}: give another name as NAME:PATH")
    return {name: path for name, (_, path) in zip(names, given, strict=True)}


def of_epochs(words: Sequence[str], epochs: Sequence[int]) -> list[str]:
    """The checkpoints that a run kept after these epochs, in place of the run; what was given where none are named.

    Raises:
        UserError: Not one run is given, or it did not keep one of them.
    """
    if not epochs:
        return list(words)
    if len(words) != 1:
        raise UserError(f"epochs={list(epochs)} are those of one run; given are {len(words)} subjects")
    run = _split_name(words[0])[1]
    files = [run / "checkpoints" / f"epoch_{epoch:04d}.ckpt" for epoch in epochs]
    if missing := [str(epoch) for epoch, file in zip(epochs, files, strict=True) if not file.exists()]:
        kept = [str(int(file.stem.removeprefix("epoch_"))) for file in sorted(run.glob("checkpoints/epoch_*.ckpt"))]
        raise UserError(
            f"{run}: no checkpoint of epoch {', '.join(missing)}; it kept {', '.join(kept) or 'none'} (all are kept "
            "with callbacks.checkpoints.keep_epochs=-1)"
        )
    return [f"epoch {epoch}:{file}" for epoch, file in zip(epochs, files, strict=True)]


def is_model(path: Path) -> bool:
    """Whether this is a style, a run's folder or a checkpoint, rather than a folder of pictures."""
    return not path.is_dir() or any((path / name).exists() for name in _RUN_HOLDS)


def is_by_pictures(style: str) -> bool:
    """Whether a style is given by pictures, of which those of a folder are one."""
    from lit_ghibli.inference.styles import PAINTER, find_styles  # which imports torch

    if style in (PAINTER, *find_styles()):
        return False
    return is_style_pictures(style) or not is_model(Path(style).expanduser())


def _split_name(word: str) -> tuple[str | None, Path]:
    """A name before a colon and the path behind it; what exists as a whole is a path, colons and all."""
    name, colon, path = word.partition(":")
    if _at_home(word).exists() or is_of_one_piece(word) or is_address(word) or not (name and colon and path):
        return None, _at_home(word)
    return name, _at_home(path)


def _at_home(path: str) -> Path:
    """A path whose ~ no shell has replaced, since it stands behind a colon."""
    return Path.home() / path[2:] if path.startswith("~/") else Path(path)


def _short_name(path: Path) -> str:
    """The last part of a path; of a run's checkpoint, the run's and its own."""
    path = path.resolve()
    if path.is_file() and path.parent.name == "checkpoints":
        return f"{path.parents[1].name} {path.stem}"
    return path.stem if path.is_file() else path.name
