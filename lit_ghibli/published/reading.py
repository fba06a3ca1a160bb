"""Files of published weights in any of the forms in which they are found, read without running code of theirs."""

import glob
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.files import check_plain
from lit_ghibli.networks.pretrained.protobuf import DamagedError
from lit_ghibli.networks.weights import read_weights
from lit_ghibli.published.tensorflow import read_tensors

# Under which a program keeps its generator's weights, beside optimisers and counters.
_WRAPPERS = ("state_dict", "model_state_dict", "generator_state_dict", "params", "model", "netG")
# What stands before every name of a network that was part of another module.
_PREFIXES = ("module.", "netG.", "G.")

_MOST = 2_000_000_000  # bytes of arrays that a file may say that it holds
_DEEPEST = 10  # state dicts one within the other
_FORMS = "give a .pth, .pt or .safetensors file, an .npz file, a folder of .npy files, or a checkpoint of TensorFlow"
_OTHER_FORMS = {
    ".onnx": "an ONNX graph, which holds a program rather than named weights: give the .pth file or the checkpoint "
    "that it was made from, or let its own program write pictures, and give compare NAME:FOLDER",
    ".pb": "a frozen graph of TensorFlow: give the checkpoint that it was made from, its .index file",
    ".tflite": "a graph of TensorFlow Lite: give the checkpoint that it was made from, its .index file",
    ".t7": "a file of Lua Torch: give its conversion to PyTorch, a .pth file",
}


def read_published(path: Path) -> dict[str, Tensor]:
    """The weights in a file or folder by name, as they are stored.

    What is around a generator's state dict falls away: optimisers and counters beside it, and ``module.``, ``netG.`` or
    ``G.`` before its names.

    Args:
        path: A ``.pth``, ``.pt`` or ``.safetensors`` file, an ``.npz`` file, a folder of ``.npy`` files, or the
            ``.index`` file, a ``.data`` file, the common beginning of both or the folder of a checkpoint of
            TensorFlow.

    Raises:
        UserError: It is missing, damaged, refused as unsafe, of another form, or holds no named tensors.
    """
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise UserError(f"{path}: no plain file; {_FORMS}")
    if (form := path.suffix.lower()) in _OTHER_FORMS:
        raise UserError(f"{path}: {_OTHER_FORMS[form]}")
    if (index := _index_of(path)) is not None:
        try:
            arrays = read_tensors(index)
        except DamagedError as error:
            raise UserError(f"{index}: damaged: {error}") from error
    elif not path.exists():
        raise UserError(f"{path}: no such file; {_FORMS}")
    elif path.is_dir():
        files = sorted(path.rglob("*.npy"))
        arrays = {file.relative_to(path).with_suffix("").as_posix(): _load_arrays(file) for file in files}
    elif form == ".npz":
        arrays = dict(_load_arrays(path))
    else:
        if _is_torchscript(path):
            raise UserError(
                f"{path}: a TorchScript file, which holds a program: write its weights with "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth'), where you trust it, and give that file"
            )
        return _stripped(_unwrapped(read_weights(path, "a generator"), path))
    if not arrays:
        raise UserError(f"{path}: holds no weights; {_FORMS}")
    return _stripped({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _index_of(path: Path) -> Path | None:
    """The index of a checkpoint of TensorFlow, if this is one.

    Raises:
        UserError: A folder holds several.
    """
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) > 1:
            raise UserError(f"{path}: holds {len(found)} checkpoints of TensorFlow; give one, such as {found[-1]}")
        return found[0] if found else None
    if path.suffix == ".index" or path.suffix.startswith(".data-"):
        index = path.with_suffix(".index")
    else:
        index = path.with_name(f"{path.name}.index")
        if path.exists():
            return None
    return index if index.is_file() else None


def _load_arrays(path: Path) -> Any:
    try:
        check_plain(path)
        if zipfile.is_zipfile(path) and _size_within(path) > _MOST:
            raise ValueError(f"more than {_MOST:,} bytes")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # the reader raises many kinds on damaged data
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "allow_pickle" in reason:  # by which a file's code would run
            reason = "objects in place of numbers, or none at all"
        raise UserError(f"{path}: damaged, or no arrays of numbers ({reason})") from error


def _size_within(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(part.file_size for part in archive.infolist())


def _unwrapped(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The innermost state dict.

    Raises:
        UserError: There is none.
    """
    for _ in range(_DEEPEST):  # it may be within itself
        if (wrapper := next((name for name in _WRAPPERS if isinstance(state.get(name), dict)), None)) is None:
            break
        state = state[wrapper]
    if strange := [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]:
        raise UserError(
            f"{path}: no state dict of a generator: {strange[0]!r} is a {type(state[strange[0]]).__name__}, no tensor; "
            f"a state dict is looked for in it, and below {', '.join(_WRAPPERS)}"
        )
    if other := [name for name, value in state.items() if not _is_plain(value)]:
        raise UserError(f"{path}: {other[0]} is sparse, quantised or without values: give plain tensors")
    if not state:
        raise UserError(f"{path}: holds no weights; {_FORMS}")
    return dict(state)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized)


def _stripped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same without what stands before every name; of several networks, the generator."""
    for prefix in _PREFIXES:
        named = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if named and (prefix != "module." or len(named) == len(state)):
            return _stripped(named)
    if all(name.startswith("generator/generator/") for name in state):  # as converters of TensorFlow's graphs write
        return {name.removeprefix("generator/"): value for name, value in state.items()}
    return state


def sha256_of_weights(path: Path) -> str:
    """The checksum of a file; of a folder or a checkpoint of TensorFlow, that of the list of its files' checksums."""
    index = _index_of(path)
    if index is None and path.is_file():
        return sha256_of(path)
    name = "" if index is None else glob.escape(index.stem)
    files = path.rglob("*.npy") if index is None else [index, *index.parent.glob(f"{name}.data-*")]
    lines = [f"{sha256_of(file)}  {file.name}\n" for file in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
