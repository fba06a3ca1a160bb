"""Recipes in conf/: where they are, how they are composed and built, and what a stranger's may ask for."""

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf

from lit_ghibli.errors import UserError

# Only what configurations of methods and data name: the rest of the suite writes files where its arguments say.
_TRUSTED = ("lit_ghibli.methods.", "lit_ghibli.networks.", "lit_ghibli.metrics.", "torch.optim.")
_TRUSTED += tuple(
    f"lit_ghibli.data.{name}." for name in ("unpaired", "paired", "pseudo_paired", "transforms", "iterations")
)

OmegaConf.register_new_resolver("basename", lambda path: Path(path).name, replace=True)
OmegaConf.register_new_resolver("half", lambda number: number // 2, replace=True)


def config_dir() -> str:
    """The folder of configurations: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


def instantiate_trusted(config: dict[str, Any], **arguments: Any) -> Any:
    """Instantiate a configuration out of a checkpoint, which may come from a stranger.

    Raises:
        UserError: It names a class or function other than this suite's methods, networks, data and metrics and
            torch's optimisers, or holds an interpolation, which could produce such a name.
    """
    for key, value in leaves(config):
        if key == "_target_" and not is_trusted(str(value)):
            raise UserError(f"the checkpoint's configuration asks for '{value}', which is no part of a method")
        if "${" in str(value):
            raise UserError(f"the checkpoint's configuration holds '{value}', an interpolation that may hide anything")
    return hydra.utils.instantiate(config, **arguments, _convert_="object")


def trusted_class(config: dict[str, Any]) -> type:
    """The class that a configuration out of a checkpoint names, without making an object of it.

    Raises:
        UserError: It is no part of a method.
    """
    target = str(config.get("_target_"))
    if not is_trusted(target):
        raise UserError(f"the checkpoint's configuration asks for '{target}', which is no part of a method")
    return hydra.utils.get_class(target)


def import_targets(config: dict[str, Any]) -> None:
    """Import what a configuration out of a checkpoint names, as far as it is part of a method or of its data."""
    for key, value in leaves(config):
        if key == "_target_" and is_trusted(str(value)):  # anything else is refused where objects are made
            hydra.utils.get_object(str(value))


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


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Values of nested mappings by their dotted keys; a list is a value."""
    if not isinstance(config, Mapping):
        return {prefix: config}
    return {
        name: value
        for key, child in config.items()
        for name, value in flatten(child, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def is_trusted(target: str) -> bool:
    """Whether the object of this name was defined in a trusted module: 'lit_ghibli.data.cache.os.system' was not."""
    if not target.startswith(_TRUSTED):
        return False
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for name in parts[length:]:
            found = getattr(found, name, None)
            if not f"{getattr(found, '__module__', '')}.".startswith(_TRUSTED):
                return False
        return length < len(parts)
    return False


_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_WORDS = ("null", "true", "false", "nan", "inf")  # that the grammar reads as something else than text


def quote(text: str) -> str:
    """``text`` as a value in Hydra's override grammar, whatever it contains."""
    escaped = re.sub(r'(\\*)("|\$\{|$)', lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), text)
    return f'"{escaped}"'


def spell(value: Any) -> str:
    """A plain value, list or mapping as Hydra's grammar writes it; text stays text, even ``"1"`` and ``"null"``.

    Raises:
        UserError: It is something else, such as a date of YAML's.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else quote(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{spell(key)}:{spell(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(spell, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    raise UserError(f"values are numbers, text, true, false, null, lists and mappings; got {value!r}")
