"""`lit-ghibli style`: a style of one's own, from a folder of paintings."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command, typed_command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import UserError, say
from lit_ghibli.overrides import flatten, spell

_MOST = 60  # pictures of a folder that are looked at


@command("style")
def style(config: DictConfig) -> None:
    """Fit the painter to ``paintings``, train a network on what it paints, and write it as the style ``name``."""
    from lit_ghibli.data.image_folders import list_images  # here, so that --help answers at once
    from lit_ghibli.inference.style_pictures import ARBITRARY
    from lit_ghibli.inference.styles import PAINTER, SHIPPED, find_style, find_styles, own_styles
    from lit_ghibli.painter.fitting import as_config, fit, look, require_palette, verdict
    from lit_ghibli.recipes import build, compose

    name = str(config.name)
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise UserError(f"name={name}: a name has letters, digits, - and _ only")
    there = find_styles().get(name)
    if name in (PAINTER, ARBITRARY) or (there and there.parent == SHIPPED):
        raise UserError(f"name={name}: a style of this name ships with the suite: choose another")
    if there and not config.overwrite:
        raise UserError(f"name={name}: {there} exists already: choose another name, or add overwrite=true")
    if not isinstance(config.steps, int) or config.steps < 1:
        raise UserError(f"steps must be a whole number of at least 1; got {config.steps}")
    if config.start and not Path(str(config.start)).expanduser().exists():
        find_style(str(config.start))
    photos = Path(config.photos or SHIPPED.parent / "photographs").expanduser()
    paintings = list_images(Path(config.paintings).expanduser())
    pictures = list_images(photos)
    if not (isinstance(config.held_out, int) and 1 <= config.held_out < len(pictures)):
        raise UserError(
            f"held_out={config.held_out}: {photos} has {len(pictures)} photographs; at least one has to be held out, "
            "and one to be left"
        )
    recipe = compose("train", ["experiment=style", *config.overrides])
    out = output_folder(config.out or f"outputs/styles/{name}", [photos])
    painter = build(config.painter)
    print(f"looking at {min(len(paintings), _MOST)} of {len(paintings)} paintings", flush=True)
    wanted = look(_opened(paintings), painter)
    require_palette(wanted)
    before = look(_opened(pictures), painter)
    drawn = look((painter.paint(photo) for photo in _opened(pictures)), painter).ink
    if warning := verdict(wanted, before):
        print(f"note: {warning}")
    painter = fit(painter, wanted, before, drawn)
    shown = config.steps / recipe.method.epochs * recipe.data.batch_size
    crops = max(round(shown / (len(pictures) - config.held_out)), 1)
    run = _train(config, [f"data.crops={crops}", *painter_words(as_config(painter))], photos, out)
    _write(config, run, photos, painter.outlines, own_styles() / f"{name}.safetensors")
    _show(name, run)


def painter_words(values: dict[str, Any]) -> list[str]:
    """The painter's values as words of `lit-ghibli train`."""
    bands = values["palette"].pop("bands")
    words = [f"data.painter.{key}={spell(value)}" for key, value in flatten(values).items()]
    return [*words, f"data.painter.palette.bands={spell(bands)}"]


def _opened(paths: list[Path]) -> Iterator[Any]:
    """Up to sixty pictures, evenly chosen, as ``(1, 3, H, W)`` in [0, 1] at the painter's reference size."""
    from lit_ghibli.data.image_files import open_image
    from lit_ghibli.data.transforms import Resize
    from lit_ghibli.images import from_picture, to_unit
    from lit_ghibli.painter.painter import REFERENCE

    resize = Resize(round(math.sqrt(REFERENCE)), "area")
    for path in paths[:: -(-len(paths) // _MOST)]:
        yield to_unit(from_picture(resize(open_image(path))))


def _train(config: DictConfig, words: list[str], photos: Path, out: Path) -> Any:
    from lit_ghibli.commands.train import train_here
    from lit_ghibli.overrides import quote

    return train_here(
        "experiment=style",
        f"name={config.name}",
        f"run_dir={quote(str(out))}",
        f"data.root={quote(str(photos))}",
        f"data.held_out={config.held_out}",
        f"method.generator.weights={spell(config.start)}",
        *words,
        *config.overrides,
    )


def _write(config: DictConfig, run: Any, photos: Path, outlines: Any, path: Path) -> None:
    from lit_ghibli import checkpoints
    from lit_ghibli.inference.load import load_translator
    from lit_ghibli.inference.painting import PIXELS
    from lit_ghibli.inference.styles import Card, write_style

    translator, _ = load_translator(checkpoints.find(run), "cpu", 0)
    card = Card(
        description=f"from the paintings in {Path(config.paintings).name}",
        pixels=PIXELS,
        outlines=outlines,
        data=f"{photos.name}, painted",
        recipe=typed_command("style"),
        figures={name: value for name, value in run.metrics.items() if name.startswith("val/")},
    )
    write_style(path, translator.network, card)
    say(f"style {config.name}: {path}")


def _show(name: str, run: Any) -> None:
    """Write a page with held-out photographs, the style's pictures and the painter's, which are the targets."""
    from lit_ghibli.commands.compare import compare
    from lit_ghibli.overrides import quote
    from lit_ghibli.recipes import compose

    words = [f"subjects=[{quote(f'{name}:{run.folder}')}]", f"out={quote(str(run.folder / 'page'))}"]
    compare(compose("compare", [*words, "costs=false", "leakage=false"]))


if __name__ == "__main__":
    style()
