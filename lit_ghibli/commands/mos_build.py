"""`lit-ghibli mos build`: make a page on which people judge pictures without knowing whose they are."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import write_text
from lit_ghibli.opinion.page import MODES, Checks, ImageSet, Wording, embed, make_study

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE, KEY = "rate.html", "key.json"
_COMPARED = {"subjects": dict[str, str], "data": dict[str, Any]}

Shown = Iterator[tuple[str, "Image", dict[str, "Image"]]]  # name, photograph, and picture by method, of each set


@command("mos build")
def mos_build(config: DictConfig) -> None:
    """Write ``rate.html``, for the raters, and ``key.json``, for the researcher, to ``out``."""
    if config.mode not in MODES:
        raise UserError(f"mode must be {' or '.join(MODES)}; got {config.mode!r}")
    if config.comparison and (config.inputs or config.methods):
        raise UserError("a comparison says what is rated: leave inputs= and methods= out")
    if not config.comparison and None in (config.inputs, config.methods, config.out):
        raise UserError("what is to be rated? Give the folder of a comparison; or inputs=, methods= and --out")
    out = output_folder(config.out or Path(config.comparison, "opinion"))
    if (out / KEY).exists() and not config.overwrite:
        raise UserError(f"{out / KEY} exists: answers to that study need it; choose another --out, or overwrite=true")
    plain = OmegaConf.to_container(config, resolve=True)
    count, shown = _of_comparison(config) if config.comparison else _of_folders(config, parse_methods(plain["methods"]))
    sets, unequal = [], []
    for name, photo, images in shown:
        unequal += [name] if len({image.size for image in images.values()}) > 1 else []
        photograph, *pictures = (embed(image, config.side, config.quality) for image in (photo, *images.values()))
        sets.append(ImageSet(name, photograph, dict(zip(images, pictures, strict=True))))
    wording = Wording(**{name: plain[name] for name in Wording.__dataclass_fields__})
    study = make_study(sets, config.mode, wording, Checks(**config.checks))
    write_text(out / KEY, json.dumps(study.key, indent=1, ensure_ascii=False))
    write_text(out / PAGE, study.page)
    print(f"{len(sets)} of the {count} photographs of which every method has a picture")
    if unequal:
        say(f"note: the methods' pictures differ in size, which may tell them apart: {', '.join(unequal)}")
    say(f"for the raters: {out / PAGE} ({(out / PAGE).stat().st_size / 1e6:.1f} MB, works without internet)")
    say(f"for you alone: {out / KEY}, which says whose picture is whose")


def _of_folders(config: DictConfig, methods: Mapping[str, Path]) -> tuple[int, Shown]:
    """How many photographs of a folder have a picture of every method, and the sets that are chosen of them."""
    from lit_ghibli.data.image_files import open_image  # here, so that --help answers at once
    from lit_ghibli.data.matched_pictures import choose_evenly, match
    from lit_ghibli.inference.hub import is_address
    from lit_ghibli.inference.load import is_style, open_model
    from lit_ghibli.inference.subjects import is_model

    painters = {
        name: open_model(path).translator
        for name, path in methods.items()
        if is_style(path) or is_address(path) or (path.exists() and is_model(path))
    }
    matched = match(Path(config.inputs), {name: path for name, path in methods.items() if name not in painters})
    chosen = choose_evenly(matched, config.sets, config.seed)

    def shown() -> Shown:
        for name, (photo, paths) in chosen.items():
            images = {
                method: painters[method](photo) if method in painters else open_image(paths[method])
                for method in methods
            }
            yield name, open_image(photo), images

    return len(matched), shown()


def _of_comparison(config: DictConfig) -> tuple[int, Shown]:
    """The same of the held-out photographs of a comparison, as they were measured, and of its subjects."""
    from lit_ghibli.commands.evaluate import opened  # here, so that --help answers at once
    from lit_ghibli.data.matched_pictures import choose_evenly
    from lit_ghibli.documents import read_json
    from lit_ghibli.images import to_picture
    from lit_ghibli.inference.load import open_model
    from lit_ghibli.inference.measure import HeldOut, Run, match_folders
    from lit_ghibli.inference.subjects import COMPARISON, is_model

    file = Path(config.comparison).expanduser() / COMPARISON
    if not file.is_file():
        raise UserError(
            f"{config.comparison}: no folder that `lit-ghibli compare` has written, for it has no {COMPARISON}"
        )
    compared = read_json(file, _COMPARED)
    datamodule = opened(compared["data"], {})
    names = datamodule.splits.test_input.names
    paths = {name: Path(path) for name, path in compared["subjects"].items()}
    subjects = {name: Run(name, open_model(path, tile=0).translator) for name, path in paths.items() if is_model(path)}
    folders, _ = match_folders(
        {name: path for name, path in paths.items() if name not in subjects}, names, on_bad_file="skip"
    )
    subjects |= {folder.name: folder for folder in folders}
    rated = {name: name for name in names if all(name in folder.paths for folder in folders)}
    chosen = choose_evenly(rated, config.sets, config.seed)

    def shown() -> Shown:
        for name, photo, _ in HeldOut(datamodule, set(names) - chosen.keys()).inputs():
            yield name, to_picture(photo), {each: to_picture(subjects[each].picture(name, photo)) for each in paths}

    return len(rated), shown()


def parse_methods(given: Any) -> dict[str, Path]:
    """Folder or style by method of ``{name: folder}``, of a list of ``name:folder`` and styles, or of one such text.

    Raises:
        UserError: A text is neither ``name:folder`` nor a style, or a name comes twice.
    """
    from lit_ghibli.inference.hub import is_address
    from lit_ghibli.inference.load import is_style, like_styles
    from lit_ghibli.inference.style_pictures import is_of_one_piece

    if isinstance(given, Mapping):
        if wrong := [name for name, folder in given.items() if not isinstance(folder, str) or not folder]:
            raise UserError(f"methods: {wrong[0]} needs a folder, a style or a run; got {given[wrong[0]]!r}")
        named = {str(name): Path(folder) for name, folder in given.items()}
    if not given:
        raise UserError("methods names none: methods=[NAME:FOLDER,STYLE]")
    if isinstance(given, Mapping):
        return named
    methods: dict[str, Path] = {}
    for text in given if isinstance(given, list) else [given]:
        if is_of_one_piece(str(text)) or is_address(str(text)):
            raise UserError(f"methods: {text} is a style without a name of its own: give NAME:{text}")
        name, colon, folder = (str(part) for part in str(text).partition(":"))
        if is_style(name) and not colon:
            folder = name
        elif not (name and colon and folder):
            raise UserError(f"methods takes NAME:FOLDER; got {text!r}, which is no style either{like_styles(name)}")
        if name in methods:
            raise UserError(f"methods names {name!r} twice")
        methods[name] = Path(folder)
    return methods


if __name__ == "__main__":
    mos_build()
