"""Knobs of Lightning's, as a person turns them."""

from types import SimpleNamespace

import pytest
from lightning import Trainer

from lit_ghibli.callbacks.csv_log import ContinuedCSVLogger
from lit_ghibli.commands._optimized import check_optimized, watch_optimized
from lit_ghibli.commands._trainer import check_trainer
from lit_ghibli.commands.train import make_trainer
from lit_ghibli.errors import UserError
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.recipes import as_user_errors, compose

CPU = {"_target_": "lightning.Trainer", "accelerator": "cpu", "devices": 1, "max_time": None}


@pytest.mark.parametrize(
    ("knobs", "parts"),
    [
        ({"accumulate_grad_batches": 2}, ["trainer.accumulate_grad_batches=2", "data.batch_size"]),
        ({"gradient_clip_val": 1.0}, ["trainer.gradient_clip_val=1.0", "step their optimisers"]),
        ({"overfit_batches": 2}, ["trainer.overfit_batches=2", "limit_train_batches"]),
        ({"logger": False}, ["logger=none"]),
        ({"max_time": "1hour"}, ["trainer.max_time", "DD:HH:MM:SS", "'1hour'"]),
        ({"nosuchknob": 1}, ["has no 'nosuchknob'"]),
        ({"enable_progres_bar": False}, ["did you mean enable_progress_bar?"]),
        ({"detect_anomaly": "yes"}, ["trainer.detect_anomaly must be true or false; got 'yes'"]),
        ({"min_epochs": 1.5}, ["trainer.min_epochs must be a whole number; got 1.5"]),
        ({"limit_train_batches": 0}, ["trainer.limit_train_batches", "got 0"]),
        ({"limit_train_batches": 1.5}, ["trainer.limit_train_batches", "got 1.5"]),
        ({"devices": 2}, ["trainer.devices=2", "trainer=ddp"]),
        ({"devices": "0,1"}, ["trainer.devices=0,1", "trainer=ddp"]),
        ({"num_nodes": 2, "strategy": "ddp"}, ["trainer.num_nodes=2", "srun or torchrun"]),
        ({"accelerator": "gpu"}, ["no GPU that torch can use", "trainer=cpu"]),
    ],
    ids=str,
)
def test_what_lightning_would_answer_with_a_traceback_is_a_line(knobs, parts, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError) as error:
        check_trainer({**CPU, **knobs})
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "knobs",
    [
        {"devices": 2, "strategy": {"_target_": "lit_ghibli.training.exchange.PhasewiseDDP"}},
        {"devices": "auto"},
        {"deterministic": "warn", "precision": "bf16-mixed", "max_time": {"hours": 1}},
        {"limit_train_batches": 0.5, "accumulate_grad_batches": 1, "gradient_clip_val": None},
    ],
    ids=str,
)
def test_knobs_that_act_are_let_through(knobs):
    check_trainer({**CPU, **knobs})


def test_what_lightning_refuses_itself_is_a_line():
    with (
        pytest.raises(UserError, match=r"^Lightning: .*`Timer\(duration='x'\)` is not a valid duration"),
        as_user_errors(),
    ):
        Trainer(accelerator="cpu", max_time="x", logger=False)


def test_loggers_and_callbacks_can_be_switched_off(tmp_path):
    def made(*words: str) -> Trainer:
        config = compose("train", ["trainer=cpu", "name=x", f"run_dir={tmp_path}", *words])
        return make_trainer(config, {}, record=None)

    trainer = made("callbacks.doctor=null")
    assert [type(each) for each in trainer.loggers] == [ContinuedCSVLogger]
    assert {"Doctor", "RunCheckpoints"} & {type(each).__name__ for each in trainer.callbacks} == {"RunCheckpoints"}
    assert made("logger=none").loggers == []


def test_metrics_that_no_validation_measures_are_refused_before_the_training():
    method = SimpleNamespace(metrics=MetricSuite(["ssim", "swd"]), extra_metrics=("l1_gap",))
    check_optimized(["val/swd", "val/l1_gap", "train_seconds", "train/gan"], method)
    check_optimized([], SimpleNamespace())
    for name in ("val/swdd", "swd", "val/kid"):
        with pytest.raises(UserError, match=rf"optimized_metric={name} is not logged; there are .*val/swd"):
            check_optimized(["val/ssim", name], method)


def test_losses_that_are_not_logged_end_the_first_epoch():
    trainer = SimpleNamespace(callback_metrics={"train/gan": 1.0})
    watch_optimized(["train/gan", "val/swd"]).on_train_epoch_end(trainer, None)
    with pytest.raises(UserError, match="optimized_metric=train/gann is not logged; there are train/gan; did you mean"):
        watch_optimized(["train/gann"]).on_train_epoch_end(trainer, None)
