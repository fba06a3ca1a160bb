"""Networks as ONNX models: written with what a caller has to know, and run by ONNX Runtime."""

import json
import logging
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lit_ghibli import extras
from lit_ghibli.documents import conform, parse_json
from lit_ghibli.errors import UserError
from lit_ghibli.inference.onnx_statistics import with_statistics
from lit_ghibli.inference.painting import Painting
from lit_ghibli.inference.stylization import Stylization
from lit_ghibli.networks.flattening import Flatten
from lit_ghibli.networks.normalization import Norm, Recorded
from lit_ghibli.painter.painter import Outlines

INPUT, OUTPUT = "photo", "picture"
METADATA = "lit_ghibli"  # key of the interface


@dataclass(frozen=True)
class Interface:
    """What a caller of the model has to know; part of its metadata.

    Attributes:
        size_multiple: Height and width are multiples of it, in pixels.
        minimum_size: And at least so large.
        context: How far an output pixel looks, in pixels.
        whole: Whether attention looks at the whole photograph, so that tiles would have seams. (Of norms ONNX Runtime
            can tell what they measure.)
        pixels: Of a style: how many a photograph has when it is given; 0 for any number.
        outlines: Of a style: those that its pictures are finished with, if there are any.
        flatten: Weight of the L0 smoothing that a photograph has had when it is given; 0 for none.
        values: The range of photograph and picture.
    """

    size_multiple: int
    minimum_size: int
    context: int
    whole: bool
    pixels: float = 0
    outlines: Outlines | None = None
    flatten: float = 0
    values: str = "[-1, 1]"

    def example(self) -> Tensor:
        """A photograph that the network takes, its sides unequal, so that they stay apart."""
        sides = (-(-max(self.minimum_size, side) // self.size_multiple) * self.size_multiple for side in (64, 96))
        return torch.zeros(1, 3, *sides)


def packages(*names: str) -> list[ModuleType]:
    """The optional packages of these names.

    Raises:
        UserError: One is not installed.
    """
    return extras.packages("ONNX models", "export", *names)


def network_of(network: nn.Module) -> tuple[nn.Module, Interface]:
    """What of a translator's network can be exported, and its interface.

    Of a style that is the network alone: resizing and finishing depend on the photograph's size.

    Raises:
        UserError: It is the painter, or its style is not one for all photographs.
    """
    style: dict[str, Any] = {}
    if isinstance(network, Painting):
        style = {"pixels": network.pixels, "outlines": network.finish and network.finish.outlines}
        network = network.paint
    elif isinstance(network, Stylization):
        network = network.in_one_style()
    if not (isinstance(network, nn.Module) and hasattr(network, "context")):
        raise UserError(f"{type(network).__name__} is no network of photographs alone, and cannot be exported")
    whole = any(isinstance(layer, Recorded) and not isinstance(layer, Norm) for layer in network.modules())
    flatten = network.flatten.weight if hasattr(network, "flatten") else 0
    sizes = (network.size_multiple, network.minimum_size, network.context)
    return network, Interface(*sizes, whole, flatten=flatten, **style)


def write_onnx(path: Path, network: nn.Module, interface: Interface, opset: int) -> None:
    """Write a network with free height and width.

    The layers of ``networks.convolutions`` take PyTorch's own route while they are exported.

    Args:
        path: Of the model.
        network: From ``(1, 3, H, W)`` to the same.
        interface: Which the model's metadata then holds.
        opset: Version of ONNX's operators.

    Raises:
        UserError: An optional package is missing, or PyTorch cannot export the network.
    """
    onnx, _ = packages("onnx", "onnxscript")
    free = torch.export.Dim.DYNAMIC
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of PyTorch's own parts
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            program = torch.onnx.export(
                network.eval(),
                (interface.example(),),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=opset,
                dynamic_shapes=({2: free, 3: free},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason: BaseException = error
        while reason.__cause__:
            reason = reason.__cause__
        raise UserError(f"PyTorch cannot export {type(network).__name__} with opset={opset}: {reason}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    model = program.model_proto
    model.metadata_props.add(key=METADATA, value=json.dumps(asdict(interface)))
    onnx.save(model, str(path))


class OnnxNetwork(nn.Module):
    """An exported network, run by ONNX Runtime on the CPU.

    Args:
        path: Of a model that :func:`write_onnx` has written.

    Raises:
        UserError: onnxruntime is missing, the file is damaged, or no model of this suite.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.norms = path, _Norms()
        (runtime,) = packages("onnxruntime")
        try:
            self.session = _session(str(path))
            text = self.session.get_modelmeta().custom_metadata_map[METADATA]
            self.interface: Interface = conform(parse_json(text), Interface)
        except (RuntimeError, ValueError, TypeError, KeyError, *_failures(runtime)) as error:
            raise UserError(f"{path}: damaged, or no model that lit-ghibli export has written") from error
        self.size_multiple, self.minimum_size = self.interface.size_multiple, self.interface.minimum_size
        self.context, self.flatten = self.interface.context, Flatten(self.interface.flatten)

    @torch.no_grad()
    def forward(self, photo: Tensor) -> Tensor:
        """Translate ``(N, 3, H, W)`` in ``[-1, 1]``, one after the other."""
        photo = self.flatten(photo)
        pictures = [self._translate({INPUT: one.cpu().contiguous().numpy()}) for one in photo.split(1)]
        return torch.cat(pictures).to(photo.device)

    def _translate(self, inputs: dict[str, Any]) -> Tensor:
        norms = self.norms
        if norms.is_alone:
            return torch.from_numpy(self.session.run(None, inputs)[0])
        if norms.recording or norms.memory is not None:
            picture, *measured = map(torch.from_numpy, self._measuring.run(None, inputs))
            statistics = [norms.remembered(each) for each in zip(measured[::2], measured[1::2], strict=True)]
            if norms.recording:
                norms.statistics.extend(statistics)
            if norms.memory is None:
                return picture
        else:
            statistics = [norms.next_statistics() for _ in self._told.get_inputs()[1::2]]
        names = [each.name for each in self._told.get_inputs()[1:]]
        values = [each.numpy() for pair in statistics for each in pair]
        return torch.from_numpy(self._told.run(None, inputs | dict(zip(names, values, strict=True)))[0])

    @cached_property
    def _measuring(self) -> Any:
        return _session(with_statistics(self.path, given=False))

    @cached_property
    def _told(self) -> Any:
        return _session(with_statistics(self.path, given=True))


class _Norms(Recorded, nn.Module):
    """All norms of a model, called in turn."""


def _session(model: str | bytes) -> Any:
    (runtime,) = packages("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _failures(runtime: ModuleType) -> list[Any]:
    state = runtime.capi.onnxruntime_pybind11_state
    return [state.InvalidProtobuf, state.InvalidGraph, state.Fail, state.NoSuchFile, state.InvalidArgument]
