"""`lit-ghibli train`: train a method, or go on with a run."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command, quote, rewrite_arguments
from lit_ghibli.errors import UserError

log = logging.getLogger(__name__)


class Run(NamedTuple):
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


@command("train")
def train(config: DictConfig) -> float | None:
    """Train what ``conf/train.yaml`` composes; return ``optimized_metric`` for a sweeper."""
    from lightning import Trainer  # here, so that --help and --cfg answer at once

    from lit_ghibli import checkpoints

    run = prepare(config)
    trainer: Trainer = instantiate(
        config.trainer,
        callbacks=[instantiate(callback, _convert_="object") for callback in config.callbacks.values()],
        logger=[instantiate(logger) for logger in config.logger.values()],
        plugins=[checkpoints.RunCheckpointIO(run.resolved)],
        default_root_dir=config.run_dir,
        _convert_="object",
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(run.resolved)
    trainer.fit(run.method, run.datamodule, ckpt_path=run.checkpoint)
    trainer.print(f"trained: {config.run_dir}")
    metrics = trainer.callback_metrics
    if config.optimized_metric is None:
        return None
    if config.optimized_metric not in metrics:
        raise UserError(f"optimized_metric={config.optimized_metric} was not logged; there are {sorted(metrics)}")
    return float(metrics[config.optimized_metric])


def prepare(config: DictConfig) -> Run:
    """Seed everything and make all that a training needs but its trainer.

    Raises:
        UserError: The method cannot be trained on these data, or there is nothing to resume.
    """
    import torch
    from lightning import seed_everything

    from lit_ghibli import checkpoints

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # our callbacks say what matters
    seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    checkpoint = checkpoints.find(config.resume) if config.resume else None
    if checkpoint:
        _report_differences(checkpoints.load(checkpoint, mmap=True)[checkpoints.CONFIG_KEY], resolved)

    datamodule = instantiate(config.data, _convert_="object")
    method = instantiate(config.method, metrics=instantiate(config.metrics), _convert_="object")
    method.check_data(datamodule)
    if config.runtime.channels_last:
        method.to(memory_format=torch.channels_last)
    if config.runtime.compile:
        for network in method.networks().values():
            network.compile()
    return Run(method, datamodule, resolved, checkpoint)


def expand_resume(arguments: list[str]) -> list[str]:
    """Turn ``resume=RUN`` into the run's own command line, in the run's own folder, plus what is new.

    Raises:
        CheckpointError: There is no such run, or nothing was saved in it.
    """
    given = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not given or any(argument.startswith("hydra.run.dir=") for argument in arguments):
        return arguments  # nothing to resume, or a further process of a DDP run that has it expanded already
    from lit_ghibli import checkpoints

    checkpoint = checkpoints.find(Path(given[-1].strip("\"'"))).resolve()
    run = checkpoint.parents[1]
    recorded = run / ".hydra" / "overrides.yaml"
    if not recorded.is_file():
        raise checkpoints.CheckpointError(f"{run}: not a run's folder, since it has no .hydra/overrides.yaml")
    now = [argument for argument in arguments if not argument.startswith("resume=")]
    replaced = {"resume", *(argument.split("=")[0] for argument in now)}
    before = [override for override in OmegaConf.load(recorded) if override.split("=")[0] not in replaced]
    return [*before, *now, f"resume={quote(str(checkpoint))}", f"hydra.run.dir={quote(str(run))}"]


def _report_differences(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say which values differ from those that the run started with."""
    old, new = _flatten(before), _flatten(now)
    for key in sorted(old.keys() | new.keys()):
        if key not in ("resume", "run_dir") and old.get(key) != new.get(key):
            log.warning("this run goes on with another %s: %s instead of %s", key, new.get(key), old.get(key))


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {prefix: config}
    return {
        name: value
        for key, child in config.items()
        for name, value in _flatten(child, f"{prefix}.{key}" if prefix else str(key)).items()
    }


if __name__ == "__main__":
    rewrite_arguments(expand_resume)
    train()
