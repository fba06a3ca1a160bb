"""`lit-ghibli wandb-trial`: one trial of a Weights & Biases sweep, in a process and a folder of its own.

An agent says by environment variables which trial it wants. A trial that was interrupted goes on where it stopped.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from lit_ghibli.errors import UserError
from lit_ghibli.overrides import quote, spell

_NEEDED = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
_HELP = """lit-ghibli wandb-trial [key=value ...]: train with the values that a Weights & Biases agent asks for.

To stand in the `command` of a sweep; see experiments/wandb_sweep. What is given here holds for all trials:

  command: [lit-ghibli, wandb-trial, experiment=cyclegan_ghibli, data.root=DIR]

A trial's folder is outputs/wandb_SWEEP/RUN, below the folder in which the agent runs."""


def trial(*given: str) -> None:
    """Train what the agent of this process asks for, in a child process; for ``wandb.agent(sweep, function=trial)``.

    Args:
        given: Arguments of `lit-ghibli train` for all trials; bind them with `functools.partial`.

    Raises:
        UserError: No agent asks for anything, or the training failed, which tells the agent so.
    """
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    # In a session of its own, since a terminal's Ctrl-C and ours would be two, which stop it unsaved.
    child = subprocess.Popen(training(given, environment), env=environment, start_new_session=True)
    try:
        while child.poll() is None:
            time.sleep(0.2)  # not one long wait, which would hold back the exception by which an agent stops a trial
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)  # it saves first; on SIGTERM it would go on inside a job of SLURM's
            child.wait()
    if child.returncode:
        raise UserError(f"trial {environment['WANDB_RUN_ID']}: the training ended with exit status {child.returncode}")


def training(given: tuple[str, ...] | list[str], environment: Mapping[str, str]) -> list[str]:
    """The command line of a trial's training.

    Args:
        given: Arguments for all trials.
        environment: What the agent has set.

    Raises:
        UserError: No agent asks for anything.
    """
    if missing := [name for name in _NEEDED if not environment.get(name)]:
        raise UserError(f"{', '.join(missing)} not set: a trial is started by `wandb agent SWEEP`")
    folder = Path("outputs") / f"wandb_{environment['WANDB_SWEEP_ID']}" / environment["WANDB_RUN_ID"]
    command = [sys.executable, "-m", "lit_ghibli", "train"]
    if (folder / "checkpoints" / "last.ckpt").is_file():
        return [*command, f"resume={quote(str(folder))}"]
    logger = [] if any(word.startswith("logger=") for word in given) else ["logger=wandb"]
    asked = yaml.safe_load(Path(environment["WANDB_SWEEP_PARAM_PATH"]).read_text(encoding="utf-8"))
    values = [f"{key}={spell(entry['value'])}" for key, entry in asked.items() if key != "wandb_version"]
    return [*command, *logger, *given, *values, f"hydra.run.dir={quote(str(folder))}"]


def main(arguments: list[str]) -> None:
    """Become the training itself, so that the agent's signals reach it.

    Raises:
        SystemExit: No agent asks for anything.
    """
    if any(word in ("-h", "--help") for word in arguments):
        print(_HELP)
        return
    try:
        command = training(arguments, os.environ)
    except UserError as error:
        raise SystemExit(f"lit-ghibli wandb-trial: {error}") from error
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
