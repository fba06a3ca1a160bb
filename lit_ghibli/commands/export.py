"""`lit-ghibli export`: write a network for other programs, as an ONNX model or in TorchScript."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._idle import refuse_idle
from lit_ghibli.commands._output import check_writable
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import named

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 384  # pixels of a photograph that are compared, at most: the network is the same everywhere
_CALIBRATION = 16  # photographs, of which more bring no nearer picture
_ENDINGS = {"onnx": ".onnx", "torchscript": ".pt"}
_DTYPES = ("float32", "float16", "int8")


@command("export")
def export(config: DictConfig) -> None:
    """Write ``out`` and its card, and print by how much its picture differs from the network's."""
    path = Path(config.out).expanduser()
    check_writable(path.parent)
    _check(config, path)
    # Here, so that --help answers at once.
    from lit_ghibli.data.image_folders import list_images
    from lit_ghibli.inference.exporting import export_model
    from lit_ghibli.inference.load import open_model
    from lit_ghibli.inference.picture_batches import to_batch
    from lit_ghibli.inference.profiling import scenes

    photo = to_batch(config.photo, "cpu") if config.photo else scenes(1, _SIDE)
    calibration = list(scenes(_CALIBRATION, _SIDE).split(1)) if config.dtype == "int8" else []
    if config.calibration:
        calibration = [to_batch(path, "cpu") for path in list_images(config.calibration)[:_CALIBRATION]]
    model = open_model(config.model or config.style, "cpu", tile=0, direction=config.direction)
    if config.model and config.style:
        name = f"{model.name} style={config.style}"
        model = replace(model, name=name, translator=model.translator.with_style(config.style))
    photo, *calibration = (_part(one) for one in (photo, *calibration))
    with named(path):
        card = export_model(model, path, photo, calibration, config)
    finish = "; load and stylize add its resizing and finish, other programs have to" if card["pixels"] else ""
    say(f"{path}: {card['network']}, {card['input']} -> {card['output']}, sides multiples of {card['size_multiple']}")
    levels = ""
    if config.dtype != "float32":
        largest, mean = (card[key] * 127.5 for key in ("largest_difference", "mean_difference"))
        levels = f", {largest:.1f} of 255 levels; {mean:.2f} on average"
    print(f"largest difference from torch: {card['largest_difference']:.1e} in [-1, 1]{levels}{finish}")


def _check(config: DictConfig, path: Path) -> None:
    for key, choices in (("format", tuple(_ENDINGS)), ("dtype", _DTYPES)):
        if config[key] not in choices:
            raise UserError(f"{key} is {', '.join(choices[:-1])} or {choices[-1]}; got {config[key]}")
    if path.suffix != _ENDINGS[config.format]:
        raise UserError(f"out={path}: name the model's file, which ends in {_ENDINGS[config.format]}")
    if config.format == "torchscript" and config.dtype != "float32":
        raise UserError(f"dtype={config.dtype} is of format=onnx: leave one of the two out")
    if config.format == "torchscript":
        refuse_idle("export", config, ["opset"], "format=onnx")
    if config.dtype != "float32":
        refuse_idle("export", config, ["tolerance"], "dtype=float32")
    if config.calibration and config.dtype != "int8":
        raise UserError("calibration= is of dtype=int8: leave it out")
    for file in (path, path.with_suffix(".json")):
        if file.exists() and not config.overwrite:
            raise UserError(f"{file} exists already: overwrite=true replaces it")
    if not (config.model or config.style):
        raise UserError("what is to be exported? Give a run, a checkpoint or a style by name, or style=PICTURE")


def _part(photo: "Tensor") -> "Tensor":
    """The middle of a photograph, which shows more than a corner."""
    top, left = (max(side - _SIDE, 0) // 2 for side in photo.shape[-2:])
    return photo[..., top : top + _SIDE, left : left + _SIDE]


if __name__ == "__main__":
    export()
