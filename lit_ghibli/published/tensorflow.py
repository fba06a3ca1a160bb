"""Checkpoints of TensorFlow, read without it.

A checkpoint ``NAME`` is a sorted table, ``NAME.index``, which says where each tensor lies in
``NAME.data-00000-of-00001`` and its like. Of the table's entries the first describes the whole; the others are protocol
buffers with the type (field 1), the shape (2), the shard (3), the offset (4) and the size (5) of a tensor.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lit_ghibli.networks.pretrained.protobuf import DamagedError, fields_of, varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes: two places, padding, magic number
_FLOAT32 = 1
_LARGEST = 100_000_000  # bytes of a table, which is read at once


def read_tensors(index: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a checkpoint in float32 by name; those of other types, such as counters, are left out.

    Args:
        index: The file ``NAME.index``.

    Raises:
        DamagedError: The table cannot be read, or a tensor does not lie where it says.
    """
    try:
        if (size := index.stat().st_size) > _LARGEST:
            raise DamagedError(f"no index has {size:,} bytes")
        entries = list(_entries(index.read_bytes()))
        header = dict(fields_of(entries[0][1]))
        if entries[0][0] or header.get(2, 0):
            raise DamagedError("it does not begin with a header of a little-endian checkpoint")
        tensors = {}
        for name, value in entries[1:]:
            if (fields := dict(fields_of(value))).get(1) == _FLOAT32:
                shard = index.with_suffix(f".data-{fields.get(3, 0):05}-of-{header.get(1, 1):05}")
                tensors[name.decode()] = _tensor(name.decode(), fields, shard)
        return tensors
    except (IndexError, TypeError, ValueError, struct.error) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError("cut short, or no checkpoint of TensorFlow") from error


def _tensor(name: str, fields: dict[int, int | bytes], shard: Path) -> NDArray[np.float32]:
    if 7 in fields:
        raise DamagedError(f"{name} is in slices")
    dimensions = [dict(fields_of(value)) for field, value in fields_of(fields.get(2, b"")) if field == 2]
    shape = tuple(dimension.get(1, 0) for dimension in dimensions)
    offset, size = fields.get(4, 0), fields.get(5, 0)
    if size != 4 * math.prod(shape):
        raise DamagedError(f"{name} has {size} bytes for its shape {shape}")
    if not shard.is_file():
        raise DamagedError(f"{shard.name} is not beside it")
    if offset + size > shard.stat().st_size:
        raise DamagedError(f"{shard.name} is cut short: {name} does not lie in it")
    return np.fromfile(shard, "<f4", size // 4, offset=offset).reshape(shape)


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted table, in order."""
    footer = table[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise DamagedError("cut short, or no index of a checkpoint")
    _, position = _place(footer, 0)  # of what describes the table itself
    of_index, _ = _place(footer, position)
    for _, value in _block(table, *of_index):
        of_block, _ = _place(value, 0)
        yield from _block(table, *of_block)


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block: a key begins with bytes of the one before it."""
    block = table[offset : offset + size]
    if len(block) < size or table[offset + size] != 0:  # the byte behind it says how it is compressed
        raise DamagedError("it is compressed, or cut short")
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]  # the rest is for searching
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        more, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or position + more + length > end:
            raise DamagedError("a name or an entry passes the end of its block")
        key = key[:shared] + block[position : position + more]
        position += more
        yield key, block[position : position + length]
        position += length


def _place(content: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size, and the position behind them."""
    offset, position = varint(content, position)
    size, position = varint(content, position)
    return (offset, size), position
