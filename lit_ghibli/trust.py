"""What files from strangers may make and where they may write: checkpoints, recorded runs, studies.

Objects of the classes that are listed here, which write into the run's own folder or into one that is a cache already.
Nothing is fetched while a checkpoint is loaded. ``trust=true`` lifts this where somebody knows whose a run is; what the
same user has begun is known by its signature.
"""

import contextlib
import functools
import hashlib
import hmac
import importlib
import inspect
import json
import os
import re
import secrets
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError
from lit_ghibli.files import default_cache_dir
from lit_ghibli.networks.weights import without_fetching
from lit_ghibli.recipes import as_user_errors, build, parse

# Where the classes are defined that configurations of methods and data name, and of which kind these are: no function
# is, for those of the same modules read, fetch and write.
_TRUSTED: dict[str, type] = {
    "lit_ghibli.methods.": nn.Module,
    "lit_ghibli.networks.": nn.Module,
    "lit_ghibli.metrics.suite.": nn.Module,
    "torch.optim.": Optimizer,
    "lit_ghibli.data.transforms.": object,
    "lit_ghibli.painter.painter.": object,
    "lit_ghibli.painter.palette.": object,
}
_DATA = tuple(f"lit_ghibli.data.{name}." for name in ("unpaired", "paired", "pseudo_paired", "iterations"))
_LARGEST = 4096  # number that a network's configuration may hold: of channels, or of blocks, which are all made
_MOST = 10_000  # values of a configuration
_SIGNED = {"attempts": list[dict[str, Any]]}
_RESOLVERS = ("half", "share")  # of interpolations, which compute numbers

# What a recorded run of the suite consists of.
_CALLBACKS = (
    "checkpointing.RunCheckpoints",
    "doctor.Doctor",
    "ema.Ema",
    "frames.Frames",
    "image_grid.ImageGrid",
    "loss_table.LossTable",
    "progress.RunProgress",
    "watch.Watch",
)
# Loggers that send pictures away are missing on purpose.
_MADE_BY = {
    "callbacks": ("lightning.pytorch.callbacks.RichProgressBar", *(f"lit_ghibli.callbacks.{x}" for x in _CALLBACKS)),
    "logger": (
        "lit_ghibli.callbacks.csv_log.ContinuedCSVLogger",
        "lit_ghibli.callbacks.tensorboard_log.ContinuedTensorBoardLogger",
    ),
    "trainer": ("lightning.Trainer", "lit_ghibli.training.exchange.PhasewiseDDP"),
}
_LOGGERS = ("csv", "tensorboard", "none")  # choices of the group that make those
_FOLDERS = ("folder", "save_dir", "result", "default_root_dir")  # what is written into and cleared


_all_trusted = ContextVar("_all_trusted", default=False)


@contextlib.contextmanager
def trusting() -> Iterator[None]:
    """In the block, checkpoints may make objects of any class, fetch, and make caches anywhere."""
    before = _all_trusted.set(True)
    try:
        yield
    finally:
        _all_trusted.reset(before)


def is_trusting() -> bool:
    """Whether the block of `trusting` is this one."""
    return _all_trusted.get()


def instantiate_trusted(config: dict[str, Any], typed: Container[str] = (), **arguments: Any) -> Any:
    """Instantiate a configuration out of a checkpoint, which may come from a stranger.

    Args:
        config: Of a method or of data.
        typed: Keys whose values are not the checkpoint's but were typed.
        arguments: Further ones of the object.

    Raises:
        UserError: It names a class or function other than this suite's methods, networks, data and metrics and
            torch's optimisers, a network of senseless size, a new folder elsewhere, holds an interpolation, which
            could produce such a name, or values that do not fit.
    """
    if _all_trusted.get():
        with as_user_errors():
            return build(config, **arguments)
    for number, (key, value) in enumerate(leaves(config)):
        if number == _MOST:
            raise _refusal(f"holds more than {_MOST:,} values")
        if key == "_target_" and not is_trusted(str(value)):
            raise _refusal(f"asks for '{value}', which is no part of a method")
        if "${" in str(value):
            raise _refusal(f"holds '{value}', an interpolation that may hide anything")
        if key == "cache_dir" and key not in typed and not _is_cache(value):
            raise _refusal(f"asks for a new folder {value}; give one with data.cache_dir=FOLDER")
    for key, value in _sizes(config):
        if abs(value) > _LARGEST:
            raise _refusal(f"asks for a network of {key}={value}, above {_LARGEST}")
    with as_user_errors(), without_fetching():  # of a version that took other values
        return build(config, **arguments)


