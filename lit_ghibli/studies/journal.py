"""The file in which a search and its trials, each a program of its own, write down what happens."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from lit_ghibli.errors import UserError

PLAN = "plan"  # attribute of a study: all that its search was begun with
PRUNED = "pruned"  # attribute of a trial that stopped early: after which step
PRUNERS = {
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
}


def open_journal(path: Path) -> JournalStorage:
    """The journal in this file, made where there is none, without a last line that a crash cut short."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(path))
    lock.acquire()
    try:
        path.touch()
        written = path.read_bytes()
        complete = written.rfind(b"\n") + 1
        if complete < len(written):  # Optuna would append to it, and never read the file again
            os.truncate(path, complete)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock))


def make_pruner(settings: Mapping[str, Any] | None) -> BasePruner:
    """The pruner of these settings: ``name``, and what else it takes; one that never prunes for None.

    Raises:
        UserError: There is no such pruner, or it does not take that.
    """
    if settings is None:
        return optuna.pruners.NopPruner()
    return make(PRUNERS, "pruner", settings, without=("monitor",))


def make(
    kinds: Mapping[str, Any], what: str, settings: Mapping[str, Any], without: Collection[str] = (), **more: Any
) -> Any:
    """An object of the kind ``settings["name"]``, made from the other settings, ``without`` some, and with ``more``.

    Raises:
        UserError: There is no such kind, or it does not take these settings.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"{what} must be a mapping, such as {{name: {next(iter(kinds))}}}; got {settings!r}")
    options = {key: value for key, value in settings.items() if key not in ("name", *without)}
    name = settings.get("name")
    if name not in kinds:
        raise UserError(f"{what} must have a name, one of {', '.join(kinds)}; got {dict(settings)}")
    try:
        return kinds[name](**options, **more)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}={name}: {error}") from error


def report(path: Path, study: str, number: int, step: int, value: float, prune: bool) -> bool:
    """Write down a validation of a trial under way; return whether the trial should stop, which is noted as well.

    A step that was reported before, by a process that was cut off, is not reported again and stops nothing.

    Args:
        path: The journal.
        study: Name of the search in it.
        number: Of the trial.
        step: Counts the validations.
        value: The metric.
        prune: Whether stopping is still worth asking for.

    Raises:
        UserError: There is no such journal, search or trial.
    """
    if not path.is_file():
        raise UserError(f"callbacks.pruning.journal={path}: no such file; give pruning=null to train without a search")
    storage = open_journal(path)
    try:
        plan = storage.get_study_user_attrs(storage.get_study_id_from_name(study))[PLAN]
        trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study), number)
    except KeyError as error:
        raise UserError(f"{path}: no trial {number} of a search '{study}' in this journal") from error
    frozen = storage.get_trial(trial_id)
    if frozen.state.is_finished() or step in frozen.intermediate_values:
        return False
    opened = optuna.load_study(study_name=study, storage=storage, pruner=make_pruner(plan["pruner"]))
    trial = optuna.trial.Trial(opened, trial_id)
    trial.report(value, step)
    if not prune or not trial.should_prune():
        return False
    trial.set_user_attr(PRUNED, step)
    return True


def was_pruned(path: Path, study: str, number: int) -> bool:
    """Whether the journal notes that a trial's validations stopped it."""
    storage = open_journal(path)
    trial = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study), number)
    return PRUNED in storage.get_trial_user_attrs(trial)
