"""A stand-in for SLURM on this machine: sbatch, srun, scontrol and sacct as far as a run on one node uses them.

Called by one of these names it does what the program of that name does. A job is started again when scontrol says
so, as soon as all of its processes have ended. Its state is in the folder that $FAKE_SLURM names.
"""

import contextlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

JOB = "4711"
STREAMS = {"--output": "stdout", "--error": "stderr"}
PROGRAMS = ("sbatch", "srun", "scontrol", "sacct")


def install(folder: Path) -> dict[str, str]:
    """Make the programs in a folder; returns the environment that finds them."""
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def sbatch(script: str) -> None:
    """Keep a copy of a job's script and run it in the background."""
    state = Path(os.environ["FAKE_SLURM"])
    (state / "script").write_text(Path(script).read_text())
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, __file__, "batch", str(state / "script")], **nowhere)
    print(f"Submitted batch job {JOB}")


def batch(script: str) -> None:
    """Run a job's script, again and again while it is requeued."""
    state = Path(os.environ["FAKE_SLURM"])
    tasks = re.search(r"--ntasks-per-node=(\d+)", Path(script).read_text())[1]
    environment = {
        "SLURM_JOB_ID": JOB,
        "SLURM_NTASKS": tasks,
        "SLURM_NTASKS_PER_NODE": tasks,
        "SLURM_JOB_NUM_NODES": "1",
    }
    environment |= {"SLURM_NNODES": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NODELIST": "localhost"}
    for restart in range(5):
        again = {"SLURM_RESTART_COUNT": str(restart)} if restart else {}
        subprocess.run(["bash", script], env={**os.environ, **environment, **again}, check=False)
        if not (state / "requeued").exists():
            return
        (state / "requeued").unlink()


def srun(*arguments: str) -> None:
    """Start a job's tasks, each with an output of its own where that is asked for, and wait for all of them."""
    words = list(arguments)
    files = {}
    while words[0].startswith("--"):
        option = words.pop(0)
        if option in STREAMS:
            files[STREAMS[option]] = words.pop(0).replace("%j", JOB)
    tasks = []
    for task in range(int(os.environ["SLURM_NTASKS"])):
        number = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0", "SLURM_STEP_ID": "0"}
        with contextlib.ExitStack() as stack:
            streams = {
                name: stack.enter_context(open(path.replace("%t", str(task)), "a")) for name, path in files.items()
            }
            tasks.append(subprocess.Popen(words, env={**os.environ, **number}, **streams))
    sys.exit(max(abs(task.wait()) for task in tasks))


def scontrol(verb: str, job: str) -> None:
    assert (verb, job) == ("requeue", JOB)
    (Path(os.environ["FAKE_SLURM"]) / "requeued").touch()


def sacct(*arguments: str) -> None:
    print(f"JobID|State|NodeList\n{JOB}|RUNNING|localhost")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
