"""`lit-ghibli train -m hydra/sweeper=search`: a search in the place of a grid, with Hydra's grammar of sweeps."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict

from lit_ghibli.errors import UserError
from lit_ghibli.overrides import quote


def register(arguments: list[str]) -> list[str]:
    """Let ``hydra/sweeper=search`` find its class, by a name such as Hydra takes; give the arguments back."""
    if "hydra/sweeper=optuna" in arguments:
        raise UserError("hydra/sweeper=optuna: no such sweeper; a search over Optuna is hydra/sweeper=search")
    Plugins.instance().class_name_to_class["hydra_plugins.lit_ghibli_search.SearchSweeper"] = SearchSweeper
    return arguments


class SearchSweeper(Sweeper):
    """Searches the values of the keys that are given several, for the best ``optimized_metric``.

    ``params`` are overrides of the space; :func:`~lit_ghibli.studies.batches.search_in_batches` takes all else, and
    does the work.
    """

    def __init__(self, params: DictConfig, **settings: Any) -> None:
        self.params, self.settings = params, OmegaConf.to_container(OmegaConf.create(settings))

    def setup(self, *, hydra_context: Any, task_function: Callable, config: DictConfig) -> None:
        """Take note of the program that is swept, and make its launcher."""
        self.config_loader, self.config = hydra_context.config_loader, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=partial(_run_trial, task_function), config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search with the arguments of the command line, which give the space and the values of all trials."""
        from lit_ghibli.studies.batches import search_in_batches  # here, as it imports Optuna

        parser = OverridesParser.create(config_loader=self.config_loader)
        parsed = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        overrides = {override.get_key_element(): override for override in parsed}  # what is typed wins
        fixed = [override.input_line for override in overrides.values() if not override.is_sweep_override()]
        folder = Path(self.config.hydra.sweep.dir)

        def launch(trials: list) -> Any:
            OmegaConf.save(self.config, folder / "multirun.yaml")
            jobs = [[*fixed, *trial.overrides, *self._resume(fixed, trial)] for trial in trials]
            self.validate_batch_is_legal(jobs)
            return self.launcher.launch(jobs, initial_job_idx=trials[0].number)

        try:
            space = {key: span(each, parser) for key, each in overrides.items() if each.is_sweep_override()}
            metrics = self.config_loader.load_sweep_config(self.config, fixed).optimized_metric
            search_in_batches(folder, space, metrics, launch, **self.settings)
        except UserError as error:
            raise SystemExit(f"lit-ghibli: {error}") from error

    def _resume(self, fixed: list[str], trial: Any) -> list[str]:
        """Where a trial goes on that an earlier program left under way."""
        if not trial.again:
            return []
        config = self.config_loader.load_sweep_config(self.config, [*fixed, *trial.overrides])
        with open_dict(config):
            config.hydra.job.num = config.hydra.job.id = trial.number
        last = Path(config.hydra.sweep.dir).absolute() / config.hydra.sweep.subdir / "checkpoints" / "last.ckpt"
        return [f"resume={quote(str(last))}"] if last.is_file() else []


def _run_trial(train: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    from lit_ghibli.studies.batches import run_trial

    job = HydraConfig.get()
    return run_trial(Path(job.runtime.output_dir), list(job.overrides.task), partial(train, config))


def span(override: Override, parser: OverridesParser) -> dict[str, Any]:
    """What a sweep of Hydra's grammar spans, as an entry of a search's space."""
    from lit_ghibli.studies.batches import evenly_spaced

    sweep, tags = override.value(), getattr(override.value(), "tags", set())
    if unknown := sorted(tags - {"log"}):
        raise UserError(f"{override.input_line}: the only tag that a search knows is log; got {unknown[0]}")
    if override.is_choice_sweep():
        return {"choices": [parser.parse_override(f"x={text}").value() for text in override.sweep_string_iterator()]}
    log_scale = {"log": True} if "log" in tags else {}
    if override.is_interval_sweep():
        whole = {"int": True} if isinstance(sweep.start, int) and isinstance(sweep.end, int) else {}
        return {"low": sweep.start, "high": sweep.end, **whole, **log_scale}
    if not (values := sorted(override.sweep_iterator())):
        raise UserError(f"{override.input_line}: an empty range")
    return {**evenly_spaced(values, abs(sweep.step)), **log_scale}
