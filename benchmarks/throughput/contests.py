"""Both sides of each contest: our generators and methods, and the authors' code behind one function each."""

import argparse
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import lightning
import torch
from torch import Tensor, nn


def images(size: int, device: str) -> Tensor:
    """One random picture ``(1, 3, size, size)`` in ``[-1, 1]``."""
    return torch.rand(1, 3, size, size, device=device) * 2 - 1


def our_generator(blocks: int, args: argparse.Namespace) -> nn.Module:
    """Our ResNet generator; its time does not depend on its weights."""
    from lit_ghibli.networks.resnet import ResnetGenerator

    generator = ResnetGenerator(num_blocks=blocks).to(args.device).eval()
    if args.compile:
        generator.compile()
    return generator


def peer_generator(blocks: int, args: argparse.Namespace) -> nn.Module:
    """The authors' generator, without their later antialiasing."""
    from models.networks import define_G

    generator = define_G(
        3, 3, 64, f"resnet_{blocks}blocks", "instance", no_antialias=True, no_antialias_up=True, gpu_ids=[]
    )
    return generator.to(args.device).eval()


class PeerCycleGAN:
    """The authors' CycleGAN with the options of the recipe."""

    def __init__(self, args: argparse.Namespace) -> None:
        from models.cycle_gan_model import CycleGANModel

        shape = dict(input_nc=3, output_nc=3, ngf=64, ndf=64, netG="resnet_6blocks", netD="basic", n_layers_D=3)
        norm = dict(normG="instance", normD="instance", no_dropout=True, no_antialias=True, no_antialias_up=True)
        losses = dict(gan_mode="lsgan", lambda_A=10.0, lambda_B=10.0, lambda_identity=0.5, pool_size=50)
        training = dict(isTrain=True, lr=2e-4, beta1=0.5, init_type="normal", init_gain=0.02, amp=False)
        run = dict(checkpoints_dir="", name="", preprocess="crop", direction="AtoB")
        gpu_ids = [0] if args.device == "cuda" else []
        self.model = CycleGANModel(SimpleNamespace(**shape, **norm, **losses, **training, **run, gpu_ids=gpu_ids))

    def step(self, real_a: Tensor, real_b: Tensor) -> None:
        """One training step of theirs."""
        self.model.set_input({"A": real_a, "B": real_b, "A_paths": [], "B_paths": []})
        self.model.optimize_parameters()


class PeerPix2Pix:
    """The authors' networks and loss in the order of their pix2pix: D, then G, gradients zeroed before each."""

    def __init__(self, args: argparse.Namespace) -> None:
        from models.networks import GANLoss, define_D, define_G

        self.device = args.device
        generator = define_G(3, 3, 64, "unet_256", "batch", use_dropout=True, no_antialias=True, gpu_ids=[])
        discriminator = define_D(6, 64, "basic", 3, "batch", no_antialias=True, gpu_ids=[])
        self.generator, self.discriminator = generator.to(args.device), discriminator.to(args.device)
        self.gan_loss = GANLoss("vanilla").to(args.device)
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            for network in (self.generator, self.discriminator)
        )

    def step(self, real_a: Tensor, real_b: Tensor) -> None:
        """One training step."""
        self.real_a, self.real_b = real_a.to(self.device), real_b.to(self.device)
        self.fake_b = self.generator(self.real_a)
        self.discriminator.requires_grad_(True)
        self.optimizer_d.zero_grad()
        logits_fake = self.discriminator(torch.cat((self.real_a, self.fake_b), 1).detach())
        logits_real = self.discriminator(torch.cat((self.real_a, self.real_b), 1))
        ((self.gan_loss(logits_fake, False) + self.gan_loss(logits_real, True)) * 0.5).backward()
        self.optimizer_d.step()
        self.discriminator.requires_grad_(False)
        self.optimizer_g.zero_grad()
        gan = self.gan_loss(self.discriminator(torch.cat((self.real_a, self.fake_b), 1)), True)
        (gan + 100.0 * nn.functional.l1_loss(self.fake_b, self.real_b)).backward()
        self.optimizer_g.step()


