"""Recipes in conf/: how they are checked, composed and built."""

import functools
import math
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
from lit_ghibli.files import config_dir, explain
from lit_ghibli.overrides import flatten, quote

# What numbers may be, by the last part of their key, in one command or in all; other whole numbers are at least 0.
_SIZES = ("crop_size", "load_size", "eval_size", "min_side", "size", "sheet_side")  # pixels
_COUNTS = ("batch_size", "epochs", "count", "test_count", "pairs", "jobs", "validation_pictures", "steps", "threads")
_COUNTS += ("num_patches", "max_epochs", "num_nodes", "patience", "crops", "repeats", "nodes", "processes", "minutes")
_CHANNELS = ("base_channels", "in_channels", "depth", "dim", "num_blocks", "channels", "deep_channels")
_INTERVALS = ("check_val_every_n_epoch", "every_n_epochs", "every_n_batches")
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys((*_SIZES, *_COUNTS, *_CHANNELS, *_INTERVALS), (1, math.inf)),
    **dict.fromkeys(("keep_epochs", "num_sanity_val_steps"), (-1, math.inf)),  # -1 is all
    **dict.fromkeys(("lr", "initialization_lr", "seconds", "timeout", "max_megabytes"), (0, math.inf)),
    "flip": (0, 1),  # probability
    "betas": (0, 0.999999),
    "seed": (0, 2**32 - 1),
    "quality": (1, 100),
    "duplicate_distance": (0, 64),
    "data_check:duplicate_distance": (0, 32),
    "scenes:size": (32, 512),
    "stylize:size": (32, math.inf),
    "mos_build:sets": (1, 1000),
    "mos_build:side": (64, 4096),
    "train:num_images": (1, math.inf),
    "train:max_side": (1, math.inf),
}
# What other values have to look like, by the last part of their key.
_FORMS = {
    "device": (r"auto|cpu|cuda(:\d+)?", "auto, cpu or cuda"),
    "devices": (
        r"auto|-1|[1-9]\d*|\d+(,\d+)+|\[\d+(, \d+)*\]",
        "a number of devices, a list of their numbers, or auto",
    ),
    "cache": (r"disk|ram", "disk or ram"),
    "on_bad_file": (r"error|skip", "error or skip"),
    "optimized_metric": (r"None|[A-Za-z_].*|\['.*'\]", "a metric's name, or a list of names"),
}
_UNSET = {"steps": 0, "threads": 0, "size": 0, "keep": 0.0, "name": ""}  # types of values that may be null by default
_MAY_BE_NULL = ("duplicate_distance", "min_structure", "min_style", "max_style", "min_semantics")  # asks for nothing
_MISSING = object()

