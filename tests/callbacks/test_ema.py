from functools import partial

import pytest
import torch

from lit_ghibli.callbacks.ema import Ema
from lit_ghibli.errors import UserError
from lit_ghibli.methods.base import Method
from lit_ghibli.methods.cyclegan import CycleGAN
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator

SMALL = {"generator": partial(ResnetGenerator, base_channels=2, num_blocks=1)}
SMALL["discriminator"] = partial(PatchDiscriminator, base_channels=2, num_layers=1)


def test_both_generators_are_averaged_judged_so_and_saved_beside_their_own_weights():
    method, ema = CycleGAN(**SMALL), Ema(0.5)
    ema.on_fit_start(None, method)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(1.0)
    method.iteration = 1
    ema.on_train_batch_end(None, method)
    own = {name: value.clone() for name, value in method.state_dict().items()}
    kept = 2 / 11

    ema.on_validation_start(None, method)
    for name, value in method.state_dict().items():
        expected = before[name] + (1 - kept if name.startswith("generator") else 1.0)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    ema.on_validation_end(None, method)
    assert all(torch.equal(value, own[name]) for name, value in method.state_dict().items())

    checkpoint = {"state_dict": method.state_dict()}
    ema.on_save_checkpoint(None, method, checkpoint)
    assert {name.split(".")[0] for name in checkpoint["ema"]} == {"generator_ab", "generator_ba"}
    assert checkpoint["ema"].keys() <= checkpoint["state_dict"].keys()


def test_a_run_without_an_average_has_nothing_of_it_and_may_begin_one():
    method, ema = CycleGAN(**SMALL), Ema(None)
    ema.on_fit_start(None, method)
    ema.on_train_batch_end(None, method)
    checkpoint = {}
    ema.on_save_checkpoint(None, method, checkpoint)
    assert checkpoint == {}

    ema = Ema(0.999)
    ema.on_load_checkpoint(None, method, checkpoint)
    ema.on_fit_start(None, method)
    weights = method.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in method.average.state_dict().items())


def test_a_method_that_makes_one_picture_has_no_generator_to_average():
    Ema(None).setup(None, Method(), "fit")
    with pytest.raises(UserError, match=r"callbacks\.ema"):
        Ema(0.9).setup(None, Method(), "fit")
