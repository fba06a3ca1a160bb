"""In a training step nothing is asked of tensors that a GPU would have to be waited for."""

import traceback
from pathlib import Path

import pytest
import torch
from helpers.by_hand import connect
from torch.utils._python_dispatch import TorchDispatchMode

from lit_ghibli.recipes import build, compose

# Values or shapes that Python needs, and numbers of Python's that become tensors
WAITED_FOR = {f"aten::{name}" for name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh")}
ALLOWED = {
    "animegan": {"edge_smoothing.py"},  # looks now and then whether edges still grow
    "arbitrary": {"arbitrary.py"},  # torchvision's jitter, which draws its numbers on the CPU
    "cartoongan": {"edge_smoothing.py"},
    "cut": {"cut.py"},  # a draw on the CPU, and a number there to be logged
    "nijigan": {"nijigan.py"},  # likewise
    "vqi2i": {"quantizer.py"},  # looks which codes are dead, where these are to be restarted
}


class Waits(TorchDispatchMode):
    """Notes which files of the suite ask for what is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.files = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function._schema.name in WAITED_FOR:
            frames = [frame.filename for frame in traceback.extract_stack() if "/lit_ghibli/" in frame.filename]
            self.files.add(Path(frames[-1]).name)
        return function(*arguments, **(options or {}))


@pytest.mark.trains
def test_a_step_waits_for_nothing(any_method, tiny_of_any_method, translates, monkeypatch):
    if not translates:
        return  # L-BFGS looks at its loss in every evaluation
    config = compose("train", tiny_of_any_method)
    method, data = connect(build(config.method, metrics=None)), build(config.data)
    monkeypatch.setattr(type(method.trainer), "num_training_batches", 1)
    method.setup("fit")
    method.skip_to(10**6)  # what the first epochs leave out
    if hasattr(method, "schedule"):
        method.schedule = lambda *_: 1.0
    logged = {}
    method.log_dict = lambda values, **_: logged.update(values)
    batch = {key: torch.rand(1, 3, data.crop_size, data.crop_size) * 2 - 1 for key in data.batch_keys}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = method.training_step(batch, 0)
    assert all(loss.isfinite() for loss in outputs["losses"].values()), "also in bfloat16, and without a scaler"
    with Waits() as waits:
        method.training_step(batch, 1)
    assert waits.files == ALLOWED.get(any_method, set())
    assert logged
    assert all(isinstance(value, torch.Tensor) for value in logged.values()), "Lightning makes them on the device"
