"""`lit-ghibli rerun`: do a recorded run again, and say whether its metrics are the same."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command, job_overrides, typed_command
from lit_ghibli.commands._processes import quiet_further_processes, run_of_its_own
from lit_ghibli.commands.train import expand_resume, fit, plain_and_links
from lit_ghibli.documents import conform
from lit_ghibli.errors import UserError, did_you_mean
from lit_ghibli.overrides import flatten, quote
from lit_ghibli.recipes import parse, typed_path, wanted
from lit_ghibli.reports.tables import Row, last_values, markdown_table
from lit_ghibli.trust import check_run

_CONFIG = {"method": dict, "metrics": dict | None, "trainer": dict, "callbacks": dict, "logger": dict, "runtime": dict}
_GO_ON = "lit-ghibli rerun resume={run}"
_TIMES = ("wait_share", "seconds", "per_second")  # in the names of metrics that no two runs share
log = logging.getLogger(__name__)


@command("rerun", lambda arguments: quiet_further_processes(expand_run(arguments)))
def rerun(config: DictConfig) -> None:
    """Repeat the run ``run`` with ``overrides`` in a folder of its own; print its metrics beside the first ones."""
    with run_of_its_own("lit_ghibli.commands.rerun"):
        _rerun(config)


def _rerun(config: DictConfig) -> None:
    from lit_ghibli.callbacks.record_file import read_record  # here, so that --help answers at once
    from lit_ghibli.callbacks.run_record import RunRecord

    run, record = Path(config.run), read_record(config.run)
    composed = compose_again(record, config.overrides, config.run_dir, config.resume)
    resolved, links = plain_and_links(composed)
    if not config.trust:
        check_run(resolved, run)
    last = record["attempts"][-1]
    _announce(run, record)
    repetition = RunRecord(config.run_dir, resolved, links, typed_command("rerun"), job_overrides(), repeats=last)
    trainer = fit(OmegaConf.create(resolved), repetition)
    if trainer.is_global_zero:
        then, now = (last_values(folder / "metrics.csv") for folder in (run, Path(config.run_dir)))
        rows = compare_metrics(then, now)
        print(markdown_table(rows) + verdict(rows))


def compose_again(record: Mapping[str, Any], overrides: Sequence[str], run_dir: str, resume: str | None) -> DictConfig:
    """The configuration of a recorded run for another folder, whatever has become of ``conf/`` since.

    Values that followed others still do, so that ``seed=1`` is the data's seed, too.

    Args:
        record: Of the run.
        overrides: What to change, as ``key=value``, ``+key=value`` or ``~key``.
        run_dir: Folder of the repetition.
        resume: A checkpoint of the repetition's, where it goes on.

    Raises:
        UserError: An override cannot be understood, or changes what is not there.
    """
    try:
        plain = copy.deepcopy(conform(record["config"], _CONFIG, "config"))
    except ValueError as error:
        raise UserError(f"the run's record is damaged: {error}") from error
    for key, link in record["links"].items():
        _put(plain, key, link)
    config = OmegaConf.create({**plain, "run_dir": run_dir, "resume": resume})
    config.callbacks.pop("pruning", None)  # a repetition is no trial of the search that the run was one of
    if "checkpoints" in config.callbacks:
        config.callbacks.checkpoints.go_on = _GO_ON
    for override in map(parse, overrides):
        _apply(config, override)
    return config


def compare_metrics(then: Mapping[str, float], now: Mapping[str, float]) -> list[Row]:
    """One row for each metric of either run: ``then``, ``now``, and by how much they differ."""
    names = [name for name in {**then, **now} if "/" in name and not any(word in name for word in _TIMES)]
    return [
        {
            "metric": name,
            "then": then.get(name),
            "now": now.get(name),
            "difference": now[name] - then[name] if name in then and name in now else None,
        }
        for name in sorted(names)
    ]


def verdict(rows: Sequence[Row]) -> str:
    """Whether two runs' metrics are equal to the last bit, in words."""
    if not rows:
        return "not comparable: no metrics were logged"
    unequal = [row["metric"] for row in rows if not _same(row["then"], row["now"])]
    if not unequal:
        return f"equal: all {len(rows)} metrics, to the last bit"
    return f"not equal: {len(unequal)} of {len(rows)} metrics: {', '.join(unequal)}"


def expand_run(arguments: list[str]) -> list[str]:
    """Name the run by its whole path, and go on with a repetition by its own command line.

    Raises:
        UserError: As from :func:`~lit_ghibli.commands.train.expand_resume`; or values are to be changed on the way.
    """
    resumed = any(argument.startswith("resume=") for argument in arguments)
    if resumed and not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        if changed := [argument for argument in arguments if argument.startswith("overrides=")]:
            raise UserError(f"a rerun goes on with the values that it has begun with; got {changed[0]}")
        return [*expand_resume(arguments), *(argument for argument in arguments if argument.startswith("trust="))]
    runs = {argument: str(typed_path(argument)) for argument in arguments if argument.startswith("run=")}
    paths = {argument: str(Path(run).expanduser().resolve()) for argument, run in runs.items()}
    return [f"run={quote(paths[argument])}" if argument in paths else argument for argument in arguments]


def _announce(run: Path, record: Mapping[str, Any]) -> None:
    """Say what keeps a run from being repeated as a whole."""
    attempts, of = record["attempts"], record["config"].get("trainer", {}).get("max_epochs")
    state, epochs = attempts[-1].get("state"), attempts[-1].get("epochs")
    if state != "finished":
        log.warning("%s is %s: its last metrics are not those of its end", run, state)
    elif epochs != of:
        log.warning(
            "%s ended after %s of %s epochs: trainer.max_epochs=%s repeats these alone", run, epochs, of, epochs
        )
    for attempt in attempts:
        for key, (before, after) in attempt.get("changed", {}).items():
            log.warning("%s was changed on its way, %s from %s to %s, which is repeated", run, key, before, after)


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(config.get(parent), dict):
            raise UserError(f"the run's record is damaged: its links name '{key}', its configuration does not")
        config = config[parent]
    config[last] = value


def _apply(config: DictConfig, override: Override) -> None:
    """Change, add or remove one value."""
    if override.is_sweep_override():
        raise UserError(f"{override.input_line}: a rerun takes one value")
    key = override.key_or_group
    parent, _, name = key.rpartition(".")
    place = OmegaConf.select(config, parent) if parent else config
    there = isinstance(place, DictConfig) and name in place
    if not there and not override.is_add():
        near = did_you_mean(key, flatten(OmegaConf.to_container(config, resolve=False)))
        near = near or f"; +{key}=... adds one"
        raise UserError(f"{override.input_line}: this run's configuration has no '{key}'{near}")
    if override.is_delete():
        del place[name]
        return
    value = override.value()
    if there and isinstance(place._get_node(name), DictConfig) and not isinstance(value, dict):
        raise UserError(
            f"{override.input_line}: a run is repeated from its values, and '{key}' is a group of some: change "
            f"single ones, as in {key}.NAME=..."
        )
    if there and (what := wanted("train", key, place[name], value)):
        raise UserError(f"{key} must be {what}; got {value!r}")
    OmegaConf.update(config, key, value, force_add=True)


def _same(then: float | None, now: float | None) -> bool:
    return then == now or (then is not None and now is not None and math.isnan(then) and math.isnan(now))


if __name__ == "__main__":
    rerun()
