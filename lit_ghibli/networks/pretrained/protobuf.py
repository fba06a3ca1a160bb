"""Protocol buffers, the form in which TensorFlow and ONNX keep what describes their tensors, read without a schema."""

from collections.abc import Iterator


class DamagedError(ValueError):
    """Bytes that are no such file, or not all of one."""


def varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the position behind it."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def fields_of(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a protocol buffer, undecoded."""
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = varint(message, position)
        elif kind in (1, 2, 5):
            length, position = varint(message, position) if kind == 2 else ({1: 8, 5: 4}[kind], position)
            value = message[position : position + length]
            position += length
            if position > len(message):
                raise DamagedError("cut short")
        else:
            raise DamagedError(f"a field of the unknown kind {kind}")
        yield tag >> 3, value
