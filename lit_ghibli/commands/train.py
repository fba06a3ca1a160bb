"""`lit-ghibli train`: train a method, or go on with a run."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

import lit_ghibli
from lit_ghibli.cluster import environment_plugins
from lit_ghibli.commands import _sweeper, to_overrides
from lit_ghibli.commands._hydra import command, job_overrides, trusting_if_asked, typed_command
from lit_ghibli.commands._optimized import check_optimized, watch_optimized
from lit_ghibli.commands._output import refuse_among_data
from lit_ghibli.commands._processes import quiet_further_processes, run_of_its_own
from lit_ghibli.commands._trainer import check_trainer
from lit_ghibli.documents import read_yaml
from lit_ghibli.errors import UserError, one_line
from lit_ghibli.overrides import flatten, quote
from lit_ghibli.recipes import as_user_errors, build, compose, parse, typed_path

if TYPE_CHECKING:
    from lightning import Trainer

    from lit_ghibli.inference.translator import Translator

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """What a training starts with.

    Attributes:
        method: A LightningModule.
        datamodule: Its data, not read yet.
        resolved: The whole configuration as plain values.
        checkpoint: Where an interrupted run goes on; None for a new one.
    """

    method: Any
    datamodule: Any
    resolved: dict[str, Any]
    checkpoint: Path | None


@dataclass(frozen=True)
class TrainedRun:
    """What a training has left; a path itself, that of its folder.

    Attributes:
        folder: The run's.
        metrics: The last value of everything logged, by name, such as ``val/swd``.
    """

    folder: Path
    metrics: dict[str, float]

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.folder / "checkpoints" / "last.ckpt"

    def load(self, **options: Any) -> "Translator":
        """The trained generator as a function on pictures: see :func:`lit_ghibli.load`."""
        return lit_ghibli.load(self, **options)

    def __fspath__(self) -> str:
        return str(self.folder)


def train_here(*words: str) -> TrainedRun:
    """Train in this process what `lit-ghibli train` would train with the same words.

    Args:
        words: ``group=choice`` and ``key=value``; ``resume=RUN`` goes on with a run.

    Raises:
        UserError: A word cannot be used, the training cannot begin or has diverged, or it asks for several processes.
    """
    from lit_ghibli.callbacks import run_owner
    from lit_ghibli.callbacks.run_record import RunRecord
    from lit_ghibli.reports.tables import last_values

    overrides = expand_resume(to_overrides("train", list(map(str, words))))
    if options := [word for word in overrides if word.startswith("-")]:
        raise UserError(f"train takes key=value here, one run at a time, and not {options[0]}")
    config = compose("train", overrides)
    trainer = config.trainer
    if "launcher" in config or trainer.get("num_nodes", 1) != 1 or trainer.devices not in (1, "1", [0]):
        raise UserError(
            "one run in one process is trained here; for more, type the same words after `lit-ghibli train`"
        )
    if not config.resume:
        config.run_dir = str(run_owner.claim(config.run_dir, numbered=True))
    with as_user_errors(), trusting_if_asked(config), run_owner.owning(config.run_dir):
        folder = Path(config.run_dir)
        task = [word for word in overrides if not word.startswith(("hydra.", "hydra/"))]
        _note_overrides(folder, config, task)
        record = RunRecord(folder, *plain_and_links(config), shlex.join(["lit-ghibli", "train", *words]), task)
        fit(config, record)
    return TrainedRun(folder, last_values(folder / "metrics.csv"))


def _note_overrides(folder: Path, config: DictConfig, overrides: list[str]) -> None:
    """Write what Hydra writes beside a run of the command line, by which it is resumed."""
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")


@command("train", lambda arguments: _sweeper.register(quiet_further_processes(expand_resume(arguments))))
def train(config: DictConfig) -> float | tuple[float, ...] | None:
    """Train what ``conf/train.yaml`` composes; return ``optimized_metric`` for a sweeper."""
    with run_of_its_own("lit_ghibli.commands.train"):
        return _train(config)


def _train(config: DictConfig) -> float | tuple[float, ...] | None:
    from lit_ghibli.callbacks.run_record import RunRecord  # here, so that --help and --cfg answer at once
    from lit_ghibli.reports.tables import last_values

    record = RunRecord(config.run_dir, *plain_and_links(config), typed_command("train"), job_overrides())
    metrics = fit(config, record).callback_metrics
    if config.optimized_metric and not metrics:  # a finished run, which a scheduler started once more
        metrics = last_values(Path(config.run_dir) / "metrics.csv")
    return optimized(config.optimized_metric, metrics)


def fit(config: DictConfig, record: Any) -> Any:
    """Train what a configuration says, in the folder ``run_dir``, and return the trainer that has done it.

    Args:
        config: As ``conf/train.yaml`` composes it.
        record: The run's :class:`~lit_ghibli.callbacks.run_record.RunRecord`.

    Raises:
        UserError: As from :func:`prepare`, or from the training.
    """
    from lit_ghibli.callbacks import run_owner
    from lit_ghibli.callbacks.rewinding import keep_what_is_later

    with run_owner.owning(config.run_dir) as first:
        run = prepare(config)
        if first and run.checkpoint and run.checkpoint.resolve().parents[1] == Path(config.run_dir).resolve():
            keep_what_is_later(run.checkpoint, config.run_dir)
        elif first:
            run_owner.check_new(config.run_dir)
            reads = getattr(getattr(run.datamodule, "source", None), "reads", [])  # scenes are rendered
            refuse_among_data(Path(config.run_dir), reads, "choose another with --out FOLDER")
        names = run.resolved["optimized_metric"] or []
        check_optimized(names := [names] if isinstance(names, str) else names, run.method)
        trainer = make_trainer(config, run.resolved, record)
        trainer.callbacks.append(watch_optimized(names))
        for logger in trainer.loggers:
            logger.log_hyperparams(run.resolved)
        trainer.fit(run.method, run.datamodule, ckpt_path=run.checkpoint)
    trainer.print(one_line(f"trained: {config.run_dir}" if record.began else _nothing_left(config.run_dir, trainer)))
    return trainer


def _nothing_left(run_dir: str, trainer: "Trainer") -> str:
    return (
        f"nothing was left to train: {run_dir} has all its {trainer.max_epochs} epochs; for more, "
        f"resume={run_dir} method.epochs={2 * trainer.max_epochs}"
    )


def make_trainer(config: DictConfig, resolved: dict[str, Any], record: Any) -> "Trainer":
    """The trainer of a run, which writes into ``run_dir``, with the callbacks and loggers that are asked for."""
    from lit_ghibli import checkpoints

    return build(
        config.trainer,
        callbacks=[record, *_built(config.get("callbacks"))],
        logger=_built(config.get("logger")),
        plugins=[checkpoints.RunCheckpointIO(resolved), *environment_plugins()],
        default_root_dir=config.run_dir,
    )


def _built(named: Mapping[str, Any] | None) -> list[Any]:
    """Those of a group's objects that null does not switch off."""
    return [build(each) for each in (named or {}).values() if each is not None]


