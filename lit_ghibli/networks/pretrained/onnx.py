"""Tensors of an ONNX graph, read without its library.

A file is a protocol buffer, the model, whose field 7 is the graph: nodes (field 1) with the names of their inputs (1)
and outputs (2) and an operator (4), and initialisers (5) with a shape (1), a type (2), a name (8) and raw values (9).
Names say little: converters merge equal tensors under one of their names, so that a bias of zeros may be called
``zero_point__100``. What belongs to a convolution is therefore found along its inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_ghibli.errors import UserError
from lit_ghibli.networks.pretrained.protobuf import DamagedError, fields_of

_TYPES = {1: "<f4", 3: "i1", 6: "<i4", 7: "<i8"}
_Node = tuple[str, list[str]]  # operator and inputs


@dataclass(frozen=True)
class Graph:
    """What a graph holds.

    Attributes:
        tensors: Its initialisers by name, as stored.
        convolutions: Weight ``(out, in, height, width)`` and bias ``(out,)``, or None, of each convolution in float32,
            by the name of its weight's initialiser.
    """

    tensors: Mapping[str, Tensor]
    convolutions: Mapping[str, tuple[Tensor, Tensor | None]]


def read_graph(path: Path) -> Graph:
    """Read the tensors of a graph; integers behind a convolution's inputs are dequantised along their first axis.

    Args:
        path: A ``.onnx`` file.

    Raises:
        UserError: It cannot be read.
    """
    try:
        model = dict(fields_of(path.read_bytes()))
        fields = list(fields_of(model[7]))
        tensors = dict(_tensor(value) for number, value in fields if number == 5)
        made_by: dict[str, _Node] = {}
        convolutions = []
        for number, value in fields:
            if number == 1:
                operator, inputs, outputs = _node(value)
                made_by |= dict.fromkeys(outputs, (operator, inputs))
                if operator == "Conv":
                    convolutions.append(inputs)
        found = {
            _origin(weight, made_by): (
                _value(weight, made_by, tensors),
                _value(bias[0], made_by, tensors) if bias else None,
            )
            for _, weight, *bias in convolutions
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:  # also DamagedError
        reason = error if isinstance(error, DamagedError) else "cut short, or no graph of ONNX"
        raise UserError(f"{path}: damaged: {reason}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return Graph(tensors, found)


def _tensor(message: bytes) -> tuple[str, Tensor]:
    """An initialiser's name and values; without raw values it is empty."""
    fields = list(fields_of(message))
    shape = [value for number, value in fields if number == 1]
    values = dict(fields)
    raw = np.frombuffer(values.get(9, b""), _TYPES[values[2]])
    return values[8].decode(), torch.from_numpy(raw.copy().reshape(shape if len(raw) else 0))


def _node(message: bytes) -> tuple[str, list[str], list[str]]:
    """Operator, inputs and outputs."""
    texts: dict[int, list[str]] = {1: [], 2: [], 4: []}
    for number, value in fields_of(message):
        if number in texts:
            texts[number].append(value.decode())
    return texts[4][0], texts[1], texts[2]


def _origin(name: str, made_by: Mapping[str, _Node]) -> str:
    """The initialiser that a value is dequantised from, or its own name."""
    return made_by[name][1][0] if name in made_by else name


def _value(name: str, made_by: Mapping[str, _Node], tensors: Mapping[str, Tensor]) -> Tensor:
    if name not in made_by:
        return tensors[name].float()
    operator, inputs = made_by[name]
    if operator != "DequantizeLinear":
        raise DamagedError(f"{name} is computed by {operator}")
    values, scale, zero = (tensors[each] for each in inputs)
    along = (-1,) + (1,) * (values.dim() - 1)
    return (values.int() - zero.int().view(along)).float() * scale.float().view(along)
