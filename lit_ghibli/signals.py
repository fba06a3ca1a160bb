"""Signals that ask a process to stop, and what a closed terminal asks for."""

import os
import signal
import stat


def stop_signals() -> list[int]:
    """Ctrl-C, SIGTERM, and SIGHUP of a closed terminal unless ``nohup`` has it ignored."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hang_up]


def leave_terminal() -> None:
    """Write nowhere what would go to a terminal that is closed, where every further line would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        if stat.S_ISCHR(os.fstat(output).st_mode):
            os.dup2(nowhere, output)
    os.close(nowhere)
