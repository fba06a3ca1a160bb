"""Values as words of Hydra's override grammar, and nested values by their dotted keys."""

import re
from collections.abc import Mapping
from typing import Any

from lit_ghibli.errors import UserError

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


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Values of nested mappings by their dotted keys; a list is a value."""
    if not isinstance(config, Mapping):
        return {prefix: config}
    return {
        name: value
        for key, child in config.items()
        for name, value in flatten(child, f"{prefix}.{key}" if prefix else str(key)).items()
    }
