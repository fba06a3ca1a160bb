"""Painting what visitors of a page bring: files are looked at first, and models stay loaded."""

import contextlib
import functools
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import UserError
from lit_ghibli.files import explain
from lit_ghibli.inference.load import find_checkpoint, open_model
from lit_ghibli.inference.picture_files import plan_outputs, save_like
from lit_ghibli.inference.style_pictures import ARBITRARY
from lit_ghibli.inference.styles import DEFAULT, PAINTER, find_styles
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.pretrained import magenta

PICTURE, RUN = "a picture", "a run"  # choices beside the styles with names
EXAMPLE = Path(__file__).parents[1] / "photographs" / "mountains.jpg"
_SHOWN = 1600  # pixels of a shown picture's longer side, at most: what is downloaded has its full size
_LOADED = 8  # models that are kept


class Choice(NamedTuple):
    """In what style photographs are to be painted.

    Attributes:
        style: The name of one, ``painter``, `PICTURE` or `RUN`.
        run: Of `RUN`: its folder, or a checkpoint.
        picture: Of `PICTURE`: the file.
        strength: Of a style: 0 ... 1.
        stroke: Of a style with a name, and of the painter: 0.5 ... 2.
        keep_colors: Of a style: take only lightness from it.
        scale: Of `PICTURE`: 0.25 ... 4.
    """

    style: str = DEFAULT
    run: str | None = None
    picture: Path | None = None
    strength: float = 1.0
    stroke: float = 1.0
    keep_colors: bool = False
    scale: float = 1.0


class Painted(NamedTuple):
    """What was made of a photograph: the picture in full, and both as they are shown, upright and of one size."""

    picture: Path
    shown_photo: Path
    shown: Path


class Service:
    """Paints photographs in chosen styles.

    Args:
        folder: For pictures; who asks for the service removes it.
        device: As for :func:`~lit_ghibli.inference.load.load`.
        tile: As for :func:`~lit_ghibli.inference.load.load`.
        quality: Of JPEG and WebP files, 1 ... 100.
        trust: As for :func:`~lit_ghibli.inference.load.load`.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        tile: int = 1024,
        quality: int = 95,
        trust: bool = False,
    ) -> None:
        self.folder, self.device, self.tile = folder, device, tile
        self.quality, self.trust = quality, trust
        self._open = functools.lru_cache(_LOADED)(self._load)

    def paint(self, photos: Sequence[Path], choice: Choice) -> Iterator[Painted | str]:
        """Paint one photograph after the other; of one that cannot be used, the sentence that says why comes instead.

        Raises:
            UserError: The style cannot be used.
        """
        with _without_folders(*([choice.picture.parent] if choice.picture else [])):
            translator = self._translator(choice)
        words = {RUN: "picture", PICTURE: Path(choice.picture or "").stem}
        for photo in photos:
            folder = Path(tempfile.mkdtemp(dir=self.folder))  # of its own: others have photographs of this name
            try:
                with _without_folders(photo.parent, folder):
                    yield self._paint(photo, folder, translator, words.get(choice.style, choice.style))
            except UserError as error:
                yield str(error)

    def _paint(self, photo: Path, folder: Path, translator: Translator, name: str) -> Painted:
        plan = plan_outputs([photo], folder, overwrite=False)
        path = plan[photo].with_stem(f"{photo.stem}_{name}")
        image = open_image(photo)
        picture = translator(image)
        save_like(picture, photo, path, quality=self.quality)
        shown = [folder / "shown" / f"{photo.stem}_{each}.jpg" for each in ("photograph", name)]
        shown[0].parent.mkdir()
        for each, file in zip((image, picture), shown, strict=True):
            each.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
            each.save(file, quality=90)
        return Painted(path, *shown)

    def _translator(self, choice: Choice) -> Translator:
        options = {"strength": choice.strength, "keep_colors": choice.keep_colors}
        if choice.style == RUN:
            if not choice.run:
                raise UserError("which run? Choose one")
            path = find_checkpoint(choice.run)
            return self._open(str(path), path.stat().st_mtime_ns)  # which a training at work writes again
        if choice.style == PICTURE:
            if not choice.picture:
                raise UserError("a picture whose style is taken is missing: give one")
            picture = open_image(choice.picture)
            return self._open(ARBITRARY).with_style(picture, scale=choice.scale, **options)
        return self._open(choice.style, stroke=choice.stroke, **options)

    def _load(self, word: str, written: int = 0, **options: float) -> Translator:
        if self.trust:
            from lit_ghibli.trust import trusting  # here: Lightning takes seconds, and styles need none of it
        with trusting() if self.trust else contextlib.nullcontext():
            return open_model(word, self.device, self.tile, **options).translator


def choices() -> list[str]:
    """The styles that can be painted in here; `RUN` is one of them where there are runs, which is not looked at."""
    try:
        magenta.find_file(magenta.PREDICT)
    except UserError:  # not installed
        return [*find_styles(), PAINTER]
    return [*find_styles(), PAINTER, PICTURE]


def zip_of(pictures: Sequence[Path], path: Path) -> Path:
    """Write pictures into one archive, those of one name numbered; they are compressed already."""
    with zipfile.ZipFile(path, "w") as archive:
        names: set[str] = set()
        for picture in pictures:
            count, name = 1, picture.name
            while name in names:
                count += 1
                name = f"{picture.stem}_{count}{picture.suffix}"
            names.add(name)
            archive.write(picture, name)
    return path


@contextlib.contextmanager
def _without_folders(*folders: Path) -> Iterator[None]:
    """Say what is wrong with files of these folders by their names alone: where they lie is not for visitors."""
    try:
        yield
    except (UserError, OSError) as error:
        message = explain(error) if isinstance(error, OSError) else str(error)
        for folder in folders:
            message = message.replace(f"{folder}/", "")
        raise UserError(message) from error
