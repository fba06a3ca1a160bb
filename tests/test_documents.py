"""Files of JSON and YAML from anybody: what is read, and one line for everything else."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import pytest

from lit_ghibli.documents import DocumentError, conform, parse_json, read_json, read_yaml


@dataclass
class Point:
    x: float
    name: str | None = None
    tags: list[str] = field(default_factory=list)


class Options(TypedDict, total=False):
    seeds: list[int]
    grid: dict[Any, list[Any] | dict[str, float]] | None


DEEP = 5000


def bomb(pattern: str) -> str:
    """YAML of a kilobyte that stands for 9**8 values."""
    lines = [
        f"{later}: &{later} " + pattern % ",".join([f"*{earlier}"] * 9)
        for earlier, later in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join(["a: &a {x: 1}", *lines])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_any_encoding_of_its_standard(tmp_path, encoding):
    (tmp_path / "x.json").write_text('{"ä": [1, 2.5, null]}', encoding=encoding)
    assert read_json(tmp_path / "x.json", dict[str, list[float | None]]) == {"ä": [1, 2.5, None]}


def test_what_follows_a_schema_is_made_of_it():
    point = conform({"x": 1, "tags": ["a"]}, Point)
    assert point == Point(1, None, ["a"])
    assert conform([[1, 2]], list[tuple[int, int]]) == [(1, 2)]
    assert conform({"a": 1, "b": "c"}, {"a": int}) == {"a": 1, "b": "c"}
    assert conform({"c": 2}, {"a?": int}) == {"c": 2}
    assert conform({"grid": {1: [None, [2]], "k": {"a": 0.5}}}, Options) == {"grid": {1: [None, [2]], "k": {"a": 0.5}}}


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        (None, dict, "its content must be a mapping; got null"),
        ({"a": None}, {"a": dict[str, int]}, "a must be a mapping; got null"),
        ({}, {"a": Any}, "its content lacks 'a'"),
        ({"a": {"b": [1, "2"]}}, dict[str, dict[str, list[int]]], r"a\.b\[1\] must be a whole number; got '2'"),
        ({"a": True}, {"a": int}, "a must be a whole number; got True"),
        ({"a": 1}, {"a": bool}, "a must be true or false; got 1"),
        ({"a": "1"}, {"a": float | None}, "a must be a number or null; got '1'"),
        ("c", Literal["a", "b"], "must be one of a, b; got 'c'"),
        (["a"], Literal["a", "b"], "must be one of a, b; got a list of 1"),
        ({"a": None}, {"a?": int}, "a must be a whole number; got null"),
        ({}, Point, "its content lacks 'x'"),
        ({"x": 1, "y": 2}, Point, "unknown key 'y'; it may have x, name, tags"),
        ({"x": [1]}, Point, "x must be a number; got a list of 1"),
        ({1: 2}, dict[str, int], "a key of its content must be text; got 1"),
        ([1, 2, 3], tuple[int, int], "must list 2 values; got a list of 3"),
        ({"seeds": [0, None]}, Options, r"seeds\[1\] must be a whole number; got null"),
        ({"grid": {"a": "b"}}, Options, "grid.a must be a list or a mapping; got 'b'"),
    ],
)
def test_what_does_not_is_told_with_its_place(value, schema, message):
    with pytest.raises(ValueError, match=message):
        conform(value, schema)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", r"x\.json: no JSON \(Expecting property name"),
        ("x.json", "", "no JSON"),
        ("x.json", '"\udcff"', "no JSON .*can't decode"),
        ("x.json", "[" * DEEP, "nested deeper than 100 levels"),
        ("x.json", '{"a":' * 200 + "1" + "}" * 200, "nested deeper than 100 levels"),
        ("x.yaml", "[" * DEEP, "nested deeper than 100 levels"),
        ("x.yaml", "a: &a [*a]", "nested deeper than 100 levels, or within itself"),
        ("x.yaml", bomb("[%s]"), "more than 100,000 values, what aliases repeat included"),
        ("x.yaml", bomb("{<<: [%s]}"), "more than 100,000 values, what aliases repeat included"),
        ("x.yaml", "#" * 200_001, "larger than the 200,000 bytes"),
        ("x.yaml", "!!python/object/apply:os.getcwd []", "no YAML .*could not determine a constructor"),
        ("x.yaml", "a: 2020-13-45", "no YAML .month must be in"),
        ("x.yaml", "{[1]: 2}", "no YAML .*unhashable key"),
        ("x.yaml", "", "must be a mapping or a list; got null"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DocumentError, match=message) as caught:
        (read_json if name.endswith("json") else read_yaml)(tmp_path / name, dict | list)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_pipes_devices_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, why in {tmp_path / "pipe": "no plain file", "/dev/zero": "no plain file", tmp_path: "directory"}.items():
        with pytest.raises(DocumentError, match=why):
            read_json(path, Any)
    with pytest.raises(DocumentError, match=r"nowhere: cannot be read \(No such file or directory\)"):
        read_json(tmp_path / "nowhere", Any)


def test_a_text_of_json_may_begin_with_a_mark():
    assert parse_json("\ufeff[1]") == [1]
