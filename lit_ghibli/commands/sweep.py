"""`lit-ghibli sweep`: run the cells of a study, each in a process of its own, and report."""

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command, expand_out, rewrite_arguments, split_flags, typed_command
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import quote
from lit_ghibli.reports.tables import format_value
from lit_ghibli.studies.cells import GridSource, SearchSource, Source, enter
from lit_ghibli.studies.forecast import forecast
from lit_ghibli.studies.ledger import Entry, Ledger
from lit_ghibli.studies.report import REPORT, title, write_report
from lit_ghibli.studies.results import EVALUATION, collect
from lit_ghibli.studies.runner import LOG, Runner, Step, remaining
from lit_ghibli.studies.search import JOURNAL
from lit_ghibli.studies.study import SEED, Cell, Study, read_study, summarize

# Values of the sweep itself: all others are the trainings'.
_OWN = ("study", "study_preset", "out", "jobs", "retry", "dry_run", "forecast_steps", "num_images")
_FLAGS = {"--dry-run": "dry_run=true", "--retry": "retry=true"}
_DECIDING = ["method", "data", "metrics", "trainer", "runtime", "seed", "optimized_metric"]  # not where it reports to
_TRAINED = "trained"  # what the training before all cells is called
_DIGITS = 12  # of a configuration's hash


@command("sweep")
def sweep(config: DictConfig) -> None:
    """Run what is not done, print one line for each cell, and write the report.

    Raises:
        SystemExit: A cell failed, or the sweep was stopped.
    """
    _check(config)
    study = read_study(config.study, config.study_preset).with_overrides(config.overrides)
    if config.retry and study.search is not None:
        raise UserError("--retry: a failed trial counts as one; raise the number of trials in the study's file")
    with _folder(config, study) as out, Ledger(out) as ledger:
        source = _source(ledger, study, config.retry)
        print(f"{study.name}: {study.question}\n{_overview(study, source)}; ledger: {ledger.path}", flush=True)
        if config.dry_run:
            forecast(ledger, study, source, config.forecast_steps, config.jobs)
            return
        stopped = _run(ledger, study, source, config.jobs)
        _report(study, source, out, config.num_images, stopped)
    if stopped:
        raise SystemExit("stopped; the same command goes on")


@contextlib.contextmanager
def _folder(config: DictConfig, study: Study) -> Iterator[Path]:
    """The study's folder; for a first look at a search one that is gone afterwards, so that its space may change."""
    out = Path(config.out or f"outputs/{study.name}{study.preset and '_'}{study.preset}")
    if config.dry_run and study.search is not None and not (out / JOURNAL).exists():
        with TemporaryDirectory(prefix="lit_ghibli_") as folder:
            yield Path(folder)
    else:
        yield out


def _report(study: Study, source: Source, out: Path, num_images: int, stopped: bool) -> None:
    """Write what there is to see, and say which cells failed and why.

    Raises:
        SystemExit: Some did.
    """
    entries = source.entries()
    failed = [entry for entry in entries if entry.state == "failed"]
    if any(entry.state == "done" for entry in entries):
        write_report(study, source, out, typed_command("sweep"), num_images)
        if study.compare is not None and not stopped and not failed:
            _compare(study, entries, out)
    for entry in failed:
        print(f"\nfailed: {entry.name} (all of it: {out / entry.folder / LOG})\n  " + "\n  ".join(entry.error))
    if failed:
        advice = "; --retry runs them again" * bool(study.grid)
        raise SystemExit(f"{len(failed)} of {source.total} cells failed{advice}")


def _source(ledger: Ledger, study: Study, retry: bool) -> Source:
    """Where the cells come from.

    Raises:
        UserError: One does not compose, or the search cannot be made.
    """
    identify = partial(_identify, study)
    if study.search is None:
        return GridSource(ledger, study, identify, retry=retry)
    return SearchSource(ledger, study, identify)


def _overview(study: Study, source: Source) -> str:
    """How many cells of what."""
    if study.search is None:
        return summarize(study.cells())
    return f"{source.total} trials of {', '.join(study.search['space'])} for {', '.join(study.metrics)}"


def _check(config: DictConfig) -> None:
    """Refuse numbers that are none, and a launcher, since each cell is a process of this program.

    Raises:
        UserError: Naming the value.
    """
    if launcher := [word for word in config.overrides if word.lstrip("+").startswith("launcher")]:
        raise UserError(f"{launcher[0]}: a sweep waits for its cells on this machine; run it inside a cluster's job")
    for name, least in (("jobs", 1), ("forecast_steps", 0), ("num_images", 0)):
        if not isinstance(config[name], int) or config[name] < least:
            raise UserError(f"{name} must be a whole number of at least {least}; got {config[name]!r}")


def _identify(study: Study, cell: Cell) -> str:
    """Hash of everything that decides what a cell does: a finished one with the same hash need not run again.

    Raises:
        UserError: A cell's overrides do not compose.
    """
    parts = [study.command, *(cell.overrides if study.command != "train" else [_composed(cell.name, cell.overrides)])]
    parts += [] if study.trained is None else [_composed("the training before all cells", study.trained)]
    return _hash(parts)


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]


def _composed(name: str, overrides: tuple[str, ...]) -> str:
    """What decides a training's result, values that follow from others left open."""
    try:
        config = compose("train", list(overrides))
        return OmegaConf.to_yaml(OmegaConf.masked_copy(config, _DECIDING), sort_keys=True)
    except HydraException as error:
        raise UserError(f"{name}: {str(error).split('Config search path')[0].strip()}") from error


