"""What `lit-ghibli sweep` does with a study: run its cells, each in a process of its own, and report."""

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import typed_command
from lit_ghibli.errors import UserError, say
from lit_ghibli.recipes import compose
from lit_ghibli.studies.cells import GridSource, SearchSource, Source, enter
from lit_ghibli.studies.forecast import forecast
from lit_ghibli.studies.launcher import Launcher
from lit_ghibli.studies.ledger import CellLedger, Entry, Ledger, count_states
from lit_ghibli.studies.report import REPORT, title, write_report
from lit_ghibli.studies.runner import LOG, Runner, Step, progress
from lit_ghibli.studies.schedulers import Local, Scheduler, Slurm
from lit_ghibli.studies.search import JOURNAL
from lit_ghibli.studies.stamps import cells_apart
from lit_ghibli.studies.steps import collect, steps_of, training
from lit_ghibli.studies.study import SEED, Cell, Study
from lit_ghibli.trust import check_words

_DECIDING = ["method", "data", "metrics", "trainer", "runtime", "seed", "optimized_metric"]  # not where it reports to
_SCHEDULERS = {scheduler.name: scheduler for scheduler in (Slurm, Local)}
_DIGITS = 12  # of a configuration's hash


def run_study(config: DictConfig, study: Study, words: list[str], out: Path) -> None:
    """Run what is not done, print one line for each cell, and write the report.

    Args:
        config: Of the command.
        study: With what was typed for all trainings.
        words: What was typed of a launcher.
        out: Folder of the ledger, the cells and the report.

    Raises:
        SystemExit: A cell failed, or the sweep was stopped.
        UserError: Something given is impossible.
    """
    if config.retry and study.search is not None:
        raise UserError("--retry: a failed trial counts as one; raise the number of trials in the study's file")

    def check(words: Iterable[str]) -> None:
        given = (word.replace("{trained}", "trained") for word in words if word not in config.overrides)
        if not config.trust:
            check_words(given, str(config.study), out)

    check(chain(study.common, study.trained or (), study.evaluate or (), study.compare or ()))
    scheduler = _scheduler(words, out, config.jobs)
    with contextlib.ExitStack() as stack:
        if config.dry_run and study.search is not None and not (out / JOURNAL).exists():
            out = Path(stack.enter_context(TemporaryDirectory(prefix="lit_ghibli_")))  # its space may change yet
        ledger = stack.enter_context(Ledger(out))
        identify = partial(_identify, study, check)
        if study.search is None:
            source: Source = GridSource(ledger, study, identify, retry=config.retry)
        else:
            source = SearchSource(ledger, study, identify)
        say(f"{study.name}: {study.question}", f"{source.overview}; ledger: {ledger.path}")
        if config.dry_run:
            forecast(ledger, study, source, config.forecast_steps, config.jobs)
            return
        if config.retry:
            _measure_again(ledger, study, source)
        stopped = _run(ledger, study, source, config.jobs, config.trust, scheduler)
        _report(study, source, out, config.num_images, stopped)
    if stopped:
        raise SystemExit(f"stopped, {count_states(source.entries(), source.total)}; the same command goes on")


def _scheduler(words: list[str], out: Path, jobs: int) -> Scheduler | None:
    """What the cells are started by; None if that is this program.

    Raises:
        UserError: There is no such launcher, or it is not one of cells.
    """
    if not words:
        return None
    settings = compose("train", words).get("launcher") or {}
    chosen = next((word.split("=")[1] for word in words if word.lstrip("+").startswith("launcher=")), "")
    if chosen not in _SCHEDULERS or settings.get("nodes", 1) > 1 or settings.get("processes", 1) > 1:
        raise UserError(
            f"{' '.join(words)}: a cell is one process of {' or '.join(f'launcher={name}' for name in _SCHEDULERS)}; "
            "several GPUs are for one with launcher.gpus=4 trainer=ddp trainer.devices=4"
        )
    return _SCHEDULERS[chosen](out, settings, jobs)


def _identify(study: Study, check: Callable[[Iterable[str]], None], cell: Cell) -> str:
    """Hash of everything that decides what a cell does: a finished one with the same hash need not run again.

    Raises:
        UserError: Its overrides do not compose, or are not to come from a file.
    """
    check(cell.overrides)
    parts = [study.command, *(cell.overrides if study.command != "train" else [_composed(cell)])]
    return _hash(parts if study.trained is None else [*parts, _composed(_before(study))])


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]


def _composed(cell: Cell) -> str:
    """What decides a training's result, values that follow from others left open.

    Raises:
        UserError: The cell's overrides do not compose.
    """
    try:
        config = compose("train", list(cell.overrides))
        return OmegaConf.to_yaml(OmegaConf.masked_copy(config, _DECIDING), sort_keys=True)
    except UserError as error:
        raise UserError(f"{cell.name}: {error.lines[0]}", *error.lines[1:]) from error


