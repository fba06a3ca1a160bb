"""Exporting a model for other programs, with the proof that it computes the same and a card that says what it is."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.files import replacing, write_atomically
from lit_ghibli.inference.importing import PROVENANCE
from lit_ghibli.inference.load import Model
from lit_ghibli.inference.onnx_model import INPUT, OUTPUT, OnnxNetwork, network_of, write_onnx
from lit_ghibli.inference.styles import find_styles, read_card
from lit_ghibli.networks.sizes import translate


def export_onnx(model: Model, path: Path, photo: Tensor, tolerance: float, opset: int) -> dict[str, Any]:
    """Write an ONNX model, unless ONNX Runtime's picture is another than torch's, and its card beside it.

    Args:
        model: What is exported, on the CPU.
        path: Of the model; its card has the same name with ``.json``.
        photo: ``(1, 3, H, W)`` in ``[-1, 1]``, on which both are compared.
        tolerance: The largest difference that is taken, in ``[-1, 1]``.
        opset: Version of ONNX's operators.

    Returns:
        The card.

    Raises:
        UserError: It cannot be exported, or the pictures differ by more.
    """
    network, interface = network_of(model.translator.network)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        write_onnx(partial, network, interface, opset)
        difference = (translate(OnnxNetwork(partial), photo) - translate(network, photo)).abs().max().item()
        if not difference <= tolerance:
            raise UserError(
                f"{path} is not written: ONNX Runtime's picture differs from torch's by {difference:.2g} in [-1, 1], "
                f"more than tolerance={tolerance:g}"
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
        "opset": opset,
        "torch": torch.__version__,
        "largest_difference": difference,
        "sha256": sha256_of(path),
    }
    with write_atomically(path.with_suffix(".json")) as file:
        file.write(json.dumps(card, indent=2, default=str) + "\n")
    return card
