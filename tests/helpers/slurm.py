"""A stand-in for SLURM on this machine: its programs as far as runs and studies on one node use them.

Called by one of these names it does what the program of that name does. A job is started again when scontrol says
so, as soon as all of its processes have ended. What is known of jobs is in folders of the one that $FAKE_SLURM names:
``state``, and ``batch``, the number of the process below which the job's are.
"""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

JOB = "4711"  # the first one's number
STREAMS = {"--output": "stdout", "--error": "stderr"}
PROGRAMS = ("sbatch", "srun", "scontrol", "sacct", "squeue", "scancel")
KILL_WAIT = 20.0  # seconds from SIGTERM to SIGKILL


def install(folder: Path) -> dict[str, str]:
    """Make the programs in a folder; returns the environment that finds them."""
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def sbatch(script: str) -> None:
    """Keep a copy of a job's script and run it in the background; of an array, so many elements at once."""
    text = Path(script).read_text()
    (_root() / "script").write_text(text)
    number = str(int(JOB) + len(list(_root().glob("script_*"))))
    (copy := _root() / f"script_{number}").write_text(text)
    array = re.search(r"--array=0-(\d+)%(\d+)", text)
    jobs = [f"{number}_{index}" for index in range(int(array[1]) + 1)] if array else [number]
    for job in jobs:
        _write(job, "state", "PENDING")
    most = array[2] if array else "1"
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, __file__, "run", str(copy), most, *jobs], start_new_session=True, **nowhere)
    print(f"Submitted batch job {number}")


def run(script: str, most: str, *jobs: str) -> None:
    """Run jobs, so many at once."""
    with ThreadPoolExecutor(int(most)) as pool:
        list(pool.map(lambda job: batch(script, job), jobs))


def batch(script: str, job: str = JOB) -> None:
    """Run a job's script, again and again while it is requeued."""
    tasks = re.search(r"--ntasks-per-node=(\d+)", Path(script).read_text())[1]
    number, _, index = job.partition("_")
    environment = {
        "SLURM_JOB_ID": job.replace("_", "0"),
        "SLURM_NTASKS": tasks,
        "SLURM_NTASKS_PER_NODE": tasks,
        "SLURM_JOB_NUM_NODES": "1",
        "FAKE_JOB": job,
    }
    environment |= {"SLURM_NNODES": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NODELIST": "localhost"}
    if index:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    for restart in range(5):
        if _read(job, "state") == "CANCELLED":
            return
        again = {"SLURM_RESTART_COUNT": str(restart)} if restart else {}
        process = subprocess.Popen(["bash", script], env={**os.environ, **environment, **again})
        _write(job, "batch", str(process.pid))
        _write(job, "state", "RUNNING")
        process.wait()
        if not (requeued := _root() / f"job_{job}" / "requeued").exists():
            ended = "FAILED" if process.returncode else "COMPLETED"
            _write(job, "state", "CANCELLED" if _read(job, "state") == "COMPLETING" else ended)
            return
        requeued.unlink()
        _write(job, "state", "PENDING")


def srun(*arguments: str) -> None:
    """Start a job's tasks, each with an output of its own where that is asked for, and wait for all of them."""
    words = list(arguments)
    files = {}
    number, _, index = os.environ["FAKE_JOB"].partition("_")
    while words[0].startswith("--"):
        option = words.pop(0)
        if option in STREAMS:
            path = words.pop(0)
            files[STREAMS[option]] = path.replace("%j", number).replace("%A", number).replace("%a", index)
    tasks = []
    for task in range(int(os.environ["SLURM_NTASKS"])):
        numbers = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0", "SLURM_STEP_ID": "0"}
        with contextlib.ExitStack() as stack:
            streams = {
                name: stack.enter_context(open(path.replace("%t", str(task)), "a")) for name, path in files.items()
            }
            tasks.append(subprocess.Popen(words, env={**os.environ, **numbers}, **streams))
    sys.exit(max(abs(task.wait()) for task in tasks))


def scontrol(verb: str, job: str) -> None:
    assert verb == "requeue"
    _write(job, "requeued", "")


def sacct(*arguments: str) -> None:
    print(f"JobID|State|NodeList\n{JOB}|RUNNING|localhost")


def squeue(*arguments: str) -> None:
    assert arguments == ("--me", "--array", "--noheader", "--states=all", "--format=%i %T"), arguments
    for folder in sorted(_root().glob("job_*")):
        job = folder.name.removeprefix("job_")
        print(job, _read(job, "state"))


def scancel(*jobs: str) -> None:
    for job in jobs:
        if _read(job, "state") == "PENDING":
            _write(job, "state", "CANCELLED")
        elif _read(job, "state") == "RUNNING":
            _write(job, "state", "COMPLETING")
            _end(job)


def preempt(job: str) -> None:
    """What a cluster does that gives a job's node to another and requeues it."""
    scontrol("requeue", job)
    _end(job)


def fail_node(job: str) -> None:
    """Kill all processes of a job."""
    for process in _processes(job):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _end(job: str) -> None:
    """Send SIGTERM to a job's tasks, and kill what is left after a while; in the background."""
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, __file__, "end", job], start_new_session=True, **nowhere)


def end(job: str) -> None:
    tasks = [
        process for process in _processes(job) if b"srun" not in _command(process) and b"bash" not in _command(process)
    ]
    for process in tasks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    until = time.monotonic() + KILL_WAIT
    while time.monotonic() < until and any(_command(process) for process in tasks):
        time.sleep(0.1)
    fail_node(job)


def _processes(job: str) -> list[int]:
    """Those below a job's script, itself included."""
    found = [int(_read(job, "batch"))]
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def _command(process: int) -> bytes:
    """A process's command line; empty of one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def _root() -> Path:
    return Path(os.environ["FAKE_SLURM"])


def _write(job: str, name: str, text: str) -> None:
    (folder := _root() / f"job_{job}").mkdir(exist_ok=True)
    (folder / f".{name}").write_text(text)
    (folder / f".{name}").replace(folder / name)


def _read(job: str, name: str) -> str:
    path = _root() / f"job_{job}" / name
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