def _refusal(why: str) -> UserError:
    return UserError(
        f"the checkpoint's configuration {why}. Only if you know whose it is, add trust=true; in Python, "
        "load(PATH, trust=True)"
    )


def trusted_class(config: dict[str, Any]) -> type:
    """The class that a configuration out of a checkpoint names, without making an object of it.

    Raises:
        UserError: It is no part of a method.
    """
    target = str(config.get("_target_"))
    if (found := _find(target, _all_trusted.get())) is None:
        raise _refusal(f"asks for '{target}', which is no part of a method")
    return found


def import_targets(config: dict[str, Any]) -> None:
    """Import what a configuration out of a checkpoint names, as far as it is part of a method or of its data."""
    for key, value in leaves(config):
        if key == "_target_":  # what is not trusted is refused where objects are made
            _find(str(value), _all_trusted.get())


def leaves(config: Any, key: Any = None) -> Iterator[tuple[Any, Any]]:
    """Every value that is no container, with the nearest key above it."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield from leaves(value, name)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from leaves(value, key)
    else:
        yield key, config


def _sizes(config: Any, network: bool = False) -> Iterator[tuple[str, int]]:
    """The whole numbers of the parts of a configuration that are networks, with their keys."""
    if isinstance(config, dict):
        network = network or str(config.get("_target_")).startswith("lit_ghibli.networks.")
        for name, value in config.items():
            if network and type(value) is int and name != "seed":
                yield name, value
            yield from _sizes(value, network)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _sizes({"sizes": value} if type(value) is int else value, network)


@functools.cache
def _find(target: str, anything: bool = False) -> Any:
    """The class of this name, or the function of one that makes it, if it is trusted or anything is, else None.

    'lit_ghibli.data.cache.os.system' is not, nor is what a module has from another.
    """
    if not anything and not target.startswith((*_TRUSTED, *_DATA)):
        return None
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for name in parts[length:]:
            found = getattr(found, name, None)
            if not anything and not f"{getattr(found, '__module__', '')}.".startswith((*_TRUSTED, *_DATA)):
                return None
        return found if anything or _is_listed(found) else None
    return None


def _is_listed(found: Any) -> bool:
    if f"{found.__module__}.".startswith(_DATA):
        from lightning import LightningDataModule

        made = found.__self__ if inspect.ismethod(found) else found
        return isinstance(made, type) and issubclass(made, LightningDataModule)
    kinds = [kind for module, kind in _TRUSTED.items() if f"{found.__module__}.".startswith(module)]
    return isinstance(found, type) and issubclass(found, tuple(kinds)) and not found.__name__.startswith("_")


def is_trusted(target: str) -> bool:
    """Whether a stranger's configuration may name this object."""
    return _find(target) is not None


def check_run(config: Mapping[str, Any], run: Path) -> None:
    """Refuse what a recorded run of the suite does not consist of.

    Methods, data and metrics may be what they may be in a checkpoint; callbacks, loggers and the trainer those of
    ``conf/`` that keep what they see on this machine, and they may write into ``run_dir`` alone.

    Args:
        config: The resolved configuration, which is what will be instantiated.
        run: The recorded run, for messages.

    Raises:
        UserError: Naming what is refused, and how somebody who knows where the run is from can do it nevertheless.
    """
    inside = Path(config["run_dir"]).resolve()
    for place, key, value in _values(config):
        part = place.split(".")[0]
        if "${" in str(value):
            why = "an interpolation, which may hide anything"
        elif key == "_target_" and not _may_make(part, str(value)):
            why = "no part of the suite's own trainings, or sends pictures away"
        elif part in _MADE_BY and key != "_target_" and not _stays_inside(key, value, inside):
            why = f"no place below {inside}"
        elif key == "cache_dir" and not _is_cache(value):
            why = "no cache of yours"
        else:
            continue
        without = f"Give another with {place}.{key}=FOLDER" if key == "cache_dir" else f"Leave that out with ~{place}"
        raise UserError(
            f"{run} is refused: {key}={value} in its {place} is {why}. {without}; or, only if you know whose it is, "
            "repeat it as it is with trust=true"
        )


