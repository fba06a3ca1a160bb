"""From a style, a run or a checkpoint to the function that translates photographs.

What reads runs is imported where it is needed: a style opens in a fraction of the time that Lightning takes.
"""

import contextlib
import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError, did_you_mean
from lit_ghibli.images import to_unit
from lit_ghibli.inference import hub
from lit_ghibli.inference.style_pictures import is_style_pictures
from lit_ghibli.inference.styles import PAINTER, find_styles, holds_style, load_style, open_style
from lit_ghibli.inference.translator import Translator

AHEAD, BACK = "AtoB", "BtoA"  # from photographs to anime pictures, and from these to photographs
EMA, RAW = "ema", "raw"  # the moving average of a run's weights, and those of its last step


@dataclass(frozen=True)
class Model:
    """What a word stands for that turns photographs into pictures: a run, a checkpoint or a style.

    Attributes:
        name: Of a run, its checkpoint's path.
        translator: Its function on pictures.
        config: The run's configuration, also of imported weights; None of a style, which keeps none.
        origin: The file of its weights; of the painter, its settings.
    """

    name: str
    translator: Translator
    config: dict[str, Any] | None
    origin: Any

    @property
    def data(self) -> dict[str, Any] | None:
        """The configuration of a run's data; None of a style and of imported weights, which know none."""
        return self.config.get("data") if self.config else None

    @property
    def sha256(self) -> str:
        """By which this is told from others, whatever they are called."""
        if isinstance(self.origin, Path):
            return sha256_of(self.origin)
        return hashlib.sha256(repr(self.origin).encode()).hexdigest()


def choose_device(device: str) -> torch.device:
    """The device of this name; ``auto`` means a GPU where there is one.

    Raises:
        UserError: There is no GPU, or no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device={device}: no GPU that torch can use; choose device=cpu or device=auto")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device}: choose auto, cpu or cuda") from error


def load(
    run: str | PathLike[str],
    *,
    device: str = "auto",
    tile: int = 1024,
    solver: str | None = None,
    steps: int | None = None,
    direction: str = AHEAD,
    weights: str | None = None,
    size: int | None = None,
    strength: float = 1.0,
    keep_colors: bool = False,
    stroke: float = 1.0,
    scale: float = 1.0,
    trust: bool = False,
) -> Translator:
    """A style, or the trained generator of a run, as a function on pictures.

    Args:
        run: The name of a style, such as ``meadow``, or ``painter``; a style by pictures, as for
            :func:`~lit_ghibli.inference.style_pictures.find_style_pictures`, ``magenta26:0`` ... ``magenta26:25``, or
            ``arbitrary``, which takes pictures later: ``load("arbitrary").with_style(PICTURE)``; a run's folder, whose
            last checkpoint is taken; a checkpoint; ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``, what
            ``lit-ghibli push`` has written to the Hugging Face Hub; or what :func:`lit_ghibli.train` returned. What
            exists as a path is no name.
        device: ``auto``, which is a GPU where there is one, ``cpu`` or ``cuda``.
        tile: Photographs with more than ``tile * tile`` pixels are translated in tiles of about this side; 0 never.
        solver: Of a network with ODE blocks: euler, midpoint, rk4 or dopri5; None: as trained.
        steps: Of solvers with fixed steps, in each block; None: as trained.
        direction: ``AtoB``, from photographs to anime pictures; or ``BtoA``, of CycleGAN, which learns both.
        weights: Of a run: ``ema``, the moving average that it was judged by, where it has kept one; ``raw``, those of
            its last step; None: the first where there is one.
        size: Of a run: paint as many pixels as a square of this side has, and enlarge the picture with sharp edges, so
            that strokes are as broad as in training; None: at the photograph's own size.
        strength: From 0, which leaves the photograph as it is, or, of a style by pictures, its own style, to 1.
        keep_colors: Keep the photograph's colors.
        stroke: Of a style with a name: how broad its strokes are, 0.5 to 2.
        scale: Of a style by pictures: at how many times the photograph's size it is painted, which makes strokes finer.
        trust: Load a checkpoint also where it asks for other classes than the suite's own, if you know whose it is.

    Returns:
        A function of a path, a PIL image, an array or a tensor: see :meth:`Translator.__call__`.

    Raises:
        UserError: There is no such run, its files cannot be used, or an argument cannot.
    """
    if not is_style(run):
        if (stroke, scale) != (1.0, 1.0):
            raise UserError(f"{run}: stroke and scale are of styles, and this is a run: give size=")
        if trust:
            from lit_ghibli.trust import trusting
        with trusting() if trust else contextlib.nullcontext():
            model = open_model(run, device, tile, direction=direction, weights=weights)
        return model.translator.with_solver(solver, steps).with_size(size, strength, keep_colors)
    if size is not None:
        raise UserError(f"{run}: size is of runs, and this is a style: give stroke= or scale=")
    options = {"strength": strength, "keep_colors": keep_colors, "stroke": stroke, "scale": scale}
    model = open_model(run, device, tile, direction=direction, weights=weights, **options)
    return model.translator.with_solver(solver, steps)


def open_model(
    word: str | PathLike[str],
    device: str = "auto",
    tile: int = 1024,
    painter: Any = None,
    direction: str = AHEAD,
    weights: str | None = None,
    **options: Any,
) -> Model:
    """Load what a word stands for.

    Args:
        word: As for :func:`load`.
        device: As for :func:`load`.
        tile: As for :func:`load`.
        painter: That of the word ``painter``; None for that of ``conf/painter/meadow.yaml``.
        direction: Of a run: as for :func:`load`.
        weights: Likewise.
        options: Of a style: as for :func:`~lit_ghibli.inference.styles.load_style`.

    Raises:
        UserError: As from :func:`load`.
    """
    if not is_style(word):
        path = find_checkpoint(word)
        return Model(str(path), *load_translator(path, device, tile, direction, weights), path)
    _refuse_of_runs(direction, weights, f"{word} is a style")
    name, chosen = str(word), choose_device(device)
    options = options_of(name, options)
    if is_style_pictures(name):
        from lit_ghibli.inference.stylization import open_stylization, origin_of

        translator = Translator(open_stylization(name, chosen, tile, **options), chosen, tile=0)
        return Model(name, translator, None, origin_of(name))
    if name != PAINTER:
        return Model(name, load_style(name, chosen, **options), None, find_styles()[name])
    if painter is None:
        from lit_ghibli.recipes import build_painter

        painter = build_painter()
    return Model(name, load_painter(chosen, painter, **options), None, painter)


def is_style(word: str | PathLike[str]) -> bool:
    """Whether a word names a style rather than the path of a run."""
    if Path(word).exists():
        return Path(word).is_file() and is_style_pictures(str(word))
    return str(word) == PAINTER or str(word) in find_styles() or is_style_pictures(str(word))


def options_of(word: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a kind of style has.

    Raises:
        UserError: One of another kind is given.
    """
    other = "stroke" if is_style_pictures(word) else "scale"
    if options.get(other, 1) != 1:
        kinds = {"stroke": "a style with a name", "scale": "a style by pictures, such as style=painting.jpg"}
        raise UserError(f"{other}={options[other]}: that is of {kinds[other]}; leave it out with style={word}")
    return {key: value for key, value in options.items() if key != other}


