"""`lit-ghibli export`: write a network as an ONNX model."""

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import check_writable
from lit_ghibli.errors import UserError

_SIDE = 384  # pixels of a photograph that are compared, at most: the network is the same everywhere


@command("export")
def export(config: DictConfig) -> None:
    """Write ``out`` and its card, and print by how much ONNX Runtime differs from torch."""
    # Here, so that --help answers at once.
    from lit_ghibli.inference.exporting import export_onnx
    from lit_ghibli.inference.load import open_model
    from lit_ghibli.inference.profiling import scenes
    from lit_ghibli.inference.translator import to_batch

    path = Path(config.out).expanduser()
    check_writable(path.parent)
    if path.suffix != ".onnx":
        raise UserError(f"out={path}: name the model's file, which ends in .onnx")
    for file in (path, path.with_suffix(".json")):
        if file.exists() and not config.overwrite:
            raise UserError(f"{file} exists already: overwrite=true replaces it")
    if not (config.model or config.style):
        raise UserError("what is to be exported? Give a run, a checkpoint or a style by name, or style=PICTURE")
    photo = to_batch(config.photo, "cpu") if config.photo else scenes(1, _SIDE)
    model = open_model(config.model or config.style, "cpu", tile=0, direction=config.direction)
    if config.model and config.style:
        name = f"{model.name} style={config.style}"
        model = replace(model, name=name, translator=model.translator.with_style(config.style))
    card = export_onnx(model, path, photo[..., :_SIDE, :_SIDE], config.tolerance, config.opset)
    finish = "; load and stylize add its resizing and finish, other programs have to" if card["pixels"] else ""
    print(f"{path}: {card['network']}, {card['input']} -> {card['output']}, sides multiples of {card['size_multiple']}")
    print(f"largest difference from torch: {card['largest_difference']:.1e} in [-1, 1]{finish}")


if __name__ == "__main__":
    export()
