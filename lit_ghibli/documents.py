"""Files of JSON and YAML that anybody may have written: read within bounds, and checked against a schema.

A schema is a type as annotations write it: ``dict[str, list[float]]``, ``int | None``, ``Literal["a", "b"]``, a
`TypedDict`, a dataclass, of which an object is made; or a dictionary of the keys that a mapping must have, or may where
they end in ``?``, with the schema of each, beside which the mapping may have any others.
"""

import dataclasses
import json
import os
import stat
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml

from lit_ghibli.errors import UserError

Schema = Any

_LARGEST = {"JSON": 256_000_000, "YAML": 200_000}  # bytes of a file
_MOST_VALUES = 20_000_000  # in JSON; parsing has bounded them, and walking through shall be
_MOST_NODES = 100_000  # of YAML, an alias counting as all that it stands for
_DEEPEST = 100  # levels of nesting
_NAMES = {dict: "a mapping", list: "a list", tuple: "a list", str: "text", int: "a whole number", float: "a number"}
_NAMES |= {bool: "true or false", type(None): "null"}


class DocumentError(UserError):
    """A file that cannot be read, is not of its format, or does not follow its schema; the message names the file."""


def read_json(path: str | Path, schema: Schema) -> Any:
    """What a JSON file in UTF-8, -16 or -32 holds.

    Raises:
        DocumentError: It is no plain file, too large or no JSON, or does not follow the schema.
    """
    return _read(path, "JSON", parse_json, schema)


def read_yaml(path: str | Path, schema: Schema) -> Any:
    """What a YAML file holds, as plain values.

    Raises:
        DocumentError: It is no plain file, too large or no YAML, or does not follow the schema.
    """
    return _read(path, "YAML", _parse_yaml, schema)


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text that nests no deeper than sense has it.

    Raises:
        ValueError: It is no JSON, or nests too deeply.
    """
    try:
        value = json.loads(content.removeprefix("\ufeff") if isinstance(content, str) else content)
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEEPEST} levels") from None
    check_depth(value)
    return value


def conform(value: Any, schema: Schema, place: str = "") -> Any:
    """The value, if it follows the schema, with objects in the place of mappings where that names dataclasses.

    Args:
        value: Of JSON or YAML.
        schema: As the module describes it.
        place: Dotted keys that lead to the value, for messages.

    Raises:
        ValueError: It does not; the message says where.
    """
    origin, arguments = get_origin(schema), get_args(schema)
    if schema is Any:
        return value
    if origin is Literal:
        if value not in arguments or isinstance(value, dict | list):
            raise ValueError(f"{_at(place)} must be one of {', '.join(map(str, arguments))}; got {_short(value)}")
        return value
    if origin in (Union, types.UnionType):
        fitting = [choice for choice in arguments if _is(value, _kind(choice))]
        if not fitting:
            raise ValueError(f"{_at(place)} must be {' or '.join(map(_name, arguments))}; got {_short(value)}")
        return conform(value, fitting[0], place)
    if (kind := _kind(schema)) is dict and origin is None and schema is not dict:
        return _fields(_of(value, dict, place), schema, place)
    if kind is dict:
        of_key, of_value = arguments or (Any, Any)
        return {
            conform(key, of_key, f"a key of {_at(place)}"): conform(child, of_value, _below(place, key))
            for key, child in _of(value, dict, place).items()
        }
    if kind in (list, tuple):
        children = _of(value, list, place)
        each = arguments if kind is tuple and arguments else (arguments[:1] or (Any,)) * len(children)
        if len(each) != len(children):
            raise ValueError(f"{_at(place)} must list {len(each)} values; got {_short(value)}")
        made = (conform(child, of, f"{place}[{i}]") for i, (child, of) in enumerate(zip(children, each, strict=True)))
        return kind(made)
    return _of(value, kind, place)


def check_depth(value: Any) -> None:
    """Refuse plain values that nest deeper than sense has it, or are too many to be looked through.

    Raises:
        ValueError: They do.
    """
    level, depth, seen = [value], 0, 0
    while level:
        depth, seen = depth + 1, seen + len(level)
        if depth > _DEEPEST or seen > _MOST_VALUES:
            raise ValueError(f"nested deeper than {_DEEPEST} levels, or more than {_MOST_VALUES:,} values")
        level = [child for each in level for child in _children(each) if isinstance(child, dict | list | tuple)]


def _children(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ())


def _read(path: str | Path, format_: str, parse: Any, schema: Schema) -> Any:
    path = Path(path)
    try:
        # A pipe would be waited for, and a device never ends.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DocumentError(f"{path}: no plain file")
            content = file.read(_LARGEST[format_] + 1)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > _LARGEST[format_]:
        raise DocumentError(f"{path}: larger than the {_LARGEST[format_]:,} bytes that such a file may have")
    try:
        value = parse(content)
    except (ValueError, yaml.YAMLError) as error:  # UnicodeDecodeError is one, too
        raise DocumentError(f"{path}: no {format_} ({' '.join(str(error).split())})") from error
    try:
        return conform(value, schema)
    except ValueError as error:
        raise DocumentError(f"{path}: {error}") from error


def _parse_yaml(content: bytes) -> Any:
    loader = yaml.SafeLoader(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}, 0) > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES:,} values, what aliases repeat included")
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEEPEST} levels") from None
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Nodes below one, each alias counted as what it stands for, without walking through any twice."""
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST} levels, or within itself")
    if id(node) not in known:
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        flat = [child for pair in children for child in pair] if isinstance(node, yaml.MappingNode) else children
        known[id(node)] = 1 + sum(_count(child, known, depth + 1) for child in flat)
    return known[id(node)]


