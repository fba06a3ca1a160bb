"""Packages that only some commands need, and that are installed with an extra of the suite."""

import importlib
from types import ModuleType

from lit_ghibli.errors import UserError


def packages(what: str, extra: str, *names: str) -> list[ModuleType]:
    """The optional packages of these names.

    Args:
        what: For what they are needed, in words.
        extra: Of the suite, which installs them.
        names: As they are imported.

    Raises:
        UserError: One is not installed.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise UserError(f"{error.name} is needed for {what}: pip install 'lit-ghibli[{extra}]'") from error
