"""What the commands share around Hydra."""

import functools
import importlib
import itertools
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import MissingMandatoryValue, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_ghibli.errors import UserError
from lit_ghibli.studies.overrides import quote

# Only what configurations of methods and data name: the rest of the suite writes files where its arguments say.
_TRUSTED = ("lit_ghibli.methods.", "lit_ghibli.networks.", "lit_ghibli.metrics.", "torch.optim.")
_TRUSTED += tuple(
    f"lit_ghibli.data.{name}." for name in ("unpaired", "paired", "pseudo_paired", "transforms", "iterations")
)

# Hydra's own, whose values are no words of ours.
_FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i")
_FLAGS_WITH_VALUE += ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")

_typed: list[str] = []  # the program's arguments before any was rewritten

# Lightning 2.6 under torch >= 2.10 speaks of its own use of a deprecated name.
warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
# Frozen networks are in eval mode on purpose.
warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
OmegaConf.register_new_resolver("basename", lambda path: Path(path).name, replace=True)
OmegaConf.register_new_resolver("half", lambda number: number // 2, replace=True)


def config_dir() -> str:
    """The folder of configurations: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


def command(name: str) -> Callable[[Callable], Callable[[], Any]]:
    """Make a function of a configuration a Hydra program that composes the command's file in ``conf/``.

    Mistakes of the user end in one clear message and exit status 1, without a traceback.

    Args:
        name: The command as it is typed, such as ``data fetch``, whose file is ``conf/data_fetch.yaml``.
    """

    def decorate(function: Callable) -> Callable[[], Any]:
        @hydra.main(version_base="1.3", config_path=config_dir(), config_name=re.sub("[ -]", "_", name))
        @functools.wraps(function)
        def run(config: Any) -> Any:
            try:
                return function(config)
            except UserError as error:
                raise SystemExit(f"lit-ghibli {name}: {error}") from error
            except MissingMandatoryValue as error:
                raise SystemExit(f"lit-ghibli {name}: no value for '{error.full_key}'; see --help") from error
            except OmegaConfBaseException as error:
                raise SystemExit(f"lit-ghibli {name}: {error}") from error
            except InstantiationException as error:
                cause = error.__cause__
                if isinstance(cause, ValueError):  # our networks' and metrics' checks of their arguments
                    raise SystemExit(f"lit-ghibli {name}: {cause}") from error
                if isinstance(cause, TypeError):  # a value of a wrong type, or one that does not exist
                    raise SystemExit(f"lit-ghibli {name}: {error}") from error
                raise

        return run

    return decorate


def rewrite_arguments(rewrite: Callable[[list[str]], list[str]]) -> None:
    """Replace the program's arguments before Hydra reads them.

    Raises:
        SystemExit: The arguments hold a user's mistake.
    """
    if not _typed:
        _typed.extend(sys.argv[1:])
    try:
        sys.argv[1:] = rewrite(sys.argv[1:])
    except UserError as error:
        raise SystemExit(f"lit-ghibli: {error}") from error


def typed_command(name: str) -> str:
    """What was typed to start this program, quoted for a shell; in a process of a launcher's, what it comes to."""
    return shlex.join(["lit-ghibli", *name.split(), *(_typed or job_overrides())])


def job_overrides() -> list[str]:
    """What Hydra has composed the current job's configuration with; nothing outside of Hydra's programs."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags that take a value, with their values, and all other words."""
    flags: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in _FLAGS_WITH_VALUE:
            flags += [word, *itertools.islice(words, 1)]
        else:
            others.append(word)
    return flags, others


def expand_out(arguments: list[str]) -> list[str]:
    """Turn ``--out FOLDER``, ``--out=FOLDER`` or ``-o FOLDER`` into an override, and leave the rest.

    Raises:
        UserError: ``--out`` names no folder.
    """
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--out", "-o"):
            folder = next(words, None)
            if folder is None:
                raise UserError(f"{word} needs a folder")
            rest.append(f"out={quote(folder)}")
        elif word.startswith("--out="):
            rest.append(f"out={quote(word.removeprefix('--out='))}")
        else:
            rest.append(word)
    return rest


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