def signature(words: Sequence[str]) -> str | None:
    """What only this user can have noted beside words that a run was begun with; None where no secret can be kept."""
    path = default_cache_dir() / f"secret-{os.getuid()}"
    with contextlib.suppress(OSError):
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), open(path, "xb", opener=_for_me) as file:
                file.write(secrets.token_bytes(32))
        key = path.read_bytes()
        if len(key) == 32 and path.stat().st_uid == os.getuid():
            return hmac.new(key, json.dumps(list(words)).encode(), hashlib.sha256).hexdigest()
    return None


def is_own(words: Sequence[str], run: Path) -> bool:
    """Whether this user has begun a run of these words, as its record proves."""
    with contextlib.suppress(DocumentError):
        attempts = read_json(run / "record.json", _SIGNED)["attempts"]
        if mine := signature(words):
            return any(hmac.compare_digest(mine, str(attempt.get("signature"))) for attempt in attempts)
    return False


def _for_me(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def check_words(words: Iterable[str], where: str, folder: Path) -> None:
    """Refuse words of a command line that a file holds, where they would do what a run may not.

    Args:
        words: As somebody might have typed them, ``key=value``.
        where: The file, for messages.
        folder: In which what they begin may write.

    Raises:
        UserError: Naming the first one that is refused, and how somebody who knows whose file it is can do it.
    """
    for word in words:
        if why := _why_refused(word, folder.resolve()):
            raise UserError(
                f"{where} is refused: its word {word!r} {why}; only if you know whose it is, add trust=true"
            )


def _why_refused(word: str, folder: Path) -> str:
    """What speaks against a word; empty for none."""
    if word.startswith("-"):
        return "is an option"
    if not word.isprintable():
        return "holds more than text"
    for head, end in re.findall(r"\$\{([^:{}$]*)([:{}$]|$)", word):
        if end != "}" and (end != ":" or head.strip() not in _RESOLVERS):
            return "holds an interpolation, which may hide anything"
    if not re.match(r"[^\s:=]+\s*=", word):  # a folder, or what is to be left out
        return ""
    override = parse(word)
    key = override.key_or_group
    part, last = re.split(r"[./]", key)[0], re.split(r"[./]", key)[-1]
    if "hydra" in (part, str(override.package).split(".")[0]):
        return "says how Hydra works"
    if override.is_sweep_override():
        return "has several values"
    if key == "trust":
        return "says whom to trust"
    if key in ("out", "run_dir", "resume"):
        return "says where to write" if key == "out" or not _is_below(str(override.value()), folder) else ""
    if key == "logger" and any(choice not in _LOGGERS for _, choice in leaves(override.value())):
        return "sends pictures away"
    for name, value in leaves(override.value(), last):
        if name == "_target_" and not _may_make(part, str(value)):
            return "makes what is no part of the suite's own trainings"
        if name == "journal" and _resolved(str(value)).parent in folder.parents[:2]:
            continue  # of the search that this run is a trial of
        if name != "_target_" and part in _MADE_BY and not _stays_inside(name, value, folder):
            return f"names no place below {folder}"
        if name == "cache_dir" and not _is_cache(value):
            return "names no cache of yours"
    return ""


def _values(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Every value, with the key that it has and the dotted name of the part that it belongs to."""
    for part, content in config.items():
        named = content.items() if part in ("callbacks", "logger") and isinstance(content, Mapping) else ()
        places = {f"{part}.{name}": (name, child) for name, child in named} or {part: (part, content)}
        for place, (name, child) in places.items():
            yield from ((place, key, value) for key, value in leaves(child, name))


def _may_make(part: str, target: str) -> bool:
    return target in _MADE_BY[part] if part in _MADE_BY else is_trusted(target)


def _stays_inside(key: str, value: Any, inside: Path) -> bool:
    """Whether a value is no path, or one in the run's folder."""
    if not isinstance(value, str):
        return True
    if key in _FOLDERS:
        return _is_below(value, inside) and (key == "save_dir" or _resolved(value) != inside)
    path = Path(value)  # or some other text, which is let through
    if path.is_absolute() and _is_below(value, inside):
        return True
    return not (path.is_absolute() or ".." in path.parts or value.startswith("~") or "$" in value)


def _is_below(value: str, folder: Path) -> bool:
    path = _resolved(value)
    return folder in (path, *path.parents)


def _is_cache(value: Any) -> bool:
    """Whether pictures may be cached here: in the user's own cache, or in what is one already."""
    if value is None or _is_below(str(value), default_cache_dir().resolve()):
        return True
    return any(_resolved(str(value)).glob("*.pack"))


def _resolved(value: str) -> Path:
    return Path(os.path.expandvars(value)).expanduser().resolve()
