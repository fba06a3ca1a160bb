"""Commands as processes forked from one that has imported everything: imports take longer than tiny trainings do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from lit_ghibli.studies.preloaded import Preloaded, become, import_all, serve

TESTS = Path(__file__).parents[1]
PATH = f"{TESTS}{os.pathsep}{TESTS.parent}"  # the helpers, and this checkout, whatever is installed
TIMEOUT = 300  # seconds, after which a command is killed


class Forks(Preloaded):
    """Runs `python -m lit_ghibli`, each time in a process of its own, in any folder and environment."""

    def __init__(self) -> None:
        super().__init__({**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}, "helpers.forks")

    def run(self, *words: str, folder: Path, environment: dict[str, str], streams: Path) -> int:
        """Run a command to its end; its exit status, or minus the signal that killed it.

        Args:
            words: Of the command line.
            folder: In which it runs.
            environment: All of its variables.
            streams: Folder into whose files ``out`` and ``err`` it writes.
        """
        output = {name: str(streams / name) for name in ("out", "err")}
        forked = self.start({"folder": str(folder), "environment": environment, "told": {"words": words, **output}})
        try:
            return forked.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            forked.send_signal(signal.SIGKILL)
            return forked.wait()


if __name__ == "__main__":
    import_all()
    asked = serve()
    os.chdir(asked["folder"])
    sys.path[0] = asked["folder"]
    os.environ.clear()
    os.environ.update(asked["environment"])
    become(**asked["told"])
