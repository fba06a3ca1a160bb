"""Checkpoints as artifacts of Weights & Biases."""

from pathlib import Path
from typing import Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_ghibli import checkpoints
from lit_ghibli.errors import UserError


class CheckpointArtifacts(Callback):
    """Uploads ``last.ckpt`` and ``best.ckpt`` as versions of the artifact ``checkpoint-<run id>``.

    Their aliases are ``last`` and ``best``, both of one version where the last epoch is the best one. Each version
    holds one file, ``model.ckpt``, and says after how many batches it was written. A file that has not changed is
    not uploaded again.

    Args:
        folder: Where the checkpoints are.
        when: ``end`` of the training, or every ``epoch`` (its file is uploaded as the next one starts); None: never.

    Raises:
        UserError: ``when`` is something else.
    """

    def __init__(self, folder: str | Path, when: Literal["end", "epoch"] | None) -> None:
        if when not in (None, "end", "epoch"):
            raise UserError(f"callbacks.artifacts.when must be null, end or epoch; got {when!r}")
        self.folder, self.when = Path(folder), when
        self._uploaded: dict[str, tuple[int, int]] = {}

    @rank_zero_only
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.when == "epoch" and trainer.current_epoch:
            self._upload(trainer)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.when:
            self._upload(trainer)

    def _upload(self, trainer: Trainer) -> None:
        changed: dict[tuple[int, int], list[str]] = {}  # names by file
        for name in ("last", "best"):
            path = self.folder / f"{name}.ckpt"
            if path.is_file() and (file := _identity(path)) != self._uploaded.get(name):
                changed.setdefault(file, []).append(name)
                self._uploaded[name] = file
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for names in changed.values():
                    _send(logger, self.folder / f"{names[0]}.ckpt", names)


def _send(logger: WandbLogger, path: Path, aliases: list[str]) -> None:
    import wandb

    batches = checkpoints.progress(checkpoints.load(path, mmap=True)).batches
    artifact = wandb.Artifact(f"checkpoint-{logger.experiment.id}", type="model", metadata={"batches": batches})
    artifact.add_file(str(path), name="model.ckpt")  # copied: the training goes on to replace the file
    logger.experiment.log_artifact(artifact, aliases=aliases)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
