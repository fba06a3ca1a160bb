"""Both sides of each contest of training steps: our methods, and the loops of two PyTorch codes."""

import tempfile
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import lightning
import numpy as np
import torch
import torchvision
from alternating import Peer
from generators import stub
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from lit_ghibli.methods.animegan import AnimeGAN, grey
from lit_ghibli.methods.cartoongan import CartoonGAN
from lit_ghibli.networks.vgg import VggFeatures

RandomVgg = partial(VggFeatures, taps=("conv4_4",), weights="random")  # time does not depend on the weights


def our_animegan() -> lightning.LightningModule:
    """Ours after the initialisation, by its defaults, enlarging as the peer does."""
    from lit_ghibli.networks.animegan import AnimeGenerator

    return AnimeGAN(partial(AnimeGenerator, upsample="half_pixel"), vgg=RandomVgg, initialization_epochs=0)


def our_cartoongan() -> lightning.LightningModule:
    """Ours after the initialisation, with the paper's loss, at the full size, without a pool, as the peer has it."""
    return CartoonGAN(
        vgg=RandomVgg,
        adversarial="log",
        content_size=0,
        pool_size=0,
        epochs=100,
        initialization_epochs=0,
        initialization_decay_epochs=0,
    )


def randomized(vgg: nn.Module) -> nn.Module:
    """With random weights as ours: such that features keep their scale from layer to layer."""
    for layer in vgg.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return vgg


class PeerAnimeGAN:
    """``Trainer.train_epoch`` of pytorch-animeGAN on a single batch, with spectral norm and the weights of Hayao.

    Its VGG-19 has random weights and, like ours, ends at conv4_4. Pictures with soft edges, which it reads from files,
    are given; ours computes them.
    """

    def __init__(self, args: Namespace) -> None:
        stub("cv2", INTER_AREA=0)
        stub("color_transfer", color_transfer_pytorch=None)
        stub("numpy.lib.arraysetops", isin=np.isin)
        from models.anime_gan import Discriminator
        from models.anime_gan_v2 import GeneratorV2

        torchvision.models.vgg19 = lambda weights: SimpleNamespace(features=randomized(make_layers(cfgs["E"])))
        import trainer

        trainer.tqdm = partial(trainer.tqdm, disable=True)

        self.folder = tempfile.TemporaryDirectory()
        losses = {"wadvg": 300.0, "wadvd": 300.0, "wcon": 1.5, "wgra": 2.5, "wcol": 15.0, "wtvar": 1.0}
        run = {"exp_dir": self.folder.name, "device": args.device, "ddp": False, "amp": False, "local_rank": 0}
        options = {"lr_g": 2e-5, "lr_d": 4e-5, "gan_loss": "lsgan", "gray_adv": False, "d_noise": False}
        self.trainer = trainer.Trainer(
            GeneratorV2().to(args.device),
            Discriminator(num_layers=2, use_sn=True, norm_type="layer").to(args.device),
            Namespace(**losses, **run, **options),
            logger=None,
        )

    def step(self, photo: Tensor, anime: Tensor) -> None:
        """One training step of theirs."""
        batch = {"image": photo, "anime": anime, "anime_gray": grey(anime), "smooth_gray": grey(anime)}
        self.trainer.train_epoch(0, [batch])


class PeerCartoonGAN:
    """The networks of pytorch-CartoonGAN in its loop, written out, since it is a script: D, then G.

    As there, G's picture for D keeps its graph, and G paints once more for its own step. Its VGG-19 goes without the
    classifier, which is never used. Pictures with soft edges, which it reads from files, are given.
    """

    def __init__(self, args: Namespace) -> None:
        stub("utils", initialize_weights=lambda network: None)
        from networks import VGG19, discriminator, generator

        self.generator, self.discriminator = generator(3, 3, 64, 8).to(args.device), discriminator(3, 1).to(args.device)
        with torch.device("meta"):
            vgg = VGG19(feature_mode=True)
        del vgg.classifier
        self.vgg = randomized(vgg.to_empty(device=args.device)).eval()
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            for network in (self.generator, self.discriminator)
        )

    def step(self, photo: Tensor, anime: Tensor) -> None:
        """One training step of theirs."""
        self.optimizer_d.zero_grad()
        losses = [self.loss(shown, target) for shown, target in ((anime, 1), (self.generator(photo), 0), (anime, 0))]
        sum(losses).backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad()
        fake = self.generator(photo)
        gan = self.loss(fake, 1)
        content = F.l1_loss(self.vgg((fake + 1) / 2), self.vgg((photo + 1) / 2).detach())
        (gan + 10 * content).backward()
        self.optimizer_g.step()

    def loss(self, pictures: Tensor, target: int) -> Tensor:
        """How far D is from calling pictures real, 1, or not, 0."""
        judged = self.discriminator(pictures)
        return F.binary_cross_entropy(judged, torch.full_like(judged, target))


class Contest(NamedTuple):
    """Both sides of a training step."""

    title: str
    ours: Callable[[], lightning.LightningModule]
    peer: Callable[[Namespace], Peer]
    peer_file: str  # below --peer, in the repository that has it


TRAININGS = {
    "cartoongan": Contest("CartoonGAN", our_cartoongan, PeerCartoonGAN, "CartoonGAN.py"),
    "animegan": Contest("AnimeGANv2", our_animegan, PeerAnimeGAN, "trainer/__init__.py"),
}
