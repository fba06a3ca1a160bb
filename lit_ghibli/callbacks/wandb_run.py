"""A logger to Weights & Biases, one run there for each run's folder."""

import os
import secrets
from pathlib import Path
from textwrap import shorten
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

import lit_ghibli
from lit_ghibli.errors import UserError

_PATIENCE = 18  # seconds for a server to answer before the training starts, where W&B's own are 90; all takes 20
_SMALLEST_ROW = 64  # bytes of a row of W&B's history on disk; the time stamps alone take more


class RunWandbLogger(WandbLogger):
    """Logs to one W&B run for each run's folder, whatever the number of times that it is resumed.

    The run is identified by what stands in ``<save_dir>/wandb/run_id``, so that folders of one name do not meet in a
    project; a W&B agent, which sets ``WANDB_RUN_ID``, decides itself. Nothing goes by W&B's own step, which never
    goes back: charts are drawn over ``trainer/global_step``, and steps that a resumed run does again are added to
    those that were sent before the interruption.

    Args:
        save_dir: The run's folder.
        project: W&B's project; an agent's counts more.
        name: Title; None for the name of the folder, with that of the folder around it where it is a number.
        group: Of runs that belong together.
        tags: To find runs by.
        offline: Write files only, for ``wandb sync``.
        preemptible: Tell W&B that a sweep's trial which ends with an error is to be handed out again.
    """

    def __init__(
        self,
        save_dir: str | Path,
        project: str,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | tuple[str, ...] = (),
        offline: bool = False,
        preemptible: bool = False,
    ) -> None:
        super().__init__(save_dir=save_dir, project=project, name=name, group=group, tags=list(tags))
        self._wandb_init.pop("anonymous")  # W&B warns of it, whatever its value
        self.preemptible = preemptible
        if offline:  # Lightning's own switch would hold for all later runs of the process
            self._wandb_init["mode"] = "offline"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, started or continued when it is first asked for.

        Raises:
            UserError: W&B cannot be reached, or does not take what it is given.
        """
        if self._experiment is not None:
            return self._experiment
        import wandb

        folder = Path(self.save_dir)
        rows = sum(path.stat().st_size for path in folder.glob("wandb/*run-*/*.wandb")) // _SMALLEST_ROW
        self._wandb_init |= _identity(folder, self._wandb_init["name"])
        checkout = Path(lit_ghibli.__file__).parents[1]
        try:
            # Whose key it is, of which W&B only tells, is asked twice, six seconds each where nothing answers.
            wandb.setup(wandb.Settings(x_disable_viewer=True))
            settings = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": _PATIENCE}
            if (checkout / ".git").exists():  # else the revision would be that of whatever surrounds the run's folder
                settings["git_root"] = str(checkout)
            self._wandb_init["settings"] = wandb.Settings(**settings)
            run = super().experiment
        except (wandb.errors.Error, ValueError) as error:
            raise UserError(
                f"Weights & Biases: {shorten(str(error), 300)}",
                "logger.wandb.offline=true does without login and network, and writes files for a later `wandb sync`; "
                "logger=csv does without W&B",
            ) from error
        run.config.update({"lit_ghibli_version": lit_ghibli.__version__}, allow_val_change=True)
        if run.offline and rows:
            # Offline, W&B counts from 0 again, and syncing would write the new rows over the old ones.
            run.log({}, step=rows)
        if self.preemptible:
            run.mark_preempting()
        return run

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End W&B's run: the next training of the same process, as in a multirun, is another one."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


def _identity(folder: Path, name: str | None) -> dict[str, str | None]:
    """What W&B is told of a run's name and identity, the latter made up once for each folder."""
    if "WANDB_RUN_ID" in os.environ:  # a trial, which its agent has named; W&B warns of a project beside the sweep's
        return {"id": None} | ({"project": None} if "WANDB_SWEEP_ID" in os.environ else {})
    folder = folder.resolve()
    title = f"{folder.parent.name}/{folder.name}" if folder.name.isdecimal() else folder.name
    kept = folder / "wandb" / "run_id"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(secrets.token_hex(6))
    return {"id": kept.read_text().strip(), "name": name or title}
