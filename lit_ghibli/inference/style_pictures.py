"""Words for a style that is given by pictures: files with weights, a folder, or one of Magenta's 26 styles."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lit_ghibli.data.image_files import EXTENSIONS, FolderError
from lit_ghibli.data.image_folders import list_images
from lit_ghibli.errors import UserError

ARBITRARY = "arbitrary"  # Magenta's networks, without a style yet
NUM_STYLES = 26
_FOLDER = re.compile(r"(mean|nearest):(.+)", re.DOTALL)
_NUMBERED = re.compile(r"magenta26:(\d+)")
_SAMPLED = re.compile(r"sample:(\d{1,9})")  # of the styles that a training has seen


class StylePictures(NamedTuple):
    """Pictures whose style is meant.

    Attributes:
        files: The pictures.
        weights: Of each, which sum to 1.
        nearest: Each photograph takes the one that is most like it, in place of the weighted mean.
    """

    files: list[Path]
    weights: list[float]
    nearest: bool


def is_style_pictures(word: str) -> bool:
    """Whether a word names a style by pictures, whether or not they are there."""
    return word == ARBITRARY or is_of_one_piece(word) or _is_picture(word)


def is_of_one_piece(word: str) -> bool:
    """Whether a word is of a kind that colons belong to."""
    return is_mixture(word) or any(kind.fullmatch(word) for kind in (_FOLDER, _NUMBERED, _SAMPLED))


def names_files(word: str) -> bool:
    """Whether a word for a style by pictures names pictures of its own, rather than a style of a network's."""
    return word != ARBITRARY and not _NUMBERED.fullmatch(word) and not _SAMPLED.fullmatch(word)


def is_mixture(word: str) -> bool:
    """Whether a word names several pictures, with commas between them, as one style, and no name before a colon."""
    files = [_split_weight(part)[0] for part in word.split(",")]
    if len(files) == 1 or Path(word).exists() or not all(map(_is_picture, files)):
        return False
    return Path(files[0]).expanduser().exists() or not is_mixture(word.partition(":")[2])


def style_number(word: str) -> int | None:
    """The number of one of Magenta's 26 styles, if the word names one.

    Raises:
        UserError: There is no such style.
    """
    if not (match := _NUMBERED.fullmatch(word)):
        return None
    if int(match[1]) >= NUM_STYLES:
        raise UserError(f"style={word}: there are the styles 0 ... {NUM_STYLES - 1}")
    return int(match[1])


def sample_seed(word: str) -> int | None:
    """The seed of a style that is drawn, ``sample:SEED``, if the word names one."""
    return int(match[1]) if (match := _SAMPLED.fullmatch(word)) else None


def find_style_pictures(word: str) -> StylePictures:
    """The pictures that a word names.

    Args:
        word: ``PICTURE``, ``PICTURE:WEIGHT,PICTURE:WEIGHT,...``, ``FOLDER`` or ``mean:FOLDER``, or ``nearest:FOLDER``;
            a weight that is left out is 1.

    Raises:
        UserError: A folder holds no pictures, or weights are none.
    """
    if Path(word).expanduser().is_dir():
        word = f"mean:{word}"
    if match := _FOLDER.fullmatch(word):
        files = list_images(Path(match[2]).expanduser())
        if not files:
            raise FolderError(f"style={word}: {match[2]} holds no pictures")
        return StylePictures(files, [1 / len(files)] * len(files), match[1] == "nearest")
    named = [_split_weight(part) for part in word.split(",")] if is_of_one_piece(word) else [(word, "")]
    try:
        weights = [float(weight or 1) for _, weight in named]
    except ValueError as error:
        raise UserError(f"style={word}: give pictures with weights as in a.jpg:0.7,b.jpg:0.3") from error
    return StylePictures([Path(file).expanduser() for file, _ in named], normalized(weights, len(named)), nearest=False)


def normalized(weights: Sequence[float], count: int) -> list[float]:
    """Weights of so many styles, brought to a sum of 1.

    Raises:
        UserError: They are not as many, negative, or all 0.
    """
    if len(weights) != count or not all(0 <= each < float("inf") for each in weights) or not sum(weights):
        raise UserError(f"weights of {count} styles: one for each, none negative, not all 0; got {list(weights)}")
    return [each / sum(weights) for each in weights]


def _is_picture(word: str) -> bool:
    return Path(word).suffix.lower() in EXTENSIONS


def _split_weight(part: str) -> tuple[str, str]:
    """A file and its weight, or nothing in its place."""
    file, _, weight = ("", "", "") if _is_picture(part) else part.rpartition(":")
    return file or part, weight
