"""The only reader and writer of checkpoints.

A checkpoint is what Lightning makes of a run (networks, optimisers, schedulers, loops, callbacks) plus the
resolved configuration, so that one file is enough to translate photographs. It holds tensors and plain Python
values only and is read with ``weights_only=True``: opening a stranger's file runs none of its code. What is published
of it, the networks that translate, is a ``.safetensors`` file with the configuration in its header.
"""

import functools
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from lit_ghibli import cluster
from lit_ghibli.checksums import verify_archive
from lit_ghibli.documents import check_depth, conform, parse_json
from lit_ghibli.errors import UserError
from lit_ghibli.files import replacing, write_atomically

CONFIG_KEY = "lit_ghibli_config"


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or not one of this suite."""


def save(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write atomically: a reader sees the old file or the new one, also after a power cut."""
    with write_atomically(path, "wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's writer, closing, hides a full disk behind what follows from it
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running any code that it may hold.

    Args:
        path: File written by :func:`save`, or a ``.safetensors`` one by :func:`save_published`.
        mmap: Read tensors only when they are used: a translator then touches one generator of the file.

    Raises:
        CheckpointError: The file is missing, empty, truncated, refused as unsafe, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    if path.suffix == ".safetensors":
        return _checked(_read_published(path), path)
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise CheckpointError(
            f"{path}: not a checkpoint, or cut short ({size:,} bytes read); use another one of its run"
        )
    status = path.stat()
    _verify(path, (status.st_ino, status.st_size, status.st_mtime_ns))
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: refused, since it holds more than tensors and plain values: {error}") from error
    except Exception as error:  # torch's reader raises many kinds on damaged data
        raise CheckpointError(f"{path}: damaged: {error}") from error
    return _checked(checkpoint, path)


def save_published(state: dict[str, Tensor], config: dict[str, Any], path: str | Path) -> None:
    """Write the networks of a run that translate, and its configuration, as one ``.safetensors`` file.

    Args:
        state: Of them, by the names that a checkpoint has for it.
        config: Of plain values; the method's is in it.
        path: The file.
    """
    from safetensors.torch import save as as_bytes

    with write_atomically(path, "wb") as file:
        file.write(
            as_bytes({name: value.contiguous() for name, value in state.items()}, {CONFIG_KEY: json.dumps(config)})
        )


def _read_published(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            config = {CONFIG_KEY: parse_json(header[CONFIG_KEY])} if CONFIG_KEY in header else {}
            return {**config, "state_dict": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error


def _checked(checkpoint: Any, path: Path) -> dict[str, Any]:
    """What a file holds, if it is a checkpoint of this suite, with its configuration as it is written now."""
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or CONFIG_KEY not in checkpoint:
        raise CheckpointError(f"{path}: a checkpoint of another program: it has no '{CONFIG_KEY}'")
    try:
        check_depth(checkpoint[CONFIG_KEY])
        conform(checkpoint[CONFIG_KEY], {"method": {"_target_": str}}, CONFIG_KEY)
    except ValueError as error:
        raise CheckpointError(f"{path}: no configuration of a run: {error}") from error
    return {**checkpoint, CONFIG_KEY: as_today(checkpoint[CONFIG_KEY])}


@functools.lru_cache(maxsize=64)  # a file is opened several times until a run goes on from it
def _verify(path: Path, identity: tuple[int, int, int]) -> None:
    try:
        verify_archive(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}; use another one of its run") from error


class Progress(NamedTuple):
    """How far a run was when it wrote a checkpoint.

    Attributes:
        epochs: Those that were finished.
        batches: All of them.
    """

    epochs: int
    batches: int


def progress(checkpoint: dict[str, Any]) -> Progress:
    """How far the training was that wrote this checkpoint."""
    loop = checkpoint["loops"]["fit_loop"]
    return Progress(
        loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]["total"]["completed"]
    )


def as_today(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run from when CUT and FastCUT were options of NijiGAN, as it is written now."""
    method = config.get("method")
    if not isinstance(method, dict) or "flip_equivariance" not in method or "nce" not in method.get("weights", {}):
        return config
    weights = dict(method["weights"])
    nce, gan = weights.pop("nce"), weights["gan"]
    if not nce:
        kept = {key: value for key, value in method.items() if key != "flip_equivariance"}
        return {**config, "method": {**kept, "weights": weights}}
    if any(value for name, value in weights.items() if name != "gan"):  # a mixture that no method is now
        return config
    others = ("pair_discriminator", "vgg", "gamma", "schedule", "faithful")
    kept = {key: value for key, value in method.items() if key not in others}
    cut = {"_target_": "lit_ghibli.methods.cut.CUT", "weights": {"gan": gan, "nce": nce}}
    return {**config, "method": {**kept, **cut}}


def find(path: str | Path) -> Path:
    """The checkpoint file that ``path`` means: itself, or the last one of a run's folder or of its ``checkpoints``.

    Where there is no ``last.ckpt``, as among files that were copied, it is the newest epoch's, and then ``best.ckpt``.

    Raises:
        CheckpointError: There is none, or something else has its name.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise CheckpointError(f"{path}: no such run or checkpoint")
    if not path.is_dir():
        return _plain(path)
    for folder in (path / "checkpoints", path):
        epochs = sorted(folder.glob("epoch_*.ckpt"), reverse=True)
        for found in (folder / "last.ckpt", *epochs, folder / "best.ckpt"):
            if os.path.lexists(found):  # what cannot be read is not passed over: the next one is older
                return _plain(found)
    raise CheckpointError(f"{path}: this folder has no checkpoints/last.ckpt: nothing was saved yet")


def _plain(path: Path) -> Path:
    if not path.is_file():
        what = "a link that leads nowhere" if path.is_symlink() else "no file, but a folder, a pipe or the like"
        raise CheckpointError(f"{path}: {what}: move it away, or name another checkpoint of the run")
    return path


def of_this_job(run: str | Path) -> Path | None:
    """The last checkpoint in a run's folder if this very job of a scheduler's wrote it before it was requeued.

    What another job or a person has left there is not gone on with: a fresh run replaces it.

    Raises:
        CheckpointError: The file is damaged.
    """
    last, job = Path(run) / "checkpoints" / "last.ckpt", cluster.job()
    if job is None or not cluster.may_be_requeued() or not last.is_file():
        return None
    return last if load(last, mmap=True).get("job") == job else None


def newest_run(outputs: str | Path = "outputs") -> Path:
    """The run below ``outputs`` whose last checkpoint is the newest.

    Raises:
        CheckpointError: There is no run with a checkpoint.
    """
    if not (found := runs_below(outputs)):
        raise CheckpointError(f"no run with a checkpoint below {outputs}/: train one, or give checkpoint=<run or file>")
    return found[0]


def runs_below(outputs: str | Path) -> list[Path]:
    """The runs with checkpoints below a folder, the one whose last checkpoint is the newest first."""
    there = filter(Path.is_file, Path(outputs).glob("**/checkpoints/*.ckpt"))
    newest_first = sorted(there, key=lambda path: path.stat().st_mtime, reverse=True)
    return list(dict.fromkeys(path.parent.parent for path in newest_first))


class RunCheckpointIO(TorchCheckpointIO):
    """Lightning's door to :func:`save` and :func:`load`; adds the run's configuration to what is written.

    Args:
        config: Resolved configuration of the run, of plain dicts, lists and scalars.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` and the run's configuration to ``path``, atomically."""
        save({**checkpoint, CONFIG_KEY: self.config}, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read ``path`` onto the CPU; always weights-only, whatever ``weights_only`` says."""
        return load(path)


def link(source: str | Path, target: str | Path) -> None:
    """Make ``target`` the same checkpoint as ``source``, atomically and, where possible, at no cost on disk."""
    with replacing(target) as partial:
        try:
            os.link(source, partial)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, partial)
