"""What `lit-ghibli compare` is given: runs, checkpoints, folders of pictures, and where held-out ones come from."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lit_ghibli.errors import UserError

UNTOUCHED, TARGET = "untouched input", "target"

_RUN_HOLDS = ("checkpoints", ".hydra")  # what tells a run's folder from one of pictures

Data = dict[str, Any]  # configuration of a data module


def find_subjects(words: Iterable[str]) -> dict[str, Path]:
    """What was given, by its name: the one before a colon, or one made of the path.

    Raises:
        UserError: Nothing is given, something does not exist, or two things have one name.
    """
    given = [_split_name(word) for word in words]
    if not given:
        raise UserError("what is to be compared? Give runs, checkpoints or folders of pictures, each as [NAME:]PATH")
    for _, path in given:
        if not path.exists():
            raise UserError(f"{path}: no such run, checkpoint or folder of pictures")
    short = Counter(name or _short_name(path) for name, path in given)
    names = [name or (str(path) if short[_short_name(path)] > 1 else _short_name(path)) for name, path in given]
    for name, count in Counter([*names, UNTOUCHED, TARGET, "input"]).items():
        if count > 1:
            raise UserError(f"two columns would be called {name!r}: give another name as NAME:PATH")
    return {name: path for name, (_, path) in zip(names, given, strict=True)}


def is_run(path: Path) -> bool:
    """Whether a path is a run's folder or a checkpoint, rather than a folder of pictures."""
    return path.is_file() or any((path / name).exists() for name in _RUN_HOLDS)


def data_config(config: Mapping[str, Any], of_run: Data | None) -> Data:
    """Where held-out pictures come from: the folders given, or the data of the first run.

    Args:
        config: The command's values, of which `photos`, `targets`, `folders` and `data` decide.
        of_run: Data configuration of the first run, if there is one.

    Raises:
        UserError: Neither is known, or the folders do not exist.
    """
    folders = config["folders"]
    given = {name: config[name] for name in ("photos", "targets") if config[name] is not None}
    for name, folder in given.items():
        if not Path(folder).is_dir():
            raise UserError(f"{name}={folder}: no such folder")
    if len(given) == 1:
        raise UserError(f"{next(iter(given))} is given alone: give photos=FOLDER and targets=FOLDER together")
    if given:
        places = {name: str(Path(folder).absolute()) for name, folder in given.items()}
        of_run = {**folders, "root": ".", "test_photo": places["photos"], "test_anime": places["targets"]}
    elif of_run is None and "root" not in config["data"]:
        raise UserError(
            "folders of pictures do not say what they were made of: give photos=FOLDER and targets=FOLDER, or "
            f"data.root=FOLDER with {folders['test_photo']}/ and {folders['test_anime']}/ in it"
        )
    return merged(folders if of_run is None else of_run, config["data"])


def merged(data: Data, values: Mapping[str, Any]) -> Data:
    """A data module's configuration with some values replaced, in groups of values only those that are named."""
    both = {key: (data[key], value) for key, value in values.items() if isinstance(data.get(key), Mapping)}
    groups = {key: merged(old, new) for key, (old, new) in both.items() if isinstance(new, Mapping)}
    return {**data, **values, **groups}


def _split_name(word: str) -> tuple[str | None, Path]:
    """A name before a colon and the path behind it; what exists as a whole is a path, colons and all."""
    name, colon, path = word.partition(":")
    if _at_home(word).exists() or not (name and colon and path):
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
