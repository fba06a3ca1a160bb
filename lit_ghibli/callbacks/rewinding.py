"""What a run has done since a checkpoint from which it goes on, kept before it is done again."""

import contextlib
import logging
import os
import re
import shutil
from itertools import count
from pathlib import Path

from lit_ghibli import checkpoints
from lit_ghibli.callbacks import run_owner

_KEPT = "rewound_{number}"  # a folder in the run's
log = logging.getLogger(__name__)


def keep_what_is_later(checkpoint: str | Path, run: str | Path) -> Path | None:
    """Copy the folder of a run that goes back to an earlier checkpoint, and take out of it what came later.

    The copy is a folder that can be gone on with, too. Checkpoints in it are links, and take no room.

    Args:
        checkpoint: Where the run goes on.
        run: Its folder.

    Returns:
        The copy; None where nothing came later.

    Raises:
        CheckpointError: The checkpoint cannot be used.
    """
    checkpoint, run = Path(checkpoint), Path(run)
    folder = run / "checkpoints"
    last = folder / "last.ckpt"
    if last.is_file() and checkpoint.samefile(last):
        return None
    here = checkpoints.progress(checkpoints.load(checkpoint, mmap=True))
    later = [path for path in sorted(folder.glob("*.ckpt")) if _is_later(path, here)]
    if not later:
        return None
    kept = next(path for number in count(1) if not (path := run / _KEPT.format(number=number)).exists())
    left_out = shutil.ignore_patterns(_KEPT.format(number="*"), run_owner.FILE, "*.partial", "wandb")
    shutil.copytree(run, kept, copy_function=_copy, ignore=left_out)
    log.warning(
        "%s goes back to the end of epoch %d; all that it did is kept: %s, which resume= takes, too",
        run,
        here.epochs,
        kept,
    )
    for path in (*later, *_pictures_after(run / "pictures", here.epochs)):
        path.unlink()
    checkpoints.link(checkpoint, last)  # so that the folder is of one time, whatever happens next
    return kept


def _is_later(path: Path, here: checkpoints.Progress) -> bool:
    if (epoch := re.fullmatch(r"epoch_(\d+)\.ckpt", path.name)) is not None:
        return int(epoch[1]) > here.epochs
    try:
        return checkpoints.progress(checkpoints.load(path, mmap=True)).batches > here.batches
    except checkpoints.CheckpointError:  # why the run goes back, perhaps
        return True


def _pictures_after(folder: Path, epoch: int) -> list[Path]:
    return [path for path in folder.glob("epoch_*.png") if int(path.stem.removeprefix("epoch_")) > epoch]


def _copy(source: str, target: str) -> None:
    if source.endswith(".ckpt"):  # which is replaced as a whole, where other files are written to
        with contextlib.suppress(OSError):  # a file system without hard links
            os.link(source, target)
            return
    shutil.copy2(source, target)
