"""Commands that begin at once: forked from a process that has imported everything, which takes seconds of each else."""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import queue
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

_READY, _STARTED, _ENDED = "ready", "started", "ended"


class Forked:
    """A process that another one has started, as `subprocess.Popen` would show it.

    Attributes:
        pid: Its number.
        returncode: Its exit status, or minus the signal that killed it; None while it runs.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._over = threading.Event()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not within so many seconds.
        """
        if not self._over.wait(timeout):
            raise subprocess.TimeoutExpired("lit-ghibli", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended(self, status: int) -> None:
        """Note its end."""
        self.returncode = status
        self._over.set()


class Preloaded:
    """A process that imports what commands need, and from which they are forked from then on.

    Args:
        environment: All variables, of the commands, too.
        module: Which calls :func:`serve`, as `python -m` finds it.
    """

    def __init__(self, environment: Mapping[str, str], module: str = __name__) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # In a session of its own: Ctrl-C is for the commands, and they are told by who has started them.
        self._parent = subprocess.Popen(
            [sys.executable, "-m", module], env=environment, start_new_session=True, **pipes
        )
        self._running: dict[int, Forked] = {}
        self._started: queue.Queue[Forked | None] = queue.Queue()
        self._mutex, self._ready, self._over = threading.Lock(), threading.Event(), False
        threading.Thread(target=self._listen, daemon=True).start()

    def is_ready(self, timeout: float = 0) -> bool:
        """Whether a command would begin at once, after at most so many seconds."""
        return self._ready.wait(timeout) and not self._over

    def start(self, request: Mapping[str, Any]) -> Forked:
        """Fork a process that does what is asked for.

        Raises:
            OSError: There is nothing any more to be forked from.
        """
        with self._mutex:
            self._parent.stdin.write(json.dumps(request) + "\n")
            self._parent.stdin.flush()
            if (forked := self._started.get()) is None:
                raise BrokenPipeError("the process that commands are forked from has ended")
            return forked

    def close(self) -> None:
        """End it, and what still runs of what has been forked from it."""
        self._parent.terminate()
        self._parent.wait()
        with contextlib.suppress(OSError):
            self._parent.stdin.close()

    def _listen(self) -> None:
        with self._parent.stdout as lines:
            for line in lines:
                word, *numbers = line.split()
                if word == _READY:
                    self._ready.set()
                elif word == _STARTED:
                    forked = self._running[int(numbers[0])] = Forked(int(numbers[0]))
                    self._started.put(forked)
                else:
                    self._running.pop(int(numbers[0])).ended(int(numbers[1]))
        self._over = True
        self._ready.set()  # nobody waits for it any more
        self._started.put(None)
        for forked in self._running.values():  # whose end nobody learns of: as if killed, which they are
            with contextlib.suppress(ProcessLookupError):
                os.killpg(forked.pid, signal.SIGKILL)
            forked.ended(-signal.SIGKILL)


def import_all() -> None:
    """Import what commands do, but not the commands themselves, which run as ``__main__``."""
    import lit_ghibli

    for module in pkgutil.walk_packages(lit_ghibli.__path__, "lit_ghibli."):
        if not module.name.startswith("lit_ghibli.commands.") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()  # what a collection touches, each forked process would copy


def serve() -> dict[str, Any]:
    """Fork for each line of standard input; returns in the forked process, with what is asked for."""
    ended, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print(_READY, flush=True)
    text = b""
    while True:
        readable, _, _ = select.select([0, ended], [], [])
        if ended in readable:
            os.read(ended, 4096)
            for pid, status in _reaped():
                print(_ENDED, pid, status, flush=True)
        if 0 in readable:
            text += (read := os.read(0, 65536))
            if not read:
                os._exit(0)
            *lines, text = text.split(b"\n")
            for line in lines:
                if not (child := os.fork()):
                    os.setsid()  # so that all that it starts can be killed with it
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for file in (ended, signalled):
                        os.close(file)
                    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
                        _open_as(number, os.devnull, mode)  # so that these pipes end with this process alone
                    return json.loads(line)
                print(_STARTED, child, flush=True)


def _reaped() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


def _open_as(number: int, name: str, mode: int) -> None:
    opened = os.open(name, mode, 0o666)
    os.dup2(opened, number)
    os.close(opened)


def become(words: list[str], out: str, err: str) -> NoReturn:
    """Be `lit-ghibli` with these words, whose output is added to two files, or the same one."""
    for number, name in ((1, out), (2, err)):
        _open_as(number, name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    np.random.seed()  # noqa: NPY002 - what libraries may use; Python's own does so by itself
    sys.argv = ["lit_ghibli", *words]
    status = _run()
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)  # to take down all that is imported takes a forked process seconds


def _run() -> int:
    """Run the command; its exit status."""
    try:
        runpy.run_module("lit_ghibli", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    import_all()
    become(**serve())
