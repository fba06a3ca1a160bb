"""`lit-ghibli train -m hydra/sweeper=optuna`: a search by Optuna as a sweeper of Hydra's.

hydra-optuna-sweeper 1.3 does the same with Optuna below 3 only. The grammar of the space is its grammar.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from lit_ghibli.errors import UserError
from lit_ghibli.files import write_atomically
from lit_ghibli.recipes import quote, spell
from lit_ghibli.reports.tables import direction, write_table

TARGET = "hydra_plugins.lit_ghibli.OptunaSweeper"  # Hydra takes plugins by names that begin like this
JOURNAL = "search.journal"  # in the folder of the sweep
RESULT = "trial.json"  # in a trial's folder: what its training returned

_MANY_FAILURES = 3  # in a row from the start: what is wrong with these is wrong with all

log = logging.getLogger(__name__)


def register() -> None:
    """Let ``hydra/sweeper=optuna`` find its class, which lies in no package of Hydra's namespace."""
    Plugins.instance().class_name_to_class[TARGET] = OptunaSweeper


class OptunaSweeper(Sweeper):
    """Searches the values of the keys that are given several, for the best ``optimized_metric``.

    In the folder of the sweep it keeps the journal and, up to date after each batch, ``optimization_results.yaml``
    and the table ``search.csv``, ``.json`` and ``.md``. Started again with the same folder it goes on, first with
    the trials that were under way, each from its last checkpoint. A trial that fails is recorded, and the others
    go on.

    Args:
        n_trials: How many to try in all.
        n_jobs: How many the launcher is given at once.
        seed: Of the search.
        directions: ``min`` or ``max`` for each metric in turn; None to go by their names.
        params: Overrides of the space by key.
        sampler: See :class:`~lit_ghibli.studies.search.Search`.
        pruner: See there.
    """

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        seed: int,
        directions: str | Sequence[str] | None,
        params: Mapping[str, str],
        sampler: Mapping[str, Any] | None,
        pruner: Mapping[str, Any] | None,
    ) -> None:
        plain = {"directions": directions, "params": params, "sampler": sampler, "pruner": pruner}
        plain = OmegaConf.to_container(OmegaConf.create(plain))
        self.directions, self.params = plain["directions"], plain["params"]
        self.sampler, self.pruner = plain["sampler"], plain["pruner"]
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed

    def setup(
        self, *, hydra_context: HydraContext, task_function: Callable[[DictConfig], Any], config: DictConfig
    ) -> None:
        """Take note of the program that is swept, and make its launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=_OneTrial(task_function), config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search with the arguments of the command line, which give the space and the values of all trials.

        Raises:
            SystemExit: With a message, where a user's mistake prevents the search, or no trial came to anything.
        """
        try:
            self._sweep(arguments)
        except UserError as error:
            raise SystemExit(f"lit-ghibli: {error}") from error

    def _sweep(self, arguments: list[str]) -> None:
        from lit_ghibli.studies.ledger import lock_file  # not on every system, and of searches alone

        fixed, space = self._split(arguments)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_file(folder / ".lock")
        if lock is None:
            raise UserError(f"hydra.sweep.dir={folder}: another search is at work here; wait for it, or give another")
        with lock:
            search = self._open(fixed, space, folder / JOURNAL)
            OmegaConf.save(self.config, folder / "multirun.yaml")
            self._run(search, fixed, folder)
            _write_results(search, folder)  # an earlier program may have been killed before it could
        if search.best() is None:
            raise UserError(f"nothing came of any trial: see {folder / 'search.md'}")
        print(f"search: {folder / 'search.md'}")

    def _run(self, search: Any, fixed: list[str], folder: Path) -> None:
        """Launch trials until none is left."""
        ended: set[int] = set()  # of this program
        while batch := _take(search, self.n_jobs):
            jobs = [[*fixed, *trial.overrides, *self._resume(fixed, trial)] for trial in batch]
            self.validate_batch_is_legal(jobs)
            results = self.launcher.launch(jobs, initial_job_idx=batch[0].number)
            for trial, result in zip(batch, results, strict=True):
                _tell(search, trial.number, result)
                ended.add(trial.number)
            _write_results(search, folder)
            states = [row["state"] for row in search.rows() if row["number"] in ended]
            if len(states) >= _MANY_FAILURES and set(states) == {"failed"}:
                raise UserError(f"all {len(states)} trials failed so far: see {folder / 'search.md'}; again to go on")

    def _split(self, arguments: list[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Overrides of all trials, and the space that the others span; what is typed wins over ``params``."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        overrides = {override.get_key_element(): override for override in parsed}
        fixed = [override.input_line for override in overrides.values() if not override.is_sweep_override()]
        swept = {key: override for key, override in overrides.items() if override.is_sweep_override()}
        return fixed, {key: _span(override, parser) for key, override in swept.items()}

    def _open(self, fixed: list[str], space: dict[str, dict[str, Any]], journal: Path) -> Any:
        """The search, begun or gone on with."""
        from lit_ghibli.studies.search import Search  # here, as it imports Optuna

        config = self.hydra_context.config_loader.load_sweep_config(self.config, fixed)
        names = OmegaConf.to_container(OmegaConf.create({"names": config.optimized_metric}))["names"]
        if not names:
            raise UserError("a search needs optimized_metric=NAME, or several as optimized_metric=[NAME,train_seconds]")
        return Search(
            journal,
            name="search",
            space=space,
            directions=_directions([names] if isinstance(names, str) else names, self.directions),
            trials=self.n_trials,
            seed=self.seed,
            sampler=self.sampler,
            pruner=self.pruner,
        )

    def _resume(self, fixed: list[str], trial: Any) -> list[str]:
        """Where a trial goes on that an earlier program left under way."""
        if not trial.again:
            return []
        config = self.hydra_context.config_loader.load_sweep_config(self.config, [*fixed, *trial.overrides])
        with open_dict(config):
            config.hydra.job.num = config.hydra.job.id = trial.number
        last = Path(config.hydra.sweep.dir).absolute() / config.hydra.sweep.subdir / "checkpoints" / "last.ckpt"
        return [f"resume={quote(str(last))}"] if last.is_file() else []


class _OneTrial:
    """A training whose end, good or bad, is the end of a trial and not of the search.

    Its result is kept in its folder: in a batch of trials, one may end long before the search is told of any.

    Args:
        train: The program that is swept.
    """

    def __init__(self, train: Callable[[DictConfig], Any]) -> None:
        self.train = train

    def __call__(self, config: DictConfig) -> Any:
        """Train, unless this was done before.

        Raises:
            UserError: For which the program would end otherwise.
        """
        job = HydraConfig.get()
        path = Path(job.runtime.output_dir) / RESULT
        overrides = [override for override in job.overrides.task if not override.startswith("resume=")]
        if path.is_file():
            kept = json.loads(path.read_text())
            if kept["overrides"] == overrides:
                return kept["returned"]
        try:
            returned = self.train(config)
        except SystemExit as error:
            if not isinstance(error.code, str):
                raise
            raise UserError(error.code.removeprefix("lit-ghibli train: ")) from error
        with write_atomically(path) as file:
            json.dump({"overrides": overrides, "returned": returned}, file)
        return returned


def _take(search: Any, count: int) -> list[Any]:
    """The next trials, as many as a launcher is given at once."""
    trials = []
    while len(trials) < count and (trial := search.ask()):
        trials.append(trial)
    return trials


def _tell(search: Any, number: int, result: JobReturn) -> None:
    """Record what came of a job."""
    try:
        returned = result.return_value
    except Exception as error:
        log.warning("trial %d failed: %s", number, error, exc_info=None if isinstance(error, UserError) else error)
        search.fail(number, str(error) or type(error).__name__)
        return
    values = returned if isinstance(returned, list | tuple) else [returned]
    search.tell(number, dict(zip(search.directions, values, strict=True)))


def _span(override: Override, parser: OverridesParser) -> dict[str, Any]:
    """What a sweep of Hydra's grammar spans, as an entry of a search's space.

    Raises:
        UserError: It has a tag other than ``log``.
    """
    sweep, tags = override.value(), getattr(override.value(), "tags", set())
    if unknown := sorted(tags - {"log"}):
        raise UserError(f"{override.input_line}: the only tag that a search knows is log; got {unknown[0]}")
    if override.is_choice_sweep():
        return {"choices": [parser.parse_override(f"x={text}").value() for text in override.sweep_string_iterator()]}
    log_scale = {"log": True} if "log" in tags else {}
    if override.is_interval_sweep():
        whole = {"int": True} if isinstance(sweep.start, int) and isinstance(sweep.end, int) else {}
        return {"low": sweep.start, "high": sweep.end, **whole, **log_scale}
    values = sorted(override.sweep_iterator())
    if not values:
        raise UserError(f"{override.input_line}: an empty range")
    step = Decimal(str(abs(sweep.step)))
    if all(isinstance(value, int) for value in values):
        return {"low": values[0], "high": values[-1], "step": int(step), "int": True, **log_scale}
    high = Decimal(str(values[0])) + (len(values) - 1) * step  # without the rounding of repeated addition
    return {"low": values[0], "high": float(high), "step": float(step), **log_scale}


def _directions(names: Sequence[str], given: str | Sequence[str] | None) -> dict[str, str]:
    """Which way each metric is better.

    Raises:
        UserError: This is neither given nor told by a name.
    """
    if given is not None:
        given = [given] if isinstance(given, str) else given
        if len(given) != len(names):
            raise UserError(f"hydra.sweeper.directions must be one for each of {list(names)}; got {list(given)}")
        return dict(zip(names, given, strict=True))
    signs = {name: -1 if name == "train_seconds" else direction(name.split("/")[-1]) for name in names}
    if unknown := [name for name, sign in signs.items() if not sign]:
        raise UserError(f"which way is {unknown[0]} better? Give hydra.sweeper.directions=[min], or max, one for each")
    return {name: "min" if sign < 0 else "max" for name, sign in signs.items()}


def _write_results(search: Any, folder: Path) -> None:
    """Write the best trials as Hydra's other sweepers do, and all of them as a table."""
    table = [
        {
            "trial": row["number"],
            "state": row["state"],
            **{
                key: spell(value) if isinstance(value, list | dict) else value
                for key, value in row["parameters"].items()
            },
            **{name: row["values"].get(name) for name in search.directions},
            "best" if len(search.directions) == 1 else "front": "yes" if row["on_front"] else "",
            "why": " ".join((row["why"] or "").split()),
        }
        for row in search.rows()
    ]
    write_table(table, folder, "search")
    solutions = [
        {"trial": row["number"], "params": row["parameters"], "values": list(row["values"].values())}
        for row in search.front()
    ]
    results: dict[str, Any] = {"name": "optuna", "solutions": solutions}
    if len(search.directions) == 1 and (best := search.best()):
        results = {
            "name": "optuna",
            "best_params": best["parameters"],
            "best_value": next(iter(best["values"].values())),
        }
    OmegaConf.save(OmegaConf.create(results), folder / "optimization_results.yaml")
