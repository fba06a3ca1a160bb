"""Settings that would do nothing are refused: whoever types one expects something of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from lit_ghibli.commands import module_of
from lit_ghibli.errors import UserError
from lit_ghibli.files import config_dir

IN_TILES = "runs whose network can translate parts, and of style=PICTURE"


def refuse_idle(command: str, config: Any, keys: Sequence[str], of: str) -> None:
    """Refuse settings of a command that are not what its file in ``conf/`` says, where they do nothing.

    Args:
        command: Such as ``stylize``.
        config: Of the command, composed by Hydra or without it.
        keys: Of settings at the top of that file.
        of: What they are of.

    Raises:
        UserError: The first of them is named.
    """
    written = yaml.safe_load(Path(config_dir(), f"{module_of(command)}.yaml").read_text())
    for key, value in _values(config).items():
        if key in keys and value != written[key]:
            raise UserError(f"{key}={value}: that is of {of}, and would do nothing here: leave it out")


def refuse_idle_words(pattern: str, of: str) -> None:
    """Refuse words that were typed, of groups of settings that do nothing.

    Args:
        pattern: Of their beginnings, but for signs that add and remove.
        of: What they are of.

    Raises:
        UserError: The first of them is named.
    """
    from lit_ghibli.commands._hydra import job_overrides  # here, for what needs no Hydra

    for word in job_overrides():
        if re.match(pattern, word.lstrip("+~")):
            raise UserError(f"{word}: that is of {of}, and would do nothing here: leave it out")


def _values(config: Any) -> dict[str, Any]:
    if isinstance(config, SimpleNamespace):
        return vars(config)
    from omegaconf import OmegaConf  # Hydra has composed it

    return OmegaConf.to_container(config, resolve=False)  # of a value that follows another, its name