OmegaConf.register_new_resolver("basename", lambda path: Path(path).name, replace=True)
OmegaConf.register_new_resolver("half", lambda number: number // 2, replace=True)
OmegaConf.register_new_resolver("share", lambda number, part, whole: number * part // whole, replace=True)
OmegaConf.register_new_resolver("started", started, use_cache=True, replace=True)


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
    """Turn what Hydra, OmegaConf and the operating system say of a user's mistake into a line.

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
        if not isinstance(cause, ValueError | TypeError | ImportError) and not _is_of_lightning(cause):
            raise
        if isinstance(cause, UserError):
            raise UserError(*cause.lines) from error
        where = re.search(r"full_key: (.+)", str(error))  # a value out of range, of a wrong type, or that is not there
        raise UserError(f"{where[1]}: {_first_line(cause)}" if where else str(cause)) from error
    except HydraException as error:
        raise UserError(_first_line(error.__cause__ or error)) from error
    except OSError as error:
        raise UserError(explain(error)) from error
    except Exception as error:
        if _is_of_lightning(error):
            raise UserError(f"Lightning: {_first_line(error)}") from error
        raise


def _is_of_lightning(error: BaseException | None) -> bool:
    """Whether Lightning refuses a configuration, told without importing it, which takes long."""
    return type(error).__module__ == "lightning.fabric.utilities.exceptions"


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
    try:
        base = _base(config_dir(), command, (*searched, *map(_one_of, choices)))
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
    single = [_one_of(each) for each in parsed]
    if any("${" in str(each.input_line) and not each.is_sweep_override() for each in parsed):
        whole = hydra.compose(command, [*searched, *single])
        for each in parsed:
            if "${" in str(each.input_line) and "${hydra:" not in str(each.input_line):
                OmegaConf.select(whole, each.key_or_group)


def _one_of(override: Override) -> str:
    """An override, with the first of its values where it has several."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_interval_sweep():
        first: Any = override.value().start
    elif (first := next(override.sweep_string_iterator(), None)) is None:
        raise UserError(f"{override.input_line}: there is no such value")
    return f"{override.get_key_element()}={first}"


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
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        key = text.partition("=")[0]
        raise UserError(
            f"{text}: cannot be read: {_first_line(error)}",
            f"text with special characters is quoted for Hydra and for the shell, as in {key}='\"...\"'",
        ) from error
    override.config_loader = loader  # by which the choices of glob(...) are found
    return override


def typed_path(word: str) -> str | None:
    """The path that an override gives, as its configuration has it: what quoting has escaped is itself again.

    Raises:
        UserError: It cannot be read, or is no path.
    """
    override = parse(word)
    if override.is_sweep_override() or not isinstance(value := override.value(), str | None):
        raise UserError(f"{word}: {override.key_or_group} is one path")
    with as_user_errors():
        return OmegaConf.to_container(OmegaConf.create([value]), resolve=True)[0]


def _check_choice(override: Override, options: Callable[[str], list[str]]) -> None:
    """Refuse a choice that its group does not have."""
    if override.value() is None and not override.is_delete():
        group = override.key_or_group
        off = f", or give {group}=none" if "none" in options(group) else ""
        raise UserError(f"{override.input_line}: a choice cannot be taken back by null: leave the word out{off}")
    if override.value() in (None, ""):
        return
    values = list(override.sweep_iterator()) if override.is_discrete_sweep() else [override.value()]
    for value in values:
        for name in value if isinstance(value, list) else [value]:
            parent, _, last = f"{override.key_or_group}/{getattr(name, 'text', name)}".rpartition("/")
            there = [option for option in options(parent) if not option.startswith("_")]
            if last.removesuffix(".yaml") not in (*there, "null", "None"):
                raise UserError(
                    f"{override.key_or_group}={last}: there is no such choice{did_you_mean(last, there)}",
                    f"{override.key_or_group} is one of {', '.join(there)}",
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
                of_hydra = "${hydra:" in default_of_leaf  # known inside of its programs alone, where it is another's
                try:
                    default_of_leaf = "???" if of_hydra else OmegaConf.select(base, path)
                except OmegaConfBaseException:  # it follows what is not there yet
                    default_of_leaf = "???"
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
    if text and "${" in value:
        return ""
    if name in _FORMS:
        form, what = _FORMS[name]
        return "" if re.fullmatch(form, str(value)) else what
    if value is None:
        if default == "???":
            return "a value, not null"
        number = isinstance(default, bool | int | float) and not key.startswith("trainer.") and name not in _MAY_BE_NULL
        default = default if number else None
    elif default is None or default == "???" or default is _MISSING:
        default = _UNSET.get(name)
    if default is None or default is _MISSING:
        return ""
    lowest, highest = _RANGES.get(f"{command}:{name}", _RANGES.get(name, (-math.inf, math.inf)))
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        whole = isinstance(default, int)
        lowest = max(lowest, 0) if whole and name not in _RANGES else lowest
        if isinstance(value, list) and command == "nst" and name in ("beta", "strength", "size"):  # each is a column
            return next(filter(None, (wanted(command, key, default, each) for each in value)), "")
        fits = type(value) is int or (type(value) is float and not whole and math.isfinite(value))
        if fits and lowest <= value <= highest:
            return ""
        endless = isinstance(value, float) and not math.isfinite(value)
        kind = "a whole number" if whole else "a finite number" if endless else "a number"
        if highest < math.inf:
            return f"{kind} of {lowest} ... {highest}"
        return f"{kind} of at least {lowest}" if lowest > -math.inf else kind
    if isinstance(default, str):
        return "one value, not several" if isinstance(value, list | dict) else ""
    if OmegaConf.is_list(default) or isinstance(default, list):
        if not isinstance(value, list):
            return "" if text and name in ("inputs", "methods") else "a list, as in [1,2]"
        if name == "betas" and len(value) != len(default):
            return f"a list of {len(default)} numbers"
        alike = default and not name.endswith("_layers")  # which have numbers or names
        each = (wanted(command, key, default[0], item) for item in value) if alike else ()
        return next((f"a list, each of it {what}" for what in each if what), "")
    if (OmegaConf.is_dict(default) or isinstance(default, Mapping)) and not isinstance(value, Mapping):
        return f"changed value by value, as in {key}.{next(iter(default), 'NAME')}=..." if value is not None else ""
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def build(config: Any, **arguments: Any) -> Any:
    """Make the object that a configuration names, with plain lists and mappings as its arguments.

    Where a method's generator takes its first weights from is no argument: only a new training reads them.
    """
    if isinstance(config, Mapping) and "weights" in (config.get("generator") or {}):
        if isinstance(config, DictConfig):
            config = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        generator = {key: value for key, value in config["generator"].items() if key != "weights"}
        config = {**config, "generator": generator}
    return hydra.utils.instantiate(config, **arguments, _convert_="object")


def build_painter(name: str = "meadow") -> Any:
    """The painter that a file in ``conf/painter/`` describes."""
    with _conf(name), as_user_errors():
        return build(hydra.compose(f"painter/{name}").painter)
