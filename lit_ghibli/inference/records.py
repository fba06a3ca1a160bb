"""Facts about pictures in a file that survives its process."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lit_ghibli.documents import conform, parse_json
from lit_ghibli.errors import UserError
from lit_ghibli.files import named


class Records:
    """What is known of each photograph, in a file that only grows.

    A process that is killed leaves at most one line cut short. Each line begins with its line break, so that this
    spoils no other, and lines that cannot be read count for nothing.

    Args:
        path: File of JSON lines; begun if it is not there.
        **made_by: What everything in it depends on: stated in its first line.

    Raises:
        UserError: The file was begun with other values.
    """

    def __init__(self, path: Path, **made_by: Any) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        lines = _read_lines(path)
        for name, value in made_by.items():
            if lines and lines[0].get(name) != value:
                raise UserError(
                    f"{path.parent} was begun with {name}={lines[0].get(name)}, and now {name}={value} is given: give "
                    f"the same one to go on, or another folder with out="
                )
        for line in lines[1:]:
            if "name" in line:
                self._known.setdefault(line["name"], {}).update(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        if not lines:
            self._write(made_by)

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        return self._known.get(name, {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def add(self, name: str, **facts: Any) -> None:
        """Note facts about a photograph, for good as soon as this returns, power cuts excepted."""
        self._write({"name": name, **facts})
        self._known.setdefault(name, {}).update(facts)

    def _write(self, line: Mapping[str, Any]) -> None:
        with named(self._path), self._path.open("ab") as file:
            file.write(b"\n" + json.dumps(line).encode())


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            lines.append(conform(parse_json(line), {"name?": str}))
        except ValueError:  # cut short, or no facts at all
            continue
    return lines
