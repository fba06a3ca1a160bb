"""Recipes in conf/: how they are checked, composed and built, and what a stranger's may ask for."""

import functools
import importlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from lit_ghibli.cluster import started
from lit_ghibli.errors import UserError, did_you_mean

# Only what configurations of methods and data name: the rest of the suite writes files where its arguments say.
_TRUSTED = ("lit_ghibli.methods.", "lit_ghibli.networks.", "lit_ghibli.metrics.", "torch.optim.")
_TRUSTED += tuple(
    f"lit_ghibli.data.{name}." for name in ("unpaired", "paired", "pseudo_paired", "transforms", "iterations")
)

# What whole numbers may be, by the last part of their key, in one command or in all; others are at least 0.
_AT_LEAST_ONE = (
    *(
        "batch_size",
        "epochs",
        "crop_size",
        "load_size",
        "eval_size",
        "min_side",
        "size",
        "count",
        "pairs",
        "sheet_side",
    ),
    *("base_channels", "in_channels", "depth", "dim", "num_patches", "jobs", "validation_pictures", "steps", "threads"),
)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_AT_LEAST_ONE, (1, math.inf)),
    "seed": (0, 2**32 - 1),
    "quality": (1, 100),
    "duplicate_distance": (0, 64),
    "data_check:duplicate_distance": (0, 32),
    "scenes:size": (32, 512),
    "mos_build:sets": (1, 1000),
    "mos_build:side": (64, 4096),
}
_LIBRARIES = ("trainer.", "callbacks.", "logger.", "launcher.")  # where numbers below 0 and null have meanings
_UNSET = {"steps": 0, "threads": 0, "keep": 0.0}  # the types of numbers that are null by default
_FRACTIONS = ("smoothing", "timeout", "max_megabytes")  # that are whole numbers by default
_MAY_BE_NULL = ("duplicate_distance", "min_structure", "min_style", "max_style", "min_semantics")  # asks for nothing
_MISSING = object()

