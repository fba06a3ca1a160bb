"""Exporting a model for other programs, with the proof that it computes the same and a card that says what it is."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.files import replacing, write_atomically
from lit_ghibli.inference.finite import check_finite, watching
from lit_ghibli.inference.importing import PROVENANCE
from lit_ghibli.inference.load import Model
from lit_ghibli.inference.onnx_model import INPUT, METADATA, OUTPUT, Interface, OnnxNetwork, network_of, write_onnx
from lit_ghibli.inference.onnx_precision import convert
from lit_ghibli.inference.styles import find_styles, read_card
from lit_ghibli.networks.flattening import flattened_before
from lit_ghibli.networks.sizes import pad_to_multiple


def export_model(model: Model, path: Path, photo: Tensor, calibration: Sequence[Tensor], config: Any) -> dict[str, Any]:
    """Write a model for other programs, unless its picture is another than the network's, and its card beside it.

    Args:
        model: What is exported, on the CPU.
        path: Of the model; its card has the same name with ``.json``.
        photo: ``(1, 3, H, W)`` in ``[-1, 1]``, on which both are compared.
        calibration: Photographs of the same kind, on which ``int8`` measures the range of features.
        config: ``format`` (``onnx`` or ``torchscript``), ``dtype`` (``float32``, or of ONNX ``float16`` or ``int8``),
            ``opset`` of ONNX's operators, and ``tolerance``, the largest difference in ``[-1, 1]`` in float32.

    Returns:
        The card.

    Raises:
        UserError: It cannot be exported, or the pictures differ by more.
    """
    network, interface = network_of(model.translator.network)
    fitting = partial(pad_to_multiple, multiple=network.size_multiple, minimum=network.minimum_size)
    photo = fitting(photo)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft, flattened_before(network):  # of the photograph as a whole, so by the caller
        with torch.no_grad(), watching(network, model.name):
            picture = network(photo)
        check_finite(picture, model.name)
        if config.format == "torchscript":
            exported = write_torchscript(draft, network, interface)
        else:
            write_onnx(draft, network, interface, config.opset)
            convert(draft, config.dtype, [fitting(one) for one in calibration])
            exported = OnnxNetwork(draft)
        with torch.no_grad(), flattened_before(exported):
            difference = (exported(photo) - picture).abs()
        if not difference.isfinite().all():
            raise UserError(f"{path} is not written: its picture is not finite in {config.dtype}; give another dtype")
        if config.dtype == "float32" and difference.max() > config.tolerance:
            raise UserError(
                f"{path} is not written: its picture differs from the network's by {difference.max():.2g} in [-1, 1], "
                f"more than tolerance={config.tolerance:g}"
            )
    provenance = (model.config or {}).get(PROVENANCE)
    if model.name in (styles := find_styles()):
        provenance = asdict(read_card(styles[model.name]))
    card = {
        "model": model.name,
        "network": type(network).__name__,
        "weights_sha256": model.sha256,
        "provenance": provenance,
        "method": None if model.config is None else model.config["method"].get("_target_"),
        "input": INPUT,
        "output": OUTPUT,
        **asdict(interface),
        "format": config.format,
        "dtype": config.dtype,
        "opset": config.opset if config.format == "onnx" else None,
        "torch": torch.__version__,
        "largest_difference": difference.max().item(),
        "mean_difference": difference.mean().item(),
        "sha256": sha256_of(path),
    }
    with write_atomically(path.with_suffix(".json")) as file:
        file.write(json.dumps(card, indent=2, default=str) + "\n")
    return card


def write_torchscript(path: Path, network: nn.Module, interface: Interface) -> nn.Module:
    """Write a network that is traced, with free height and width, and its interface in the same file.

    Returns:
        What was written, read again.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the checks of sizes, which need not be in it
        traced = torch.jit.trace(network.eval(), interface.example(), check_trace=False)
        torch.jit.save(traced, path, _extra_files={METADATA: json.dumps(asdict(interface))})
        return torch.jit.load(path)
