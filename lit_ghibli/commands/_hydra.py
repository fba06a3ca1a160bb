"""What the commands share around Hydra."""

import functools
import itertools
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import MissingMandatoryValue
from omegaconf.errors import OmegaConfBaseException

from lit_ghibli.errors import UserError
from lit_ghibli.recipes import config_dir, quote

# Hydra's own, whose values are no words of ours.
_FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i")
_FLAGS_WITH_VALUE += ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")

_typed: list[str] = []  # the program's arguments before any was rewritten

# Lightning 2.6 under torch >= 2.10 speaks of its own use of a deprecated name.
warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
# Frozen networks are in eval mode on purpose.
warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")


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