def _run(ledger: Ledger, study: Study, source: Source, jobs: int, trust: bool, scheduler: Scheduler | None) -> bool:
    """Run what is left of the cells; whether a stop cut it short.

    Raises:
        SystemExit: The training before all cells did not end well.
    """
    trained = "" if study.trained is None else _train_before(ledger, study, trust, scheduler)
    for entry in source.entries():
        if entry.state == "done" and study.evaluate is not None and entry.evaluated_by != list(study.evaluate):
            entry.state = "waiting"  # for the evaluation, which is another now
        elif entry.state == "done" and not set(study.metrics) <= entry.metrics.keys():
            collect(study, entry, ledger.folder / entry.folder)
    ledger.save()
    if known := sum(entry.state == "done" for entry in source.entries()):
        print(f"{known} of {source.total} are done already", flush=True)

    def results(entry: Entry, folder: Path) -> None:
        if source.pruned(entry)():
            entry.state = "pruned"
        else:
            collect(study, entry, folder)

    def report(key: str) -> None:
        source.ended(key)
        say(progress(ledger.entries[key], source.entries(), source.total, jobs))

    def plan(entry: Entry) -> Callable[[Entry, Path], Iterator[Step]]:
        return partial(steps_of, study, trained, trust, source.pruned(entry))

    alone = study.command == "estimate"  # memory is that of a process which nothing has been imported for
    runner = _runner(ledger, plan, results, jobs, scheduler, ahead=study.search is None, preload=not alone)
    runner.run(source.take, report)
    return runner.stopped


def _measure_again(ledger: Ledger, study: Study, source: Source) -> None:
    """Let cells whose numbers cannot stand beside the others' be evaluated once more."""
    apart = cells_apart(study, source.entries(), ledger.folder)
    for entry in source.entries():
        if entry.name in apart:
            entry.state, entry.evaluated_by = "waiting", None
    ledger.save()


def _runner(
    ledger: Ledger,
    plan: Callable[[Entry], Callable[[Entry, Path], Iterator[Step]]],
    results: Callable[[Entry, Path], None],
    jobs: int,
    scheduler: Scheduler | None,
    ahead: bool = False,
    preload: bool = True,
) -> Runner | Launcher:
    if scheduler is not None:
        return Launcher(ledger, plan, results, jobs, scheduler, ahead)

    def begins(key: str) -> bool:
        entry = ledger.entries[key]
        if entry.attempt:  # a job of an earlier sweep's, which is given no more to do
            entry.take_over(CellLedger(ledger.folder, key, entry).read() or entry)
            entry.job, entry.attempt = None, ""
        return True

    return Runner(ledger, lambda entry, folder: plan(entry)(entry, folder), results, jobs, begins, preload)


def _before(study: Study) -> Cell:
    """The training that comes before all cells."""
    return Cell({"trained": "before all cells"}, study.trained)


def _train_before(ledger: Ledger, study: Study, trust: bool, scheduler: Scheduler | None) -> str:
    """The folder of the training that comes before all cells, done if it is not.

    Raises:
        SystemExit: It did not end well.
    """
    cell = _before(study)
    key = _hash([_composed(cell)])
    enter(ledger, key, cell, folder="")
    entry = ledger.entries[key]
    if entry.state != "done":
        runner = _runner(ledger, lambda _: partial(training, trust), lambda *_: None, 1, scheduler)
        runner.run(iter([key, None]).__next__, lambda _: say(f"{entry.name}: {entry.state}"))
    if entry.state != "done":
        say(*entry.error)
        raise SystemExit(f"{entry.name}: {entry.state}; the same command goes on")
    return str((ledger.folder / entry.folder).resolve())


def _report(study: Study, source: Source, out: Path, num_images: int, stopped: bool) -> None:
    """Write what there is to see, and say which cells failed, or cannot stand beside the others, and why.

    Raises:
        SystemExit: There are such, or the page of comparisons failed, which has said why.
    """
    entries = source.entries()
    failed = [entry for entry in entries if entry.state == "failed"]
    apart = cells_apart(study, entries, out)
    if any(entry.state == "done" and entry.name not in apart for entry in entries):
        write_report(study, source, out, typed_command("sweep"), num_images, apart)
        if study.compare is not None and not stopped and not failed:
            first = [entry for entry in entries if entry.checkpoint and entry.levels[SEED] == str(study.seeds[0])]
            # No name may look like a word of Hydra's.
            subjects = [f"{title(entry).replace('=', ' ')}:{out / entry.folder}" for entry in first]
            words = ["compare", *subjects, "--out", str(out / REPORT / "compare"), *study.compare]
            if status := subprocess.run([sys.executable, "-m", "lit_ghibli", *words], check=False).returncode:
                raise SystemExit(status)
    for entry in failed:
        say("", f"failed: {entry.name} (all of it: {out / entry.folder / LOG})", *(f"  {line}" for line in entry.error))
    for name, why in apart.items():
        say("", f"left out of the table: {name}: {why}")
    if failed or apart:
        counts = [f"{len(failed)} of {source.total} cells failed"] * bool(failed)
        counts += [f"{len(apart)} of {source.total} cells left out of the table"] * bool(apart)
        advice = f"; --retry {'runs' if failed else 'measures'} them again" * bool(study.grid)
        raise SystemExit(f"{', '.join(counts)}{advice}")
