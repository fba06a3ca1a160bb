"""`lit-ghibli sweep`: run the cells of a study, each in a process of its own, and report; or say how far it is."""

from pathlib import Path

from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import check_writable
from lit_ghibli.errors import UserError
from lit_ghibli.studies.status import print_status
from lit_ghibli.studies.study import read_study


@command("sweep")
def sweep(config: DictConfig) -> None:
    """Run what is not done, print one line for each cell, and write the report.

    Raises:
        SystemExit: A cell failed, or the sweep was stopped.
    """
    for name, least in (("jobs", 1), ("forecast_steps", 0), ("num_images", 0)):
        if not isinstance(config[name], int) or config[name] < least:
            raise UserError(f"{name} must be a whole number of at least {least}; got {config[name]!r}")
    if config.status and (config.retry or config.dry_run):
        raise UserError("--status only looks at a study: leave out --retry and --dry-run, or --status")
    launcher = [word for word in config.overrides if word.lstrip("+").startswith("launcher")]
    written = read_study(config.study, config.study_preset)
    study = written.with_overrides([word for word in config.overrides if word not in launcher])
    out = Path(config.out or f"outputs/{study.name}{study.preset and '_'}{study.preset}").expanduser()
    if config.status:
        print_status(out)
        return
    check_writable(out)
    from lit_ghibli.commands._study import run_study  # here, so that --status answers at once

    run_study(config, study, launcher, out)


if __name__ == "__main__":
    sweep()
