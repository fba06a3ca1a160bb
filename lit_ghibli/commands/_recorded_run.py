"""What a recorded run may ask for: its folder may come from a stranger, and its record is only text."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lit_ghibli.errors import UserError
from lit_ghibli.recipes import is_trusted, leaves

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
