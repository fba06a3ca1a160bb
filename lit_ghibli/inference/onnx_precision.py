"""ONNX models in fewer bits: half of the file, or a quarter of it and less time."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from lit_ghibli.extras import packages
from lit_ghibli.inference.onnx_model import INPUT

_IN_FLOAT32 = ["InstanceNormalization", "GroupNormalization", "LayerNormalization", "ReduceMean", "Resize"]


def convert(path: Path, dtype: str, photos: Sequence[Tensor]) -> None:
    """Bring a model in float32 to ``dtype``: ``float32``, ``float16``, or ``int8`` by `to_int8`."""
    if dtype == "float16":
        to_float16(path)
    elif dtype == "int8":
        to_int8(path, photos)


def to_float16(path: Path) -> None:
    """Keep weights and features of a model in float16; photograph, picture and statistics stay in float32."""
    onnx, float16 = packages("ONNX models in float16", "export", "onnx", "onnxruntime.transformers.float16")
    kept = [*float16.DEFAULT_OP_BLOCK_LIST, *_IN_FLOAT32]
    onnx.save(float16.convert_float_to_float16(onnx.load(path), keep_io_types=True, op_block_list=kept), path)


def to_int8(path: Path, photos: Sequence[Tensor]) -> None:
    """Let a model's convolutions compute in eight bits (static quantisation, Jacob et al. 2018).

    Weights have a scale for each channel and seven bits: with eight, processors without VNNI lose sums.

    Args:
        path: Of the model, in float32.
        photos: ``(1, 3, H, W)`` in ``[-1, 1]``, of sides that the network takes; features get the range that they have
            on these.
    """
    names = ("onnxruntime.quantization", "onnxruntime.quantization.shape_inference")
    quantization, shapes = packages("ONNX models in int8", "export", *names)

    class Photos(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(photos)

        def get_next(self) -> dict | None:
            photo = next(self.left, None)
            return None if photo is None else {INPUT: photo.numpy()}

    prepared = path.with_name(f"{path.name}.prepared")
    logging.disable(logging.WARNING)  # it tells the root logger of each bias
    try:
        shapes.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            Photos(),
            op_types_to_quantize=["Conv", "ConvTranspose"],
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
        prepared.unlink(missing_ok=True)
