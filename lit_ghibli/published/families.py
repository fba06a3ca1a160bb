"""All families of published weights, and which of them a file belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_ghibli.errors import UserError, did_you_mean
from lit_ghibli.published import animegan, cartoongan, cut, cyclegan, fast_style, pix2pix, whitebox
from lit_ghibli.published.family import Family
from lit_ghibli.published.reading import read_published

FAMILIES: tuple[Family, ...] = (
    cyclegan.FAMILY,
    pix2pix.FAMILY,
    cut.FAMILY,
    cut.FASTCUT,
    cut.SCENIMEFY,
    cartoongan.FAMILY,
    *animegan.FAMILIES,
    whitebox.FAMILY,
    fast_style.FAMILY,
)
AUTO = "auto"


@dataclass(frozen=True)
class Published:
    """A published generator as one of ours.

    Attributes:
        family: What it was recognised as.
        generator: The configuration of our class: ``_target_`` and its arguments.
        weights: Its state dict, in float32.
    """

    family: Family
    generator: dict[str, Any]
    weights: dict[str, Tensor]


def import_published(path: Path, family: str = AUTO, options: Mapping[str, Any] | None = None) -> Published:
    """Read published weights.

    Args:
        path: As for :func:`~lit_ghibli.published.reading.read_published`.
        family: Its name; ``auto`` recognises it.
        options: Arguments of our class that a file does not tell, such as ``{"upsample": "legacy"}``.

    Raises:
        UserError: There is no such family, the file cannot be read, or its weights are not, all and no others, those of
            the family.
    """
    known = list(dict.fromkeys(each.name for each in FAMILIES))
    if family not in (AUTO, *known):
        raise UserError(f"family={family}: there is no such family{did_you_mean(family, known)}: {', '.join(known)}")
    state = read_published(path)
    found = _recognised(path, state, family)
    try:
        arguments, weights = found.convert(state, options or {})
    except UserError as error:
        raise UserError(f"{path}, read as {found.title}: {error}") from error
    target = f"{found.network.__module__}.{found.network.__qualname__}"
    return Published(found, {"_target_": target, **arguments}, weights)


def _recognised(path: Path, state: Mapping[str, Tensor], name: str) -> Family:
    """The family of a file; of several layouts of a family, the file's.

    Raises:
        UserError: It is of none, saying which is nearest and what first disagrees.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    candidates = [family for family in FAMILIES if name in (AUTO, family.name)]
    marked = [family for family in candidates if shapes.keys() >= set(family.mark)]
    nearest = max(marked or candidates, key=lambda family: family.likeness(shapes))
    if not (disagreement := nearest.disagreement(shapes)):
        return nearest
    if name == AUTO:
        if not nearest.likeness(shapes):
            first = next(iter(shapes))
            raise UserError(f"{path}: of no family that is known here: no name of theirs is in it, but {first} is")
        raise UserError(f"{path}: of no family that is known here; nearest is {nearest.name}, but {disagreement}")
    others = [family for family in FAMILIES if family.name != name and not family.disagreement(shapes)]
    instead = f"; it is of the family {others[0].name}" if others else ""
    raise UserError(f"{path}: no weights of {nearest.title}, for {disagreement}{instead}")