def like_styles(word: str | PathLike[str]) -> str:
    """The end of a message about a word that stands for nothing: the styles that are called alike."""
    return did_you_mean(str(word), [*find_styles(), PAINTER])


def find_checkpoint(word: str | PathLike[str]) -> Path:
    """The checkpoint of a run's folder, or the file itself; of an address on the hub, the copy in its cache.

    Raises:
        CheckpointError: There is none.
        UserError: It cannot be had from the hub.
    """
    from lit_ghibli import checkpoints

    if hub.is_address(word):
        return hub.fetch(word)
    if not Path(word).exists():
        raise checkpoints.CheckpointError(f"{word}: no such run or checkpoint, and no style{like_styles(word)}")
    return checkpoints.find(word)


def load_painter(device: torch.device | str, painter: Any, **options: Any) -> Translator:
    """The painter as a function on pictures.

    Args:
        device: Where it runs.
        painter: A :class:`~lit_ghibli.painter.painter.Painter`.
        options: As for :func:`~lit_ghibli.inference.styles.load_style`.
    """
    from lit_ghibli.inference.painting import PIXELS, Painting

    return Translator(
        Painting(lambda photo: painter.paint(to_unit(photo), unit=1.0) * 2 - 1, PIXELS, **options), device, 0
    )


def _refuse_of_runs(direction: str, weights: str | None, what: str) -> None:
    """Refuse what only runs can be asked for."""
    for key, given, without in (("direction", direction, AHEAD), ("weights", weights, None)):
        if given != without:
            raise UserError(f"{key}={given}: that is of runs, and {what}")


