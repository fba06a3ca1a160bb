"""How a command becomes a Hydra program."""

import functools
import itertools
import logging
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from lit_ghibli.commands import interrupt_told, module_of, split_options, to_overrides
from lit_ghibli.errors import UserError, one_line, printable
from lit_ghibli.recipes import as_user_errors, check, config_dir

_OTHER_CONF = ("--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")  # which only Hydra can read
_OURS = ("lit_ghibli", "__main__")  # beginnings of our loggers' names: the command that was typed is the latter

log = logging.getLogger(__name__)

_typed: list[str] = []  # the program's arguments before any was rewritten

# Lightning 2.6 under torch >= 2.10 speaks of its own use of a deprecated name.
warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
# Frozen networks are in eval mode on purpose.
warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")


class _Printable(logging.LogRecord):
    """What is logged moves no terminal, and paths and texts in what we log, which may be of files, break no line."""

    def getMessage(self) -> str:
        if isinstance(self.args, tuple) and self.name.partition(".")[0] in _OURS:
            self.args = tuple(one_line(each) if isinstance(each, str | Path) else each for each in self.args)
        return printable(super().getMessage())


logging.setLogRecordFactory(_Printable)


class FailedRun(UserError, CompactHydraException):
    """One of several runs that its user erred in: Hydra does the others first, and shows no traceback of it."""


def command(name: str, *rewrites: Callable[[list[str]], list[str]]) -> Callable[[Callable], Callable[..., Any]]:
    """Make a function of a configuration a Hydra program that composes the command's file in ``conf/``.

    Mistakes of the user end in one clear message and exit status 1, without a traceback. Those in the words of the
    command line are found before the function is called.

    Args:
        name: The command as it is typed, such as ``data fetch``, whose file is ``conf/data_fetch.yaml``.
        rewrites: What replaces Hydra's arguments, once the words have become such.
    """

    def decorate(function: Callable) -> Callable[..., Any]:
        @hydra.main(version_base="1.3", config_path=config_dir(), config_name=module_of(name))
        @functools.wraps(function)
        def program(config: Any) -> Any:
            several = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
            with _one_message_of_several() if several else _one_message(name), trusting_if_asked(config):
                return function(config)

        @functools.wraps(function)
        def run(config: Any = None) -> Any:
            if config is not None:
                return program(config)
            with _one_message(name):
                _typed[:] = _typed or sys.argv[1:]
                sys.argv[1:] = _arguments(name, sys.argv[1:], rewrites)
            with interrupt_told(name):  # also in the processes that a training starts
                return program()

        return run

    return decorate


def typed_command(name: str) -> str:
    """What was typed to start this program, quoted for a shell; in a process of a launcher's, what it comes to."""
    return shlex.join(["lit-ghibli", *name.split(), *(_typed or job_overrides())])


def job_overrides() -> list[str]:
    """What Hydra has composed the current job's configuration with; nothing outside of Hydra's programs.

    Values that follow others are as they were typed, so that a number in quotes does not become a text; but for those
    that follow from the job itself, which no other job could look up.
    """
    if not HydraConfig.initialized():
        return []
    config = HydraConfig.get()
    folders = [source.path for source in config.runtime.config_sources if source.provider == "command-line"]
    typed = OmegaConf.to_container(config.overrides.task, resolve=False)
    words = [of if "${hydra:" in word else word for word, of in zip(typed, config.overrides.task, strict=True)]
    return [*(f"--config-dir={folder}" for folder in folders), *words]


def _arguments(name: str, words: list[str], rewrites: tuple[Callable[[list[str]], list[str]], ...]) -> list[str]:
    """What Hydra is given for the words of a command line, after they have been looked through."""
    arguments = to_overrides(name, words)
    for rewrite in rewrites:
        arguments = rewrite(arguments)
    options, overrides = split_options(arguments)
    if overrides and not set(options) & set(_OTHER_CONF):
        after = dict(itertools.pairwise(options))
        folder = after.get("--config-dir", after.get("-cd"))
        check(module_of(name), overrides, sweeps=bool({"-m", "--multirun"} & set(options)), folder=folder)
    return arguments


@contextmanager
def trusting_if_asked(config: Any) -> Iterator[None]:
    """In the block, checkpoints may ask for anything where the configuration of a command says ``trust: true``."""
    if not config.get("trust"):
        yield
        return
    from lit_ghibli.trust import trusting  # here, so that --help answers at once

    with trusting():
        yield


@contextmanager
def _one_message(name: str) -> Iterator[None]:
    try:
        with as_user_errors():
            yield
    except UserError as error:
        raise SystemExit(f"lit-ghibli {name}: {error}") from error


@contextmanager
def _one_message_of_several() -> Iterator[None]:
    try:
        with as_user_errors():
            yield
    except UserError as error:
        log.error("run %s failed, the others go on: %s", HydraConfig.get().job.num, error)
        raise FailedRun(*error.lines) from error
