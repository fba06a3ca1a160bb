from functools import partial

import pytest
import torch
from helpers.by_hand import connect, loops
from omegaconf import OmegaConf

from lit_ghibli.data.iterations import IterationsDataModule
from lit_ghibli.errors import UserError
from lit_ghibli.methods.base import Method, Translation
from lit_ghibli.methods.cut import CUT
from lit_ghibli.methods.cyclegan import CycleGAN
from lit_ghibli.methods.nijigan import WEIGHTS, NijiGAN
from lit_ghibli.methods.pix2pix import Pix2Pix
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.recipes import build, compose


class Counting(Method):
    """Learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD([self.weight], lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


def test_a_report_is_logged_detached_and_counted():
    method, logged = connect(Counting()), {}
    method.log_dict = lambda values, **options: logged.update(values)
    picture = torch.zeros(1, 3, 2, 2)
    outputs = method.report({"gan": method.weight * 2}, output=picture)
    assert set(outputs) == {"losses", "output"}
    assert outputs["output"] is picture
    assert not outputs["losses"]["gan"].requires_grad
    assert set(logged) == {"train/gan"}
    assert method.iteration == 1
    method.skip_to(7)
    method.report({})
    assert method.iteration == 8


def test_nothing_is_told_by_default():
    method = Counting()
    assert (method.iteration, list(method.levels), method.inputs()) == (0, [], {})


def test_schedules_advance_at_the_end_of_an_epoch():
    method = connect(Counting())
    method.optimizers().step()
    method.on_train_epoch_end()
    assert method.optimizers().param_groups[0]["lr"] == 0.5


def test_no_method_leaves_its_steps_to_the_loop_which_would_step_its_schedule_too(tiny_of_any_method):
    config = OmegaConf.to_container(compose("train", tiny_of_any_method), resolve=True)
    with torch.device("meta"):
        assert not build(config["method"]).automatic_optimization


def test_a_resumed_method_goes_on_with_its_count_and_its_draws():
    method = connect(Counting())
    checkpoint = {"loops": loops(12), "state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    expected = torch.rand(3)
    resumed = connect(Counting())
    resumed.on_load_checkpoint(checkpoint)
    torch.rand(5)  # whatever is set up in between
    resumed.on_train_start()
    assert resumed.iteration == 12
    assert torch.equal(torch.rand(3), expected)


class Served:
    """Stands for a data module."""

    def __init__(self, *keys: str, crop_size: int) -> None:
        self.batch_keys, self.crop_size = keys, crop_size


def test_data_that_a_method_cannot_train_on_are_refused():
    small = {"base_channels": 2}
    pix2pix = Pix2Pix(generator=partial(UnetGenerator, **small), discriminator=partial(PatchDiscriminator, 6, **small))
    cyclegan = CycleGAN(partial(ResnetGenerator, num_blocks=1, **small), partial(PatchDiscriminator, **small))
    pix2pix.check_data(Served("input", "target", crop_size=256))
    cyclegan.check_data(Served("photo", "anime", crop_size=100))
    with pytest.raises(UserError, match=r"photo, anime.*input, target.*data=unpaired, painted or scenes"):
        cyclegan.check_data(Served("input", "target", crop_size=256))
    with pytest.raises(UserError, match=r"input, target.* photo, anime.* data=two_folders"):
        pix2pix.check_data(Served("photo", "anime", crop_size=256))
    with pytest.raises(UserError, match=r"multiples of 4, at least 8: set data\.crop_size=100, or pad"):
        cyclegan.check_data(Served("photo", "anime", crop_size=103))
    for crop, remedy in (
        (128, r"data\.crop_size=256 or method\.generator\.depth=7, or pad"),
        (320, r"data\.crop_size=256 or method\.generator\.depth=6, or pad"),
        (301, r"data\.crop_size=256, or pad"),
    ):
        with pytest.raises(UserError, match=rf"multiples of 256, at least 256: set {remedy}"):
            pix2pix.check_data(Served("input", "target", crop_size=crop))


def test_data_may_serve_more_than_a_method_reads():
    small = {"generator": partial(ResnetGenerator, base_channels=2, num_blocks=1)}
    small["discriminator"] = partial(PatchDiscriminator, base_channels=2)
    semi = Served("pair_a", "pair_b", "photo", "anime", crop_size=64)
    CUT(**small).check_data(semi)
    CycleGAN(**small).check_data(semi)
    with pytest.raises(UserError, match=r"photo, anime.*input, target"):
        CUT(**small).check_data(Served("input", "target", crop_size=64))
    supervised = NijiGAN(**small)
    supervised.check_data(semi)
    with pytest.raises(UserError, match=r"pair_a.* data=pseudo_paired"):
        supervised.check_data(Served("photo", "anime", crop_size=64))
    NijiGAN(**small, weights={**WEIGHTS, "gan_pair": 0.0, "style_nce": 0.0}).check_data(
        Served("photo", "anime", crop_size=64)
    )


def test_data_without_pictures_and_methods_with_other_ones_are_told():
    class Other(Translation):
        batch_keys = ("sketch", "photo")

    with pytest.raises(UserError, match=r"sketch, photo.* serves photo, anime"):
        Other().check_data(Served("photo", "anime", crop_size=64))
    with pytest.raises(UserError, match=r"sketch, photo.* IterationsDataModule"):
        Other().check_data(IterationsDataModule([(1.0, 3)], epochs=1, seed=0))