def begin(seed: int) -> None:
    """Seed everything, and leave it to our callbacks to say what matters."""
    from lightning import seed_everything

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    seed_everything(seed, workers=True, verbose=False)


def optimized(names: str | Sequence[str] | None, metrics: Mapping[str, Any]) -> float | tuple[float, ...] | None:
    """The value of one logged metric, or those of several, for a sweeper.

    Raises:
        UserError: One was not logged.
    """
    if names is None:
        return None
    for name in [names] if isinstance(names, str) else names:
        if name not in metrics:
            raise UserError(f"optimized_metric={name} was not logged; there are {sorted(metrics)}")
    return float(metrics[names]) if isinstance(names, str) else tuple(float(metrics[name]) for name in names)


def plain_and_links(config: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration as plain values, and those of them that follow others, as they are written, by dotted keys.

    What Hydra alone knows, such as the choices of its command line, is not there when the run is repeated.
    """
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    written = flatten(OmegaConf.to_container(config, resolve=False))
    links = {key: value for key, value in written.items() if "${" in str(value) and "${hydra:" not in str(value)}
    return resolved, links


def prepare(config: DictConfig) -> Prepared:
    """Seed everything and make all that a training needs but its trainer.

    Raises:
        UserError: The method cannot be trained on these data, or there is nothing to resume.
    """
    import torch

    from lit_ghibli import checkpoints

    check_trainer(config.trainer)
    begin(config.seed)
    torch.set_float32_matmul_precision("high")
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    _check_length(resolved["method"].get("epochs"), resolved["trainer"].get("max_epochs"))
    checkpoint = checkpoints.of_this_job(config.run_dir)  # newer than what a requeued job was told to resume
    if checkpoint is None and config.resume:
        checkpoint = checkpoints.find(config.resume)
    if checkpoint:
        _report_differences(checkpoints.load(checkpoint, mmap=True)[checkpoints.CONFIG_KEY], resolved)

    datamodule = build(config.data)
    method = build(config.method, metrics=build(config.metrics))
    method.check_data(datamodule)
    start = resolved["method"].get("generator", {}).get("weights")
    if start and not checkpoint:
        from lit_ghibli.inference.starting import start_from

        if getattr(method, "initialization_epochs", 0):
            raise UserError(
                "the initialisation, in which the generator learns to make its photograph, would undo what "
                f"method.generator.weights={start} can do: add method.initialization_epochs=0"
            )
        method.started_from = start_from(method.translator(), Path(start).expanduser(), resolved["method"]["generator"])
    if config.runtime.channels_last:
        method.to(memory_format=torch.channels_last)
    if config.runtime.get("batch_passes"):  # which records of before do not have
        method.join_passes()
    if config.runtime.compile:
        for network in method.networks().values():
            network.compile()
    return Prepared(method, datamodule, resolved, checkpoint)


def _check_length(planned: int | None, asked: int | None) -> None:
    """Refuse a training beyond the end of its schedules, where rates are 0."""
    if planned is not None and (asked is None or not 0 <= asked <= planned):
        raise UserError(
            f"trainer.max_epochs={asked} is not within method.epochs={planned}, for which learning rates are planned: "
            "change method.epochs, which the trainer follows"
        )


def expand_resume(arguments: list[str]) -> list[str]:
    """Turn ``resume=RUN`` into the run's own command line, in the run's own folder, plus what is new.

    Raises:
        CheckpointError: There is no such run, or nothing was saved in it.
        UserError: Its command line does what a stranger's must not, without ``trust=true``, or trust is neither.
    """
    given = [typed_path(argument) for argument in arguments if argument.startswith("resume=")]
    if not given or given[-1] is None or any(argument.startswith("hydra.run.dir=") for argument in arguments):
        return arguments  # nothing to resume, or a further process of a DDP run that has it expanded already
    from lit_ghibli import checkpoints
    from lit_ghibli.trust import check_words, is_own

    checkpoint = checkpoints.find(Path(given[-1])).resolve()
    run = checkpoint.parents[1]
    now = [argument for argument in arguments if not argument.startswith(("resume=", "trust="))]
    words = _words_of(run)
    own, trusted = is_own(words, run), is_trusted_now(arguments)
    replaced = {"resume", "run_dir", *(argument.split("=")[0] for argument in arguments), *(() if own else ("trust",))}
    keys = [(override.split("=")[0], override) for override in words]
    launched = any(argument.startswith("launcher=") for argument in now)
    kept = [each for each in keys if launched or each[0].split(".")[0] != "launcher"]  # else it goes on here
    before = [override for key, override in kept if key not in replaced]
    if not (own or trusted):
        check_words(before, str(run), run)
    folder = [f"hydra.run.dir={quote(str(run))}"]
    if launched:  # which makes a sweep of a single run
        folder += [f"hydra.sweep.dir={quote(str(run))}", "hydra.sweep.subdir=."]
    return [*before, *now, f"resume={quote(str(checkpoint))}", *folder]


def _words_of(run: Path) -> list[str]:
    """What a run was begun, or last gone on, with: by its record, or, where it has none, by what Hydra has noted."""
    from lit_ghibli.callbacks.record_file import FILE, read_record

    if (run / FILE).is_file() and (words := read_record(run)["attempts"][-1].get("overrides")) is not None:
        return words
    if (noted := run / ".hydra" / "overrides.yaml").is_file():
        return read_yaml(noted, list[str])
    raise UserError(f"{run}: not a run's folder, since it has no {FILE}")


def is_trusted_now(arguments: Sequence[str]) -> bool:
    """Whether ``trust=true`` is among what was typed.

    Raises:
        UserError: It has another value than true or false.
    """
    given = [parse(argument).value() for argument in arguments if argument.startswith("trust=")] or [False]
    if not isinstance(given[-1], bool):
        raise UserError(f"trust must be true or false; got {given[-1]!r}")
    return given[-1]


def _report_differences(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say which values differ from those that the run started with."""
    from lit_ghibli.callbacks.record_file import PLACE, compare

    for key, (old, new) in compare(before, now).items():
        if key.split(".")[0] not in PLACE:
            log.warning("this run goes on with another %s: %s instead of %s", key, new, old)


if __name__ == "__main__":
    train()
