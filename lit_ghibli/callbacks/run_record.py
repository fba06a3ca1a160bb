"""The record of a run, ``record.json`` in its folder: all that somebody needs to do it again, and how it went.

It holds the resolved ``config``; ``links``, those of its values that follow others, as they were written; the
``seed``; and ``attempts``, one for the start and one for each time that the run was resumed, with its command and
overrides, versions, code, machine, data, the file of a generator's first ``weights``, and state (``running``,
``finished``, ``interrupted``, ``failed``, or ``killed``, as the next attempt finds out).
"""

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

from lit_ghibli import checkpoints
from lit_ghibli.callbacks import environment, run_owner
from lit_ghibli.data.fingerprint import fingerprint, fingerprint_files
from lit_ghibli.documents import DocumentError, read_json
from lit_ghibli.errors import UserError
from lit_ghibli.files import remove_partials, write_atomically
from lit_ghibli.overrides import flatten
from lit_ghibli.trust import signature

FILE = run_owner.RECORD
PLACE = ("run_dir", "resume", "launcher", "trust")  # parts of a configuration that do not say what a run is
_ATTEMPT = {
    "state?": str,
    "changed?": dict[str, tuple[Any, Any]],
    "overrides?": list[str],
    "signature?": str | None,
}
_SCHEMA = {"config": dict[str, Any], "links": dict[str, str], "attempts": list[_ATTEMPT]}
_CHECKSUM = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")  # of which people need the beginning only
_COMPARED = ("versions", "code", "machine", "data", "weights")
log = logging.getLogger(__name__)


class RecordError(UserError):
    """A record that is missing, damaged, or of another program."""


def read_record(run: str | Path) -> dict[str, Any]:
    """The record of the run in this folder.

    Raises:
        RecordError: There is none, or it is none of ours.
    """
    path = Path(run) / FILE
    if not path.is_file():
        raise RecordError(f"{run}: no run that `lit-ghibli train` has recorded, since it has no {FILE}")
    try:
        record = read_json(path, _SCHEMA)
    except DocumentError as error:
        raise RecordError(f"{error}: no record of a run") from error
    if not record["attempts"]:
        raise RecordError(f"{path}: no record of a run: it lists no attempt")
    known = flatten(config := checkpoints.as_today(record["config"]))
    gone = flatten(record["config"]).keys() - known.keys()
    return {**record, "config": config, "links": {k: link for k, link in record["links"].items() if k not in gone}}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Versions, code, machine and data that two attempts do not share: what each was, and what it is now."""
    return compare(*({part: attempt.get(part) for part in _COMPARED} for attempt in (before, now)))


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Values of nested mappings that differ, by their dotted keys; None where there is none."""
    old, new = flatten(before), flatten(now)
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


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
