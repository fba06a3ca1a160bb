"""What a run does about a signal, when the step in which it came is over."""

import os
import signal
from types import SimpleNamespace

import pytest

from lit_ghibli.callbacks.checkpointing import RunCheckpoints
from lit_ghibli.signals import stop_signals

VARIABLES = ("SLURM_JOB_ID", "SUBMITIT_EXECUTOR", "SUBMITIT_LOCAL_JOB_ID")
SLURM = {"SLURM_JOB_ID": "7"}
LOCAL = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "31"}


@pytest.fixture
def step(tmp_path, monkeypatch):
    """Does a training step in which signals come, outside or inside a scheduler's job; lists what happens."""
    events = []
    before = signal.signal(signal.SIGUSR2, lambda *arguments: events.append("submitit requeues"))
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have it ignored
    monkeypatch.setattr("lit_ghibli.signals.leave_terminal", lambda: None)  # it is that of the tests
    monkeypatch.setattr("subprocess.run", lambda command, **options: events.append(" ".join(command)))
    trainer = SimpleNamespace(
        is_global_zero=True,
        world_size=1,
        num_training_batches=9,
        should_stop=False,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0)),
        save_checkpoint=lambda path: events.append(f"saved {path.name}"),
        print=lambda text: None,
    )
    callback = RunCheckpoints(tmp_path, every_n_batches=100, keep_epochs=1)

    def do(variables, *numbers):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for number in numbers:
            os.kill(os.getpid(), number)
        try:
            callback.on_train_batch_end(trainer, None, None, None, 0)
        except (KeyboardInterrupt, SystemExit) as end:
            events.append(type(end).__name__)
        return events

    callback.on_train_start(trainer, None)
    yield do
    callback.teardown(trainer, None, "fit")
    signal.signal(signal.SIGUSR2, before)
    signal.signal(signal.SIGHUP, hang_up)


@pytest.mark.parametrize(
    ("variables", "numbers", "expected"),
    [
        ({}, [], []),
        ({}, ["INT"], ["saved last.ckpt", "KeyboardInterrupt"]),
        ({}, ["TERM", "TERM"], ["saved last.ckpt", "KeyboardInterrupt"]),
        ({}, ["HUP"], ["saved last.ckpt", "KeyboardInterrupt"]),
        ({}, ["USR1"], ["saved last.ckpt", "KeyboardInterrupt"]),  # nobody there to requeue anything
        (SLURM, ["USR1"], ["saved last.ckpt", "scontrol requeue 7", "SystemExit"]),
        (SLURM, ["TERM"], ["saved last.ckpt"]),  # goes on: SLURM knows whether the job was cancelled or preempted
        (SLURM, ["TERM", "USR1"], ["saved last.ckpt", "scontrol requeue 7", "SystemExit"]),
        (LOCAL, ["USR2"], ["saved last.ckpt", "submitit requeues", "SystemExit"]),
        (LOCAL, ["TERM"], ["saved last.ckpt", "KeyboardInterrupt"]),
        (LOCAL, ["USR2", "TERM"], ["saved last.ckpt", "submitit requeues", "SystemExit"]),
    ],
)
def test_the_step_is_finished_and_saved_first(step, variables, numbers, expected):
    signals = [signal.Signals[f"SIG{name}"] for name in numbers]
    assert step(variables, *signals) == expected


@pytest.mark.parametrize(("handler", "listened"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_closed_terminal_stops_nothing_that_nohup_started(handler, listened):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        assert (signal.SIGHUP in stop_signals()) == listened
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_stops_at_once(step):
    with pytest.raises(KeyboardInterrupt):
        step({}, signal.SIGINT, signal.SIGINT)


def test_a_wish_to_save_is_fulfilled_once(step):
    assert step(SLURM, signal.SIGTERM) == ["saved last.ckpt"]
    assert step(SLURM) == ["saved last.ckpt"]
