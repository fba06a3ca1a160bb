"""`lit-ghibli scenes`: write rendered landscapes as files."""

from omegaconf import DictConfig
from PIL import Image
from rich.progress import track

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import say
from lit_ghibli.files import write_picture
from lit_ghibli.scenes.scene import render_pair


@command("scenes")
def scenes(config: DictConfig) -> None:
    """Write ``count`` scenes to ``photo/NNNNNN.png`` and ``ghibli/NNNNNN.png`` below ``out``."""
    folders = [output_folder(config.out) / name for name in ("photo", "ghibli")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for index in track(range(config.first, config.first + config.count), description="Rendering"):
        for folder, pixels in zip(folders, render_pair(config.seed, index, config.size), strict=True):
            write_picture(Image.fromarray(pixels), folder / f"{index:06d}.png")
    say(f"{config.count} scenes in {folders[0]}/ and {folders[1]}/")


if __name__ == "__main__":
    scenes()
