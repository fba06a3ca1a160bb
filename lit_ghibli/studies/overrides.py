"""Values as words of Hydra's override grammar."""

import re
from collections.abc import Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_WORDS = ("null", "true", "false", "nan", "inf")  # that the grammar reads as something else than text


def quote(text: str) -> str:
    """``text`` as a value in Hydra's override grammar, whatever it contains."""
    escaped = re.sub(r'(\\*)("|\$\{|$)', lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), text)
    return f'"{escaped}"'


def spell(value: Any) -> str:
    """A plain value, list or mapping as Hydra's grammar writes it; text stays text, even ``"1"`` and ``"null"``."""
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
    return repr(value)
