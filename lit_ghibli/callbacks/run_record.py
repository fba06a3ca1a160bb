"""Writes a run's record when the run starts, and how it went when it ends."""

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from lit_ghibli.callbacks import environment, run_owner
from lit_ghibli.callbacks.record_file import FILE, PLACE, compare, differences, read_record
from lit_ghibli.data.fingerprint import fingerprint, fingerprint_files
from lit_ghibli.files import remove_partials, write_atomically
from lit_ghibli.trust import signature

_CHECKSUM = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")  # of which people need the beginning only
log = logging.getLogger(__name__)


class RunRecord(Callback):
    """Writes the record when a run starts, and how it went when it ends; warns of what is not as it was.

    Args:
        folder: The run's.
        config: Resolved configuration, of plain dicts, lists and scalars.
        links: Of its values that follow others, as they are written, by their dotted keys.
        command: What was typed.
        overrides: What of it the configuration was composed with.
        repeats: An attempt of another run, which this one should equal.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, Any],
        links: Mapping[str, Any],
        command: str,
        overrides: Sequence[str],
        repeats: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.config, self.links = Path(folder), config, links
        self.command, self.overrides, self.repeats = command, list(overrides), repeats
        self._attempts: list[dict[str, Any]] = []
        self._started = 0.0

    @property
    def began(self) -> bool:
        """Whether there was anything to train; known in the first process."""
        return bool(self._attempts)

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        remove_partials(self.folder)
        attempt = {
            "state": "running",
            "started": _now(),
            "command": self.command,
            "directory": str(Path.cwd()),
            "overrides": self.overrides,
            "signature": signature([word for word in self.overrides if not word.startswith(("hydra.", "hydra/"))]),
            "versions": environment.versions(),
            "code": environment.code(),
            "machine": environment.machine(trainer.strategy.root_device, trainer.world_size),
            "data": _data_of(trainer, pl_module),
            "weights": getattr(pl_module, "started_from", None),
        }
        attempt = json.loads(json.dumps(attempt, default=str))  # as it will be read: tuples are lists
        if trainer.ckpt_path and (self.folder / FILE).is_file():
            attempt["changed"] = self._go_on(attempt)
        elif self.repeats is not None:
            _warn("this run repeats one with another", differences(self.repeats, attempt))
        self._attempts.append(attempt)
        self._write()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        run_owner.check(self.folder)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._attempts:  # resumed with nothing left to do
            return
        for logger in trainer.loggers:
            logger.save()  # who reads that a run is finished will read its metrics next
        self._end(trainer, "finished")

    @rank_zero_only
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not self._attempts:  # stopped before it was ready
            return
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            self._end(trainer, "interrupted")
        else:
            self._end(trainer, "failed", error=f"{type(exception).__name__}: {exception}")

    def _go_on(self, attempt: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Take over the attempts so far, warn of what has changed, and return what has in the configuration."""
        record = read_record(self.folder)
        self._attempts = record["attempts"]
        if self._attempts[-1].get("state") == "running":  # nobody was left to note its end
            self._attempts[-1]["state"] = "killed"
        attempt["weights"] = self._attempts[-1].get("weights")  # which the checkpoint has seen
        _warn("this run goes on with another", differences(self._attempts[-1], attempt))
        changed = compare(record["config"], self.config)
        return {key: values for key, values in changed.items() if key.split(".")[0] not in PLACE}

    def _end(self, trainer: Trainer, state: str, **more: Any) -> None:
        batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._attempts[-1] |= {
            "state": state,
            "ended": _now(),
            "seconds": round(time.monotonic() - self._started, 3),
            "epochs": trainer.current_epoch,
            "batches": batches,
            **more,
        }
        self._write()

    def _write(self) -> None:
        """Replace the record at once: a reader sees the old one or the new one."""
        record = {
            "config": self.config,
            "links": self.links,
            "seed": self.config.get("seed"),
            "attempts": self._attempts,
        }
        with write_atomically(self.folder / FILE, encoding="utf-8") as file:
            file.write(json.dumps(record, indent=2, default=str) + "\n")


def _data_of(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """The fingerprint of a run's pictures; of a method that optimises one picture, of the files that it is told."""
    if (source := getattr(trainer.datamodule, "source", None)) is not None:
        return fingerprint(source)
    return {name: fingerprint_files(paths) for name, paths in pl_module.inputs().items()}


def _warn(what: str, found: Mapping[str, tuple[Any, Any]]) -> None:
    for key, values in found.items():
        before, now = (_CHECKSUM.sub(r"\1", str(value)) for value in values)
        log.warning("%s %s: %s instead of %s", what, key, now, before)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
