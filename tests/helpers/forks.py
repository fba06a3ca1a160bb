"""Commands as processes forked from one that has imported everything: imports take longer than tiny trainings do."""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

import lit_ghibli

TESTS = Path(__file__).parents[1]
PATH = f"{TESTS}{os.pathsep}{TESTS.parent}"  # the helpers, and this checkout, whatever is installed
TIMEOUT = 300  # seconds, after which a command is killed


class Forks:
    """Runs `python -m lit_ghibli`, each time in a process of its own that is forked from the same parent."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._parent = subprocess.Popen([sys.executable, "-m", "helpers.forks"], env=environment, text=True, **pipes)

    def run(self, *words: str, folder: Path, environment: dict[str, str], streams: Path) -> int:
        """Run a command to its end; its exit status, or minus the signal that killed it.

        Args:
            words: Of the command line.
            folder: In which it runs.
            environment: All of its variables.
            streams: Folder into whose files ``out`` and ``err`` it writes.
        """
        request = {"words": words, "folder": str(folder), "environment": environment, "streams": str(streams)}
        self._parent.stdin.write(json.dumps(request) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def close(self) -> None:
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()


def _import_all() -> None:
    """Import what commands do, but not the commands themselves, which run as `__main__`."""
    for module in pkgutil.walk_packages(lit_ghibli.__path__, "lit_ghibli."):
        if not module.name.startswith("lit_ghibli.commands.") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _become(words: list[str], folder: str, environment: dict[str, str], streams: str) -> None:
    """Take on what a process is started with."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number, name, mode in ((0, os.devnull, os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        os.dup2(os.open(Path(streams, name), mode | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0], sys.argv = folder, ["lit_ghibli", *words]


def _serve() -> None:
    """Fork for every line of standard input; returns in the forked process."""
    for line in sys.stdin:
        if not (child := os.fork()):
            _become(**json.loads(line))
            return
        signal.signal(signal.SIGALRM, lambda *_, child=child: os.kill(child, signal.SIGKILL))
        signal.alarm(TIMEOUT)
        _, status = os.waitpid(child, 0)
        signal.alarm(0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)


def _run() -> int:
    """Run the command; its exit status."""
    try:
        runpy.run_module("lit_ghibli", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # what a collection touches, the forked process would copy
    _serve()
    status = _run()
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # to take down all that is imported takes a forked process seconds
