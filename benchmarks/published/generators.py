"""Both sides of each contest of generators: our class, and the peer's own behind one function."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_ghibli.networks.animegan import AnimeGenerator
from lit_ghibli.networks.cartoongan import CartoonGenerator
from lit_ghibli.networks.fast_style import FastStyleGenerator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.published.families import import_published


def stub(name: str, **attributes: object) -> None:
    """Let a peer import what it does not use here, and what need not be installed."""
    module = sys.modules.setdefault(name, ModuleType(name))
    vars(module).update(attributes)


def cartoongan() -> nn.Module:
    """CartoonGAN's, of CartoonGAN-Test-Pytorch-Torch."""
    from network.Transformer import Transformer

    return Transformer()


def animegan2_pytorch() -> nn.Module:
    """AnimeGANv2's, of animegan2-pytorch."""
    from model import Generator

    return Generator()


def pytorch_animegan() -> nn.Module:
    """AnimeGANv2's, of pytorch-animeGAN."""
    stub("cv2", INTER_AREA=0)
    from models.anime_gan_v2 import GeneratorV2

    return GeneratorV2()


def park(kind: str, norm: str, **options: bool) -> nn.Module:
    """Those of contrastive-unpaired-translation."""
    from models.networks import define_G

    with redirect_stdout(StringIO()):  # it says how it initialises
        return define_G(3, 3, 64, kind, norm, use_dropout=False, gpu_ids=[], **options)


def fast_style() -> nn.Module:
    """That of fast neural style transfer, of PyTorch's examples."""
    from neural_style.transformer_net import TransformerNet

    return TransformerNet()


def swap_red_and_blue(network: nn.Module, photo: Tensor) -> Tensor:
    """What a network of BGR pictures makes of an RGB one, in RGB."""
    return network(photo.flip(1)).flip(1)


def in_levels(network: nn.Module, photo: Tensor) -> Tensor:
    """What a network of pictures from 0 to 255 makes of one in [-1, 1], in [-1, 1]."""
    return network((photo + 1) * 127.5) / 127.5 - 1


def as_it_is(network: nn.Module, photo: Tensor) -> Tensor:
    """What a network of our convention makes of a picture."""
    return network(photo)


class Contest(NamedTuple):
    """Both sides of a generator, and the order of colors and the range of the peer's."""

    title: str
    ours: Callable[[], nn.Module]
    peer: Callable[[], nn.Module]
    peer_file: str  # below --peer, in the repository that has it
    paint: Callable[[nn.Module, Tensor], Tensor] = as_it_is


CUT_FILE = "models/cut_model.py"
GENERATORS = {
    "cartoongan": Contest(
        "CartoonGAN", CartoonGenerator, cartoongan, "network/Transformer.py", paint=swap_red_and_blue
    ),
    "animegan2": Contest(
        "AnimeGANv2 of animegan2-pytorch", partial(AnimeGenerator, upsample="align_corners"), animegan2_pytorch,
        "model.py",
    ),
    "animegan2_port": Contest(
        "AnimeGANv2 of pytorch-animeGAN", partial(AnimeGenerator, upsample="half_pixel", head_bias=True),
        pytorch_animegan, "models/anime_gan_v2.py",
    ),
    "cut": Contest(
        "CUT, FastCUT, Scenimefy", partial(ResnetGenerator, downsample="blur", upsample="bilinear"),
        partial(park, "resnet_9blocks", "instance"), CUT_FILE,
    ),
    "cyclegan": Contest(
        "CycleGAN", ResnetGenerator,
        partial(park, "resnet_9blocks", "instance", no_antialias=True, no_antialias_up=True), CUT_FILE,
    ),
    "pix2pix": Contest(
        "pix2pix", partial(UnetGenerator, depth=8), partial(park, "unet_256", "batch", no_antialias=True), CUT_FILE
    ),
    "fast_style": Contest(
        "fast neural style", FastStyleGenerator, fast_style, "neural_style/transformer_net.py", paint=in_levels
    ),
}  # fmt: skip


def both_generators(contest: Contest, folder: Path) -> dict[str, nn.Module]:
    """The peer's with random weights, and ours with the same, imported from a file as the peer writes it.

    Weights that are 0 or 1 at the start are drawn as well, so that parity says something of each.
    """
    peer = contest.peer()
    with torch.no_grad():
        for weights in peer.parameters():
            if weights.dim() == 1:
                weights.add_(torch.randn_like(weights), alpha=0.1)
    file = folder / "generator.pth"
    torch.save(peer.state_dict(), file)
    ours = contest.ours()
    ours.load_state_dict(import_published(file).weights)
    return {"ours": ours.eval(), "peer": peer}  # in training mode: pix2pix has the statistics of its batch
