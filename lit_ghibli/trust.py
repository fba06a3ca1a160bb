"""What a stranger's checkpoint or recorded run may make: objects of the suite's own, in its own folder."""

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lit_ghibli.errors import UserError
from lit_ghibli.recipes import as_user_errors, build

# Only what configurations of methods and data name: the rest of the suite writes files where its arguments say.
_TRUSTED = ("lit_ghibli.methods.", "lit_ghibli.networks.", "lit_ghibli.metrics.", "lit_ghibli.painter.", "torch.optim.")
_TRUSTED += tuple(
    f"lit_ghibli.data.{name}." for name in ("unpaired", "paired", "pseudo_paired", "transforms", "iterations")
)

# What a recorded run of the suite consists of.
_CALLBACKS = (
    "checkpointing.RunCheckpoints",
    "doctor.Doctor",
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
    "trainer": ("lightning.Trainer",),
}
_FOLDERS = ("folder", "save_dir", "result", "default_root_dir")  # what is written into and cleared


def instantiate_trusted(config: dict[str, Any], **arguments: Any) -> Any:
    """Instantiate a configuration out of a checkpoint, which may come from a stranger.

    Raises:
        UserError: It names a class or function other than this suite's methods, networks, data and metrics and
            torch's optimisers, holds an interpolation, which could produce such a name, or values that do not fit.
    """
    for key, value in leaves(config):
        if key == "_target_" and not is_trusted(str(value)):
            raise UserError(f"the checkpoint's configuration asks for '{value}', which is no part of a method")
        if "${" in str(value):
            raise UserError(f"the checkpoint's configuration holds '{value}', an interpolation that may hide anything")
    with as_user_errors():  # of a version that took other values
        return build(config, **arguments)


def trusted_class(config: dict[str, Any]) -> type:
    """The class that a configuration out of a checkpoint names, without making an object of it.

    Raises:
        UserError: It is no part of a method.
    """
    target = str(config.get("_target_"))
    if (found := _find(target)) is None:
        raise UserError(f"the checkpoint's configuration asks for '{target}', which is no part of a method")
    return found


def import_targets(config: dict[str, Any]) -> None:
    """Import what a configuration out of a checkpoint names, as far as it is part of a method or of its data."""
    for key, value in leaves(config):
        if key == "_target_":  # what is not trusted is refused where objects are made
            _find(str(value))


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


def _find(target: str) -> Any:
    """The object of this name if it was defined in a trusted module, else None.

    'lit_ghibli.data.cache.os.system' was not. Of methods only classes count, whose functions read files.
    """
    if not target.startswith(_TRUSTED):
        return None
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for name in parts[length:]:
            found = getattr(found, name, None)
            if not f"{getattr(found, '__module__', '')}.".startswith(_TRUSTED):
                return None
        return found if isinstance(found, type) or not target.startswith("lit_ghibli.methods.") else None
    return None


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
        else:
            continue
        raise UserError(
            f"{run} is refused: {key}={value} in its {place} is {why}. Leave that out with ~{place}; or, only if you "
            "know whose run it is, repeat it as it is with trust=true"
        )


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
        path = Path(os.path.expandvars(value)).expanduser().resolve()
        return inside in (path, *path.parents) if key == "save_dir" else inside in path.parents
    path = Path(value)  # or some other text, which is let through
    return not (path.is_absolute() or ".." in path.parts or value.startswith("~") or "$" in value)
