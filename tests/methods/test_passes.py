"""With ``runtime.batch_passes`` a step is the same, whether passes of a network are one or several."""

from functools import partial

import pytest
import torch
from helpers.by_hand import connect, spy_on_gradients

from lit_ghibli.errors import UserError
from lit_ghibli.methods.cyclegan import CycleGAN
from lit_ghibli.methods.distill import Distill
from lit_ghibli.methods.pix2pix import Pix2Pix
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.recipes import build, compose


@pytest.mark.trains
def test_joined_passes_give_the_same_gradients_and_losses(any_method, tiny_of_any_method, monkeypatch):
    settings = ["method.discriminator.norm=instance"] if any_method == "pix2pix" else []
    config = compose("train", [*tiny_of_any_method, *settings])
    outcomes = []
    for joining in (False, True):
        torch.manual_seed(0)
        method = build(config.method, metrics=None)
        if not method.joinable:
            return
        connect(method).setup("fit")
        method.double()
        monkeypatch.setattr(type(method.trainer), "num_training_batches", 1)
        if joining:
            method.join_passes()
        if hasattr(method, "schedule"):
            method.schedule = lambda *_: 1.0
        size = config.data.crop_size
        batch = {key: torch.rand(2, 3, size, size, dtype=torch.float64) * 2 - 1 for key in method.batch_keys}
        passes = []

        def count(_, inputs, passes=passes):
            passes.append(len(inputs[0]))

        for name in method.joinable:
            getattr(method, name).register_forward_pre_hook(count)
        method.skip_to(10**6)
        gradients = spy_on_gradients(method)
        outputs = method.training_step(batch, 0)
        outcomes.append((outputs["losses"], gradients, passes))
    (losses, steps, one_by_one), (joined_losses, joined_steps, together) = outcomes
    assert sum(one_by_one) == sum(together)
    assert len(one_by_one) > len(together)
    for name, loss in losses.items():
        torch.testing.assert_close(joined_losses[name], loss, rtol=0, atol=1e-10)
    assert len(steps) == len(joined_steps) > 1
    for step, joined_step in zip(steps, joined_steps, strict=True):
        torch.testing.assert_close(joined_step, step, rtol=1e-6, atol=1e-9)


def test_what_would_learn_otherwise_in_one_pass_is_refused_in_a_line():
    small = {"base_channels": 2, "num_layers": 1}
    pix2pix = Pix2Pix(
        partial(UnetGenerator, base_channels=2, depth=2), partial(PatchDiscriminator, 6, **small, norm="batch")
    )
    with pytest.raises(UserError, match=r"runtime\.batch_passes.*discriminator has batch norm"):
        pix2pix.join_passes()
    generator = partial(ResnetGenerator, base_channels=2, num_blocks=1)
    cyclegan = CycleGAN(generator, partial(PatchDiscriminator, **small, spectral_norm=True))
    with pytest.raises(UserError, match="discriminator_a has spectral norm"):
        cyclegan.join_passes()
    with pytest.raises(UserError, match="Distill has no passes that could be one"):
        Distill().join_passes()
    assert not pix2pix.joining
    assert not cyclegan.joining