OmegaConf.register_new_resolver("basename", lambda path: Path(path).name, replace=True)
OmegaConf.register_new_resolver("half", lambda number: number // 2, replace=True)
OmegaConf.register_new_resolver("started", started, use_cache=True, replace=True)


def config_dir() -> str:
    """The folder of configurations: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


def compose(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a command, as its program composes it; inside of a Hydra program or outside of any.

    Values that follow others still do, but for those that only Hydra knows: the run's name and folder.

    Args:
        command: Such as ``train`` or ``data_fetch``: the name of a file in ``conf/``.
        overrides: ``key=value`` and ``group=choice``, in Hydra's grammar.

    Raises:
        UserError: As from :func:`check`.
    """
    with _conf(command), as_user_errors():
        _check(command, overrides, sweeps=False, folder=None)
        composed = hydra.compose(command, list(overrides), return_hydra_config=True)
        written = OmegaConf.to_container(composed, resolve=False)
        with open_dict(composed):
            if "${hydra:" in str(written.get("name")):
                composed.name = composed.hydra.runtime.choices.method
            if "${hydra:" in str(written.get("run_dir")):
                composed.run_dir = str(Path(composed.hydra.run.dir).absolute())
            del composed["hydra"]
    return composed


def check(command: str, overrides: Sequence[str], *, sweeps: bool = False, folder: str | None = None) -> None:
    """Find what is wrong with overrides before anything is made of them.

    Args:
        command: As for :func:`compose`.
        overrides: Also with several values, as in ``key=1,2``, where ``sweeps`` allows them.
        sweeps: Whether this is to be a multirun.
        folder: More configurations, as of Hydra's ``--config-dir``.

    Raises:
        UserError: One of them cannot be read, names a key or a choice that does not exist, or gives a value of another
            type or out of its range.
    """
    with _conf(command), as_user_errors():
        _check(command, overrides, sweeps, folder)


def keys_and_choices(command: str, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Every value of a command by its dotted key, and the choices of every group."""
    with _conf(command), as_user_errors():
        loader = GlobalHydra.instance().config_loader()
        chosen = [each.input_line for each in map(parse, overrides) if loader.get_group_options(each.key_or_group)]
        base = hydra.compose(command, chosen, return_hydra_config=True)
        groups = {
            group: [name for name in loader.get_group_options(group) if not name.startswith("_")]
            for group in (*base.hydra.runtime.choices, "hydra/sweeper", "hydra/launcher")
            if "@" not in group
        }
        del base.hydra
        return flatten(OmegaConf.to_container(base, resolve=False)), groups


@contextmanager
def as_user_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf say of a user's mistake into a line.

    Raises:
        UserError: In the place of their exceptions.
    """
    try:
        yield
    except MissingMandatoryValue as error:
        raise UserError(f"no value for '{error.full_key}'; see --help") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {_first_line(error)}") from error
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ValueError | TypeError):  # a value out of range, of a wrong type, or that does not exist
            raise UserError(str(cause if isinstance(cause, ValueError) else error)) from error
        raise
    except HydraException as error:
        raise UserError(_first_line(error.__cause__ or error)) from error


@contextmanager
def _conf(command: str) -> Iterator[None]:
    """Hydra set up for ``conf/``, whatever program this is in."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(config_dir(), job_name=command, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _check(command: str, overrides: Sequence[str], sweeps: bool, folder: str | None) -> None:
    loader = GlobalHydra.instance().config_loader()
    searched = [] if folder is None else [f"hydra.searchpath=[{quote(str(Path(folder).absolute()))}]"]

    def options(group: str) -> list[str]:
        if "." in group:  # a key within the configuration; asking Hydra takes long
            return []
        return loader.get_group_options(group, config_name=command, overrides=searched)

    parsed = [parse(override, loader) for override in overrides]
    choices = [each for each in parsed if not isinstance(each.value(), dict) and options(each.key_or_group)]
    for each in choices:
        _check_choice(each, options)
    chosen = [
        f"{each.get_key_element()}={next(each.sweep_string_iterator())}"
        if each.is_discrete_sweep()
        else str(each.input_line)
        for each in choices
    ]
    try:
        base = _base(config_dir(), command, (*searched, *chosen))
    except HydraException as error:
        if found := re.search(r"Could not (?:override|delete|find)\W+([\w/@.]+)", str(error)):
            raise UserError(f"{found[1]}: {command.replace('_', ' ')} has nothing of that name to choose") from error
        raise
    sweeps = sweeps or str(base.hydra.mode).endswith("MULTIRUN")
    known = OmegaConf.to_container(base, resolve=False)
    names = [*flatten(known), *base.hydra.runtime.choices]
    added = [each.key_or_group for each in parsed if each.is_add() or each.is_force_add()]
    for each in parsed:
        if each.is_sweep_override() and not sweeps:
            key = each.get_key_element()
            raise UserError(
                f"{each.input_line}: several values, or a text with a comma? -m makes a run for each value; "
                f"a text is quoted for Hydra and for the shell: {key}='\"...\"', a list is {key}='[...]'"
            )
        if each not in choices and not any(each.key_or_group.startswith(f"{key}.") for key in added):
            several = any(choice.is_sweep_override() for choice in choices)  # of which another may have the key
            _check_value(command, each, base, known, names, several)
    if any("${" in str(each.input_line) and not each.is_sweep_override() for each in parsed):
        whole = hydra.compose(command, [*searched, *(str(each.input_line) for each in parsed)])
        for each in parsed:
            if "${" in str(each.input_line) and "${hydra:" not in str(each.input_line):
                OmegaConf.select(whole, each.key_or_group)


@functools.lru_cache(maxsize=8)  # the cells of a study differ in values mostly
def _base(folder: str, command: str, chosen: tuple[str, ...]) -> DictConfig:
    """What the choices alone compose, for ``folder`` set up as Hydra's."""
    return hydra.compose(command, list(chosen), return_hydra_config=True)


def parse(text: str, loader: ConfigLoader | None = None) -> Override:
    """An override of Hydra's grammar.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return OverridesParser.create(config_loader=loader).parse_override(text)
    except HydraException as error:
        key = text.partition("=")[0]
        raise UserError(
            f"{text}: cannot be read: {_first_line(error)}\n"
            f"text with special characters is quoted for Hydra and for the shell, as in {key}='\"...\"'"
        ) from error


def _check_choice(override: Override, options: Callable[[str], list[str]]) -> None:
    """Refuse a choice that its group does not have."""
    if override.value() is None and not override.is_delete():
        raise UserError(f"{override.input_line}: a choice cannot be taken back by null: leave the word out")
    if override.value() in (None, ""):
        return
    values = list(override.sweep_iterator()) if override.is_discrete_sweep() else [override.value()]
    for value in values:
        for name in value if isinstance(value, list) else [value]:
            parent, _, last = f"{override.key_or_group}/{getattr(name, 'text', name)}".rpartition("/")
            there = [option for option in options(parent) if not option.startswith("_")]
            if last.removesuffix(".yaml") not in (*there, "null", "None"):
                raise UserError(
                    f"{override.key_or_group}={last}: there is no such choice{did_you_mean(last, there)}\n"
                    f"{override.key_or_group} is one of {', '.join(there)}"
                )


def _check_value(
    command: str, override: Override, base: DictConfig, known: Mapping[str, Any], names: Sequence[str], several: bool
) -> None:
    """Refuse a value that has no place, or is not such as its default."""
    key = override.key_or_group
    default = _look_up(known, key)
    if default is _MISSING:
        if override.is_add() or override.is_force_add() or several:
            return
        raise UserError(f"{override.input_line}: {command.replace('_', ' ')} has no '{key}'{did_you_mean(key, names)}")
    if override.is_add():
        if default is None or isinstance(override.value(), dict | list):  # which Hydra merges
            return
        raise UserError(f"{override.input_line}: '{key}' is there already: leave the + out")
    if override.is_delete() or override.is_hydra_override():  # whose types Hydra checks itself
        return
    if override.is_interval_sweep():
        values = [override.value().start, override.value().end]
    elif override.is_discrete_sweep():
        values = [Override._convert_value(value) for value in override.sweep_iterator()]
    else:
        values = [override.value()]
    for value in values:
        for path, leaf in flatten(value, key).items() if isinstance(default, Mapping) and default else [(key, value)]:
            default_of_leaf = _look_up(known, path)
            if default_of_leaf is _MISSING and not override.is_force_add():
                raise UserError(
                    f"{path}={leaf}: {command.replace('_', ' ')} has no '{path}'{did_you_mean(path, names)}"
                )
            if isinstance(default_of_leaf, str) and "${" in default_of_leaf:
                try:
                    default_of_leaf = OmegaConf.select(base, path)
                except OmegaConfBaseException:  # it follows what is not there yet
                    default_of_leaf = None
            if what := wanted(command, path, default_of_leaf, leaf):
                raise UserError(f"{path} must be {what}; got {leaf!r}")


def _look_up(config: Any, key: str) -> Any:
    """The value of a dotted key before interpolation; None where it follows from something else."""
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(config, str) and "${" in config:
            return None
        if isinstance(config, list) and part.lstrip("-").isdigit() and int(part) < len(config):
            config = config[int(part)]
        elif isinstance(config, Mapping) and part in config:
            config = config[part]
        else:
            return _MISSING
    return config


def wanted(command: str, key: str, default: Any, value: Any) -> str:
    """What a value of this key has to be; empty if it is such a value."""
    name, text = key.rpartition(".")[2], isinstance(value, str)
    if default is None or default == "???" or default is _MISSING:
        default = _UNSET.get(name) if value is not None else None
    if default is None or (text and "${" in value):
        return ""
    if value is None:
        number = isinstance(default, bool | int | float) and not key.startswith(_LIBRARIES) and name not in _MAY_BE_NULL
        default = default if number else None
    if name == "devices":
        fits = re.fullmatch(r"auto|-?\d+(,\d+)*", str(value)) or isinstance(value, list)
        return "" if fits else "a number of devices, a list of their numbers, or auto"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int) and name not in _FRACTIONS:
        lowest, highest = _RANGES.get(f"{command}:{name}", _RANGES.get(name, (0, math.inf)))
        lowest, highest = (-math.inf, math.inf) if key.startswith(_LIBRARIES) else (lowest, highest)
        if type(value) is int and lowest <= value <= highest:
            return ""
        bounds = (
            f" of {lowest} ... {highest}" if highest < math.inf else f" of at least {lowest}" * (lowest > -math.inf)
        )
        return f"a whole number{bounds}"
    if isinstance(default, int | float):
        fits = type(value) in (int, float) or (isinstance(value, list) and name == "beta")
        return "" if fits else "a number"
    if isinstance(default, str):
        return "one value, not several" if isinstance(value, list | dict) else ""
    if OmegaConf.is_list(default) or isinstance(default, list):
        return "" if isinstance(value, list) or (text and name in ("inputs", "methods")) else "a list, as in [1,2]"
    if (OmegaConf.is_dict(default) or isinstance(default, Mapping)) and not isinstance(value, Mapping):
        return f"changed value by value, as in {key}.{next(iter(default), 'NAME')}=..." if value is not None else ""
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def build(config: Any, **arguments: Any) -> Any:
    """Make the object that a configuration names, with plain lists and mappings as its arguments."""
    return hydra.utils.instantiate(config, **arguments, _convert_="object")


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
        of_methods = target.startswith("lit_ghibli.methods.")  # whose functions of classes read files
        return length < len(parts) and (isinstance(found, type) or not of_methods)
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


# --- recorded runs, whose folders may come from strangers

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