def load_translator(
    path: Path, device: str, tile: int, direction: str = AHEAD, weights: str | None = None
) -> tuple[Translator, dict[str, Any] | None]:
    """Read only the translating generator of a checkpoint; return it and the run's configuration.

    A style's file, such as one from the hub, has no configuration; nor has an exported model, which ends in ``.onnx``
    and runs on the CPU.

    Raises:
        CheckpointError: The file cannot be read, or its weights do not fit its configuration.
        UserError: The method makes one picture only, or translates in one direction only.
    """
    if direction not in (AHEAD, BACK):
        raise UserError(f"direction={direction}: choose {AHEAD}, from photographs to anime pictures, or {BACK}")
    if path.suffix == ".onnx":
        if device not in ("auto", "cpu"):
            raise UserError(f"device={device}: {path} runs on the CPU; choose device=cpu or device=auto")
        _refuse_of_runs(
            direction, weights, f"{path} translates as it was exported: lit-ghibli export RUN direction=..."
        )
        return load_onnx(path, tile), None
    if holds_style(path):
        _refuse_of_runs(direction, weights, f"{path} is a style")
        return open_style(path, choose_device(device), str(path)), None
    _, network, config = read_network(path, direction, weights)
    return Translator(network.float(), choose_device(device), tile, str(path)), config


def read_network(
    path: Path, direction: str = AHEAD, weights: str | None = None
) -> tuple[str, nn.Module, dict[str, Any]]:
    """The generator of a checkpoint that translates in this direction, with these weights of it, as for :func:`load`.

    Returns:
        Its name in the method, itself, and the run's configuration.

    Raises:
        CheckpointError: The file cannot be read, or its weights do not fit its configuration.
        UserError: The method makes one picture only, or translates in one direction only.
    """
    from lit_ghibli import checkpoints
    from lit_ghibli.trust import import_targets, instantiate_trusted, trusted_class

    checkpoint = checkpoints.load(path, mmap=True)
    config = checkpoint[checkpoints.CONFIG_KEY]
    method_class = trusted_class(config["method"])
    if not hasattr(method_class, "translator"):
        raise UserError(
            f"{path}: {method_class.__name__} has made one picture and has no network that translates others: paint "
            "each photograph with lit-ghibli nst, or give checkpoint=<a run of another method>"
        )
    if direction == BACK and not hasattr(method_class, "reverse_translator"):
        raise UserError(f"{path}: {method_class.__name__} has no generator for direction={BACK}; CycleGAN has")
    import_targets(config["method"])  # now: on the meta device, torchdiffeq's tables would be made without values
    with torch.device("meta"):  # a skeleton: nothing is allocated for the networks that stay unused
        method = instantiate_trusted(config["method"])
    network = method.translator() if direction == AHEAD else method.reverse_translator()
    prefix = next((f"{name}." for name, module in method.named_children() if module is network), None)
    if prefix is None:  # of a class of somebody's own
        raise UserError(f"{path}: what the translator() of {method_class.__name__} returns is no network of its own")
    state = checkpoint["state_dict"] | _averages(checkpoint, weights, path)
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise checkpoints.CheckpointError(f"{path}: its weights do not fit its configuration: {why}") from error
    return prefix[:-1], network, config


def _averages(checkpoint: dict[str, Any], weights: str | None, path: Path) -> dict[str, torch.Tensor]:
    """Those averages of a checkpoint's weights that take these weights' place."""
    if weights not in (None, EMA, RAW):
        raise UserError(f"weights={weights}: choose {EMA}, a run's moving average, or {RAW}, those of its last step")
    if weights == EMA and "ema" not in checkpoint:
        raise UserError(
            f"{path}: weights={EMA}: its run has kept no moving average; leave weights out, or train with "
            "callbacks.ema.decay=0.999"
        )
    return {} if weights == RAW else checkpoint.get("ema", {})


def load_onnx(path: Path, tile: int) -> Translator:
    """An exported model as a function on pictures.

    Args:
        path: What ``lit-ghibli export`` has written.
        tile: As for :func:`load`; a model that measures the whole photograph never translates in tiles.

    Raises:
        UserError: onnxruntime is missing, or the file is no such model.
    """
    from lit_ghibli.inference.onnx_model import OnnxNetwork
    from lit_ghibli.inference.painting import Painting
    from lit_ghibli.painter.finish import Finish

    network = OnnxNetwork(path)
    if network.interface.pixels:
        return Translator(
            Painting(network, network.interface.pixels, Finish(network.interface.outlines)), "cpu", 0, str(path)
        )
    return Translator(network, "cpu", 0 if network.interface.whole else tile, str(path))
