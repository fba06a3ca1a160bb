import os
from unittest.mock import patch

import pytest
import torch.distributed as dist
from lightning import Callback

from lit_ghibli.commands.train import prepare
from lit_ghibli.recipes import build, compose

ALL_REDUCE = dist.all_reduce


class Exchanged(Callback):
    """Numbers that each step hands to all-reduce."""

    def __init__(self) -> None:
        self.steps, self.within = [], False

    def on_train_batch_start(self, *_) -> None:
        self.steps.append(0)
        self.within = True

    def on_train_batch_end(self, *_) -> None:
        self.within = False

    def all_reduce(self, values, *arguments, **options):
        if self.within:
            self.steps[-1] += values.numel()
        return ALL_REDUCE(values, *arguments, **options)


@pytest.fixture
def _nothing_stays_of_the_process_group():
    with patch.dict(os.environ):  # where Lightning says which process this is
        yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.trains
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("_nothing_stays_of_the_process_group")
def test_a_step_exchanges_each_networks_gradients_once(translates, any_method, tiny_of_any_method, tmp_path):
    if not translates:
        pytest.skip("makes one picture, which cannot be shared out")
    words = [*tiny_of_any_method, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "method.epochs=2"]
    config = compose("train", [*words, f"run_dir={tmp_path}"])
    method, data, *_ = prepare(config)
    exchanged = Exchanged()
    options = {"callbacks": [exchanged], "logger": False, "enable_checkpointing": False, "limit_val_batches": 0}
    trainer = build(config.trainer, default_root_dir=str(tmp_path), enable_progress_bar=False, **options)
    with patch.object(dist, "all_reduce", exchanged.all_reduce):
        trainer.fit(method, data)
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    learned = sum(each.numel() for each in {each for group in groups for each in group["params"]} if each.requires_grad)
    counts = exchanged.steps[-1] - learned  # of codes and styles that were seen
    assert 0 <= counts <= 100
