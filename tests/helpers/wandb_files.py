"""Reads what W&B wrote offline: `run-ID.wandb`, a LevelDB log of protobuf records."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEADER = struct.Struct("<4sHB")  # ":W&B", a magic number, a version
CHUNK = struct.Struct("<IHB")  # CRC-32 of type and content, length of the content, type
BLOCK = 32768  # bytes; no chunk crosses its border, and less than a chunk's head before it is padding
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> list[Record]:
    """Every complete record of one file, in order."""
    content, position, pieces, found = path.read_bytes(), HEADER.size, b"", []
    assert content[:4] == b":W&B"
    while position + CHUNK.size <= len(content):
        if (left := BLOCK - position % BLOCK) < CHUNK.size:
            position += left
            continue
        checksum, length, kind = CHUNK.unpack_from(content, position)
        if kind == 0:  # the rest of a file that is still being written
            break
        position += CHUNK.size
        piece = content[position : position + length]
        assert zlib.crc32(bytes([kind]) + piece) == checksum
        pieces = piece if kind in (FULL, FIRST) else pieces + piece
        if kind in (FULL, LAST):
            found.append(Record.FromString(pieces))
        position += length
    return found


def named(items: Any) -> dict[str, Any]:
    """Items of a record as plain values by key, mappings in mappings."""
    found: dict[str, Any] = {}
    for item in items:
        *above, name = item.nested_key or [item.key]
        place = found
        for key in above:
            place = place.setdefault(key, {})
        place[name] = json.loads(item.value_json)
    return found


def read_run(found: list[Record]) -> Any:
    """What a file says first of its run."""
    return next(record.run for record in found if record.HasField("run"))


def history(found: list[Record]) -> list[dict[str, Any]]:
    """Rows of a run's history, in order."""
    return [named(record.history.item) for record in found if record.HasField("history")]