def _fields(value: dict[Any, Any], schema: Any, place: str) -> Any:
    """A mapping with the keys of a schema, or an object of a dataclass."""
    closed = not isinstance(schema, Mapping)
    kinds = get_type_hints(schema) if closed else {key.removesuffix("?"): kind for key, kind in schema.items()}
    if dataclasses.is_dataclass(schema):
        defaults = (dataclasses.MISSING, dataclasses.MISSING)
        needed = {each.name for each in dataclasses.fields(schema) if (each.default, each.default_factory) == defaults}
    else:
        needed = set(schema.__required_keys__ if closed else (key for key in schema if not key.endswith("?")))
    if closed and (unknown := [key for key in value if key not in kinds]):
        raise ValueError(f"{_at(place)} has an unknown key {_short(unknown[0])}; it may have {', '.join(kinds)}")
    if missing := sorted(needed - value.keys()):
        raise ValueError(f"{_at(place)} lacks '{missing[0]}'")
    made = {key: conform(each, kinds[key], _below(place, key)) if key in kinds else each for key, each in value.items()}
    return schema(**made) if closed else made


def _kind(schema: Schema) -> type:
    """The type that a value of this schema has before anything is made of it."""
    if isinstance(schema, Mapping) or dataclasses.is_dataclass(schema) or is_typeddict(schema):
        return dict
    if schema is Any or get_origin(schema) is Literal:
        return object
    return type(None) if schema is None else get_origin(schema) or schema


def _is(value: Any, kind: type) -> bool:
    """Whether a value is of a type; a whole number is a number, a list a tuple, and true neither."""
    if isinstance(value, bool) and kind not in (bool, object):
        return False
    return isinstance(value, {float: int | float, tuple: list}.get(kind, kind))


def _of(value: Any, kind: type, place: str) -> Any:
    if not _is(value, kind):
        raise ValueError(f"{_at(place)} must be {_NAMES[kind]}; got {_short(value)}")
    return value


def _name(schema: Schema) -> str:
    return _NAMES.get(_kind(schema), "something else")


def _at(place: str) -> str:
    return place or "its content"


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}"[-80:] if place else str(key)[:80]


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{_NAMES[type(value)]} of {len(value)}"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
