import os
from unittest.mock import patch

import pytest
import torch.distributed as dist
from lightning import Callback
from torch.profiler import ProfilerActivity, profile

from lit_ghibli.commands.train import prepare
from lit_ghibli.recipes import build, compose


class Exchanged(Callback):
    """Numbers that each step has handed to all-reduce, as the profiler sees them."""

    def __init__(self) -> None:
        self.steps = []

    def on_train_batch_start(self, *_) -> None:
        self.profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
        self.profile.start()

    def on_train_batch_end(self, *_) -> None:
        self.profile.stop()
        shapes = [each.input_shapes for each in self.profile.events() if each.name == "gloo:all_reduce"]
        self.steps.append([tensor[0] for (tensor,) in shapes])


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
    trainer.fit(method, data)
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    learned = sum(each.numel() for each in {each for group in groups for each in group["params"]} if each.requires_grad)
    counts = sum(exchanged.steps[-1]) - learned  # of codes and styles that were seen
    assert 0 <= counts < 20