class PeerScenimefy:
    """Scenimefy's semi-supervised loop with the options of its README, without VGG and without antialiasing."""

    def __init__(self, args: argparse.Namespace) -> None:
        sys.modules.setdefault("matplotlib", ModuleType("matplotlib"))  # imported there, never used
        sys.modules.setdefault("matplotlib.pyplot", ModuleType("matplotlib.pyplot"))
        from models.semi_cut_model import SEMICUTModel

        shape = dict(input_nc=3, output_nc=3, ngf=64, ndf=64, netG="resnet_9blocks", netD="basic", n_layers_D=3)
        norm = dict(normG="instance", normD="instance", no_dropout=True, no_antialias=True, no_antialias_up=True)
        heads = dict(netF="mlp_sample", netF_nc=256, num_patches=256, nce_layers="0,4,8,12,16", nce_T=0.07, alpha=0.2)
        losses = dict(gan_mode="lsgan", lambda_GAN=1.0, lambda_GAN_p=1.0, lambda_HDCE=0.1, lambda_SRC=0.05,
                      lambda_NCE_s=0.1, lambda_VGG=-1.0, dce_idt=True, no_Hneg=False, flip_equivariance=False,
                      HDCE_gamma=50, HDCE_gamma_min=10, use_curriculum=True, step_gamma=False, step_gamma_epoch=200,
                      isDecay=False, nce_includes_all_negatives_from_minibatch=False)  # fmt: skip
        training = dict(isTrain=True, lr=2e-4, beta1=0.5, beta2=0.999, init_type="xavier", init_gain=0.02,
                        batch_size=1, n_epochs=10, n_epochs_decay=10)  # fmt: skip
        run = dict(checkpoints_dir="", name="", preprocess="crop", direction="AtoB", verbose=False)
        gpu_ids = [0] if args.device == "cuda" else []
        options = SimpleNamespace(**shape, **norm, **heads, **losses, **training, **run, gpu_ids=gpu_ids)
        self.model = SEMICUTModel(options)
        self.model.set_epoch(1)
        self.started = False

    def step(self, pair_a: Tensor, pair_b: Tensor, photo: Tensor, anime: Tensor) -> None:
        """One training step of theirs; before the first one their loop makes the heads."""
        unpaired = {"A": photo, "B": anime, "A_paths": [], "B_paths": []}
        paired = {"A": pair_a, "B": pair_b, "path": []}
        if not self.started:
            self.model.data_dependent_initialize(unpaired, paired)
            self.started = True
        self.model.set_input(unpaired, paired)
        self.model.optimize_parameters()


def our_cyclegan() -> lightning.LightningModule:
    """Ours, by its defaults."""
    from lit_ghibli.methods.cyclegan import CycleGAN

    return CycleGAN()


def our_pix2pix() -> lightning.LightningModule:
    """Ours, by its defaults."""
    from lit_ghibli.methods.pix2pix import Pix2Pix

    return Pix2Pix()


def our_nijigan(generator: Callable[[], nn.Module] | None = None) -> lightning.LightningModule:
    """Ours with all branches at work from the first step, without VGG."""
    from lit_ghibli.methods.nijigan import WEIGHTS, NijiGAN

    others = {} if generator is None else {"generator": generator}
    constant = {"name": "constant", "unit": "epoch", "warm_up_epochs": 0}
    return NijiGAN(weights={**WEIGHTS, "vgg": 0.0}, schedule=constant, **others)


def our_scenimefy() -> lightning.LightningModule:
    """Ours with nine residual blocks."""
    from lit_ghibli.networks.resnet import ResnetGenerator

    return our_nijigan(ResnetGenerator)


class Contest(NamedTuple):
    """Both sides of a method."""

    title: str
    ours: Callable[[], lightning.LightningModule]
    peer: Callable[[argparse.Namespace], object]
    keys: tuple[str, ...]  # of our batches, in the order of the peer's step
    peer_file: str  # below --peer, in the repository that has this method


CUT_FILE, SCENIMEFY_FILE = "models/cycle_gan_model.py", "models/semi_cut_model.py"
UNPAIRED, PAIRED = ("photo", "anime"), ("input", "target")
SEMI_SUPERVISED = ("pair_a", "pair_b", "photo", "anime")
METHODS = {
    "cyclegan": Contest("CycleGAN, 6 blocks", our_cyclegan, PeerCycleGAN, UNPAIRED, CUT_FILE),
    "pix2pix": Contest("pix2pix, U-Net-256", our_pix2pix, PeerPix2Pix, PAIRED, CUT_FILE),
    "nijigan": Contest("NijiGAN, 4 ODE blocks", our_nijigan, PeerScenimefy, SEMI_SUPERVISED, SCENIMEFY_FILE),
    "scenimefy": Contest("Scenimefy, 9 blocks", our_scenimefy, PeerScenimefy, SEMI_SUPERVISED, SCENIMEFY_FILE),
}
