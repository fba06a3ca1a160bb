"""Weights that others have trained: found, fetched, read without running code that a file may hold, and checked."""

import contextlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_ghibli.checksums import sha256_of, verify_archive
from lit_ghibli.errors import UserError

# Of RGB in [0, 1]: what torchvision's networks were trained on.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_may_fetch = ContextVar("may_fetch", default=True)


@contextlib.contextmanager
def without_fetching() -> Iterator[None]:
    """Fetch nothing in this block: weights are there, or an error."""
    token = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(token)


def published_digits(url: str) -> str:
    """The first digits of a file's SHA-256, in which its name ends: ``<anything>-<digits>.pth``."""
    return Path(url).stem.rpartition("-")[2]


def find_weights(url: str, ways_out: str) -> Path:
    """The file of a URL in torch.hub's cache, downloaded if need be.

    Args:
        url: Of a file named ``<anything>-<digits>.pth``, the digits being the first of its checksum.
        ways_out: What a person without this file can do instead, for the error.

    Raises:
        UserError: It is neither there nor can be fetched, or is damaged.
    """
    path, digits = Path(torch.hub.get_dir(), "checkpoints", Path(url).name), published_digits(url)
    if not path.is_file():
        if not _may_fetch.get():
            raise UserError(f"no weights at {path}, and nothing is fetched while a checkpoint is loaded: {ways_out}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits)
        except (OSError, RuntimeError) as error:  # RuntimeError: what arrived has another checksum
            raise UserError(f"no weights at {path}, and {url} could not be fetched ({error}): {ways_out}") from error
    if not (found := sha256_of(path)).startswith(digits):
        raise UserError(
            f"{path}: damaged, its SHA-256 {found[:16]} does not begin with {digits}; delete it, and {ways_out}"
        )
    return path


def read_weights(path: Path, network: str) -> dict[str, Any]:
    """The state dict in a file.

    Args:
        path: A ``.pth``, ``.pt`` or ``.safetensors`` file.
        network: Whose weights these should be, for errors.

    Raises:
        UserError: The file is missing, damaged, refused as unsafe, or holds something else.
    """
    advice = f"give a state dict of {network}"
    if not path.is_file():
        raise UserError(f"{path}: no such file; {advice}")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if archive := zipfile.is_zipfile(path):
            verify_archive(path)
        elif _begins_with(path, b"PK"):
            raise ValueError("cut short")
        with warnings.catch_warnings():  # of how others write files
            warnings.simplefilter("ignore")
            # Mapped where the format allows: what of a whole network's file is not asked for stays unread.
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except UserError:
        raise
    except Exception as error:  # the readers raise many kinds on damaged data
        if isinstance(error, pickle.UnpicklingError) and (asked := re.search(r"GLOBAL ([\w.]+)", str(error))):
            raise UserError(
                f"{path}: refused, since it holds more than tensors and plain values: {asked[1]}; {advice}"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "weights_only" in str(error) or isinstance(error, pickle.UnpicklingError):  # torch says how to run all
            reason = "no file that torch.save has written"
        raise UserError(f"{path}: damaged, or no weights at all ({reason}); {advice}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}; {advice}")
    return dict(state)


def pick_weights(
    state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path, network: str
) -> dict[str, Tensor]:
    """The tensors of these names and shapes; what else a state dict holds is left out.

    Args:
        state: What `read_weights` has read.
        shapes: By name.
        path: Of the file, for errors.
        network: Whose weights these should be, for errors.

    Raises:
        UserError: Some are missing, or one has another shape.
    """
    advice = f"give a state dict of {network}"
    if missing := [name for name in shapes if name not in state]:
        listed = f"{', '.join(missing[:3])}{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}"
        raise UserError(f"{path}: no weights of {network}, for it lacks {listed}; {advice}")
    for name, shape in shapes.items():
        if (found := tuple(getattr(state[name], "shape", ()))) != shape or not isinstance(state[name], Tensor):
            raise UserError(f"{path}: {name} should have the shape {shape} but has {found}; {advice}")
    return {name: state[name] for name in shapes}


def _begins_with(path: Path, begin: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(begin)) == begin


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(f"{path}: to read it, run `pip install safetensors`, or give a .pth file") from error
    return load_file(path)
