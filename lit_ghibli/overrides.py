"""Values as words of Hydra's override grammar, and nested values by their dotted keys."""

import os
import re
from collections.abc import Mapping
from typing import Any

from lit_ghibli.errors import UserError

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_WORDS = ("null", "true", "false", "nan", "inf")  # that the grammar reads as something else than text
_QUOTED = re.compile(r"\"(.*)\"|'(.*)'", re.DOTALL)
_SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)


def quote(text: str) -> str:
    """``text`` as a value in Hydra's override grammar, whatever it contains."""
    escaped = re.sub(r'(\\*)("|\$\{|$)', lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), text)
    return f'"{escaped}"'


def literal(text: str, sweeps: bool = False) -> str:
    """What was typed for a path or another text, as a value in Hydra's override grammar that means just this.

    What stands in a list or a mapping is text each. A path that exists is that path, whatever its name looks like; else
    ``null``, what follows from other values (``${...}``) and what is quoted for Hydra already stay as they are.

    Args:
        text: Such as ``my run (1)``, ``~/x``, ``[a, b (1)]`` or ``{name: folder}``.
        sweeps: Whether commas separate the values of several runs.
    """
    home = expand_home(text)
    if os.path.exists(home):
        return quote(home)
    if text in ("", "null") or "${" in text or _QUOTED.fullmatch(text) or (sweeps and _SWEEP.fullmatch(text)):
        return text
    first, inner, last = text[0], text[1:-1].strip(), text[-1]
    listed = first + last in ("[]", "{}") and len(text) > 1
    if not listed and not (sweeps and "," in text):
        return quote(home)
    parts = [part.strip() for part in (inner if listed else text).split(",")]
    keys = [part.partition(":")[0] + ":" if first == "{" else "" for part in parts]
    values = [part.removeprefix(key).strip() for part, key in zip(parts, keys, strict=True)]
    if not inner or any(re.match(r"[\[{\"']|$", value) for value in values):  # quoted or nested: Hydra's to read
        return text
    joined = ",".join(key + literal(value) for key, value in zip(keys, values, strict=True))
    return f"{first}{joined}{last}" if listed else joined


def expand_home(text: str) -> str:
    """``~/x`` or ``NAME:~/x`` with the home folder in the place of its tilde, unless a path is called so."""
    if os.path.exists(text):
        return text
    name, colon, path = text.partition(":")
    return name + colon + os.path.expanduser(path) if path.startswith("~") else os.path.expanduser(text)


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
