"""Styles: small networks in files of their own, those that ship with the suite and those of a user's."""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lit_ghibli.documents import conform, parse_json
from lit_ghibli.errors import UserError, did_you_mean, one_line
from lit_ghibli.files import write_atomically
from lit_ghibli.inference.painting import Painting
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.painting import PaintingNetwork
from lit_ghibli.painter.finish import Finish
from lit_ghibli.painter.painter import Outlines

DEFAULT = "meadow"
PAINTER = "painter"  # the chain of filters itself
SHIPPED = Path(__file__).parents[1] / "styles"
_CARD = "lit_ghibli_style"


class StyleError(UserError):
    """A style that is missing, or a file that is none."""


@dataclass(frozen=True)
class Card:
    """What is known of a style.

    Attributes:
        description: What its pictures look like, in one line.
        pixels: How many the picture has that it paints, whatever the photograph has.
        network: Arguments of :class:`PaintingNetwork`, which :func:`write_style` notes.
        outlines: Of the painter that it has learned from, with which its pictures are finished; None: without any.
        data: What it was trained on.
        licence: Of the weights.
        recipe: The command that made it.
        figures: What was measured of it, by name.
        limits: What it is not good at.
    """

    description: str
    pixels: int
    network: dict[str, Any] = field(default_factory=dict)
    outlines: Outlines | None = None
    data: str = ""
    licence: str = ""
    recipe: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    limits: str = ""


def own_styles() -> Path:
    """The user's folder of styles: ``$LIT_GHIBLI_STYLES``, else one in the user's data folder."""
    named = os.environ.get("LIT_GHIBLI_STYLES")
    return Path(named).expanduser() if named else Path.home() / ".local/share/lit_ghibli/styles"


def find_styles() -> dict[str, Path]:
    """The file of every style by its name, those that ship with the suite first."""
    folders = (SHIPPED, own_styles())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.safetensors")) if path.is_file()}


def describe_styles() -> str:
    """A line for every style, also for a file that is none."""
    lines = {PAINTER: "the chain of filters that the others learned from: slower, at full quality"}
    lines = {name: _describe(path) for name, path in find_styles().items()} | lines
    width = max(map(len, lines))
    return "\n".join(one_line(f"  {name:<{width}}  {line}") for name, line in lines.items())


def _describe(path: Path) -> str:
    try:
        return read_card(path).description
    except StyleError as error:
        return str(error)


def find_style(name: str) -> Path:
    """The file of a style.

    Raises:
        StyleError: There is no such style.
    """
    styles = find_styles()
    if name not in styles:
        hint = "; a run is given as checkpoint=" if Path(name).exists() else did_you_mean(name, [*styles, PAINTER])
        raise StyleError(f"style={name}: there is no such style{hint}; style=? lists all")
    return styles[name]


def read_style(name: str) -> tuple[PaintingNetwork, Card]:
    """The network of a style, and its card.

    Raises:
        StyleError: There is no such style, or its file cannot be used.
    """
    return _read(find_style(name))


def _read(path: Path) -> tuple[PaintingNetwork, Card]:
    card = read_card(path)
    from safetensors.torch import load_file

    try:
        with torch.device("meta"):  # a stranger's card may ask for any size: only what the file holds is allocated
            network = PaintingNetwork(**card.network)
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()}, assign=True)
    except (RuntimeError, TypeError) as error:
        raise StyleError(f"{path}: its weights do not fit its card: {' '.join(str(error).split())}") from error
    return network, card


def load_style(name: str, device: torch.device | str = "cpu", **options: Any) -> Translator:
    """A style as a function on pictures.

    Args:
        name: One of :func:`find_styles`.
        device: Where it runs.
        options: ``strength``, ``keep_colors`` and ``stroke`` of :class:`Painting`.

    Raises:
        StyleError: There is no such style, or its file cannot be used.
        UserError: An option is out of its range.
    """
    return open_style(find_style(name), device, f"style={name}", **options)


def open_style(path: Path, device: torch.device | str, title: str, **options: Any) -> Translator:
    """A style's file as a function on pictures.

    Args:
        path: What `write_style` has written.
        device: Where it runs.
        title: What it is called.
        options: As for :func:`load_style`.

    Raises:
        UserError: As from :func:`load_style`.
    """
    network, card = _read(path)
    network = network.eval().to(device, memory_format=torch.channels_last)
    return Translator(Painting(network, card.pixels, Finish(card.outlines), **options), device, 0, title)


def read_card(path: Path) -> Card:
    """The card of a style's file.

    Raises:
        StyleError: The file is damaged, or no style.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return conform(parse_json((file.metadata() or {})[_CARD]), Card)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StyleError(f"{path} is no style of this suite, or damaged: {error}") from error


def holds_style(path: Path) -> bool:
    """Whether this is a style's file."""
    if path.suffix != ".safetensors":
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return _CARD in (file.metadata() or {})
    except (OSError, SafetensorError):  # said by who reads it
        return False


def write_style(path: Path, network: PaintingNetwork, card: Card) -> None:
    """Write a style: weights in float16 with its card, in one file."""
    from safetensors.torch import save

    weights = {key: value.detach().half().contiguous() for key, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path, "wb") as file:
        file.write(save(weights, {_CARD: json.dumps(asdict(replace(card, network=network.arguments)))}))