def _run(ledger: Ledger, study: Study, source: Source, jobs: int) -> bool:
    """Run what is left of the cells; whether a stop cut it short.

    Raises:
        SystemExit: The training before all cells did not end well.
    """
    trained = "" if study.trained is None else _train_before(ledger, study)
    _refresh(ledger, study, source)
    if known := sum(entry.state == "done" for entry in source.entries()):
        print(f"{known} of {source.total} are done already", flush=True)

    def results(entry: Entry, folder: Path) -> None:
        if isinstance(source, SearchSource) and source.was_pruned(entry):
            entry.state = "pruned"
        else:
            collect(entry, folder, study.command, list(study.metrics), evaluated=study.evaluate is not None)

    def report(key: str) -> None:
        source.ended(key)
        print(_progress(ledger.entries[key], source, jobs), flush=True)

    plan = (
        partial(_plan_training, study, source) if study.command == "train" else partial(_plan, study.command, trained)
    )
    runner = Runner(ledger, plan, results, jobs)
    runner.run(source.take, report)
    return runner.stopped


def _refresh(ledger: Ledger, study: Study, source: Source) -> None:
    """Have done cells evaluated again if the evaluation is another now, and take up metrics that are new."""
    for entry in source.entries():
        if entry.state == "done" and study.evaluate is not None and entry.evaluated_by != list(study.evaluate):
            entry.state = "waiting"
        elif entry.state == "done" and not set(study.metrics) <= entry.metrics.keys():
            folder = ledger.folder / entry.folder
            collect(entry, folder, study.command, list(study.metrics), evaluated=study.evaluate is not None)
    ledger.save()


def _train_before(ledger: Ledger, study: Study) -> str:
    """The folder of the training that comes before all cells, done if it is not.

    Raises:
        SystemExit: It did not end well.
    """
    cell = Cell({_TRAINED: "before all cells"}, study.trained)
    key = _hash([_composed(cell.name, cell.overrides)])
    enter(ledger, key, cell, folder="")
    entry = ledger.entries[key]
    if entry.state != "done":
        runner = Runner(ledger, partial(_plan_training, None, None), lambda *_: None, jobs=1)
        runner.run(iter([key, None]).__next__, lambda _: print(f"{entry.name}: {entry.state}", flush=True))
    if entry.state != "done":
        raise SystemExit("\n".join([*entry.error, f"{entry.name}: {entry.state}; the same command goes on"]))
    return str((ledger.folder / entry.folder).resolve())


def _compare(study: Study, entries: list[Entry], out: Path) -> None:
    """Put the trained cells of the first seed on one page.

    Raises:
        SystemExit: It failed, and has said why.
    """
    first = [entry for entry in entries if entry.checkpoint and entry.levels[SEED] == str(study.seeds[0])]
    subjects = [f"{title(entry).replace('=', ' ')}:{out / entry.folder}" for entry in first]  # no word of Hydra's
    words = ["compare", *subjects, "--out", str(out / REPORT / "compare"), *study.compare]
    done = subprocess.run([sys.executable, "-m", "lit_ghibli", *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def _plan_training(study: Study | None, source: Source | None, entry: Entry, folder: Path) -> Iterator[Step]:
    """What is left of a training and, where the study has one, of its evaluation."""
    place = quote(str(folder.resolve()))
    if "train" not in entry.finished:
        begun = (folder / "checkpoints" / "last.ckpt").is_file()
        words = [f"resume={place}"] if begun else [*entry.overrides, f"hydra.run.dir={place}"]
        yield Step("train", ["train", *words])
    if study is None or study.evaluate is None or entry.evaluated_by == list(study.evaluate):
        return
    if not (isinstance(source, SearchSource) and source.was_pruned(entry)):
        out = quote(str((folder / EVALUATION).resolve()))
        yield Step("evaluate", ["evaluate", f"checkpoint={place}", f"out={out}", *study.evaluate])
        entry.evaluated_by = list(study.evaluate)  # which the runner comes back to if all went well, and writes down


def _plan(name: str, trained: str, entry: Entry, folder: Path) -> Iterator[Step]:
    """The one step of a cell that trains nothing."""
    overrides = [override.replace("{trained}", quote(trained)) for override in entry.overrides]
    yield Step(name, [name, *overrides, f"out={quote(str(folder.resolve()))}"])


def _progress(entry: Entry, source: Source, jobs: int) -> str:
    """One line about a cell that has ended."""
    entries = source.entries()
    ended = sum(each.ended for each in entries)
    took = timedelta(seconds=round(sum(entry.seconds.values())))
    values = " ".join(f"{name}={format_value(value)}" for name, value in entry.metrics.items())
    line = f"[{ended}/{source.total}] {entry.name}: {entry.state} in {took}"
    return " | ".join(filter(None, [line, values, remaining(entries, source.total - ended, jobs)]))


def expand_study(arguments: list[str]) -> list[str]:
    """Turn ``STUDY --dry-run data.root=DIR --out DIR`` into overrides that Hydra takes.

    Raises:
        UserError: ``--out`` names no folder, or there are two studies.
    """
    studies: list[str] = []
    overrides: list[str] = []
    rest, words = split_flags(expand_out(arguments))
    for word in words:
        if word in _FLAGS:
            rest.append(_FLAGS[word])
        elif word.startswith("preset="):
            rest.append(f"study_{word}")  # Hydra would look for it in conf/preset/
        elif word.startswith(("-", "hydra.")) or word.split("=")[0] in _OWN:
            rest.append(word)
        elif "=" in word or word.startswith("~"):
            overrides.append(word)
        else:
            studies.append(word)
    if len(studies) > 1:
        raise UserError(f"one study at a time; got {', '.join(studies)}")
    rest += [f"study={quote(studies[0])}"] if studies else []
    return [*rest, f"overrides=[{','.join(map(quote, overrides))}]"] if overrides else rest


if __name__ == "__main__":
    rewrite_arguments(expand_study)
    sweep()
