"""`lit-ghibli stylize`: turn photographs into the style of a trained run."""

import time
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from PIL import Image
from rich.progress import track

from lit_ghibli.commands._hydra import command
from lit_ghibli.data.image_files import FolderError, ImageFileError, open_image
from lit_ghibli.errors import UserError
from lit_ghibli.inference.picture_files import plan_outputs, save_like


@command("stylize")
def stylize(config: DictConfig) -> None:
    """Translate ``inputs`` into the folder ``out``; a bad file does not keep the others from being translated."""
    from lit_ghibli import checkpoints  # here, so that --help answers at once
    from lit_ghibli.inference.load import load_translator
    from lit_ghibli.inference.measure import describe_solver

    if not config.inputs:
        raise UserError("no photographs given: lit-ghibli stylize photo.jpg folder/ --out out/")
    inputs = [config.inputs] if isinstance(config.inputs, str) else config.inputs
    if not 1 <= config.quality <= 100:
        raise UserError(f"quality must lie in 1 ... 100; got {config.quality}")
    plan = plan_outputs(inputs, config.out, overwrite=config.overwrite)
    checkpoint = checkpoints.find(config.checkpoint or checkpoints.newest_run())
    trained, _ = load_translator(checkpoint, config.device, config.tile)
    translator = trained.with_solver(config.solver, config.steps)
    print(f"{len(plan)} photographs with {checkpoint} on {translator.device}")
    started = time.perf_counter()
    good, bad = _translate(plan, translator, config.quality)
    print(f"{len(good)} pictures in {Path(config.out)}/, {time.perf_counter() - started:.1f} s")
    if good and translator is not trained:
        print(f"{good[0]} (only the first, to save time): {describe_solver(translator, trained, open_image(good[0]))}")
    if bad:
        message = f"{len(bad)} of {len(plan)} files could not be read:\n" + "\n".join(f"  {line}" for line in bad)
        if config.on_bad_file == "error":
            raise FolderError(message)
        print(message)


def _translate(
    plan: dict[Path, Path], translator: Callable[[Image.Image], Image.Image], quality: int
) -> tuple[list[Path], list[str]]:
    """Write the picture of every photograph; return the photographs that could be read, and what ails the others."""
    good, bad = [], []
    for photo, path in track(plan.items(), description="Stylizing"):
        try:
            save_like(translator(open_image(photo)), photo, path, quality=quality)
            good.append(photo)
        except ImageFileError as error:
            bad.append(str(error))
    return good, bad


if __name__ == "__main__":
    stylize()
