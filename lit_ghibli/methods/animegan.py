"""AnimeGANv2: a light generator that keeps a photograph's content and colors, and takes a style's textures from grey.

Chen, Liu, Chen 2019, "AnimeGAN: A Novel Lightweight GAN for Photo Animation", and version 2, which has code and a
project page but no paper. x is a photograph, y an anime picture, g(.) makes a picture grey, e(.) its edges soft; G is
the generator, D the discriminator; V(.) are the features of VGG-19's conv4_4 before its ReLU, brought to the scale that
the weights are made for (``lit_ghibli.networks.feature_scale``); means are over all elements.

(1) gan      E_x[(D(G(x)) - 1)^2]
(2) content  E_x[|V(G(x)) - V(x)|_1]
(3) style    E_xy[|Gram(V(G(x))) - Gram(V(g(y)))|_1], Gram matrices over the number of features; G(x) keeps its colors
(4) color    E_x[|Y(G(x)) - Y(x)|_1 + H(U(G(x)) - U(x)) + H(V(G(x)) - V(x))] of YUV, H(d) = d^2 / 2 up to |d| = 1
(5) tv       half the squared total variation of G(x)

D minimises a weighted sum: neither an output, nor what has no color, nor what has soft edges besides is anime.
(6) anime    E_y[(D(y) - 1)^2]
(7) fake     E_x[D(G(x))^2]
(8) grey     E_y[D(g(y))^2]
(9) smooth   E_y[D(g(e(y)))^2]

In the first epochs, the initialisation, G learns (2) alone, by an optimiser of its own, and D rests.

Deviations from the authors' code: e(y) is computed from the very pictures y of a step, where they draw others; the
sum of (6) to (9) has no factor of 300, which Adam takes back. That its terms are backpropagated one by one changes no
gradient.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.images import luminance
from lit_ghibli.losses.adversarial import lsgan_generator_loss
from lit_ghibli.losses.style import gram_matrix
from lit_ghibli.losses.variation import total_variation
from lit_ghibli.methods.base import GanAdam, Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.animegan import AnimeGenerator
from lit_ghibli.networks.cartoon_discriminator import CartoonDiscriminator
from lit_ghibli.networks.feature_scale import FeatureScale
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.training.edge_smoothing import smooth_edges
from lit_ghibli.training.schedules import check_initialization, linear_decay
from lit_ghibli.training.updates import check_weights, update, weighted_sum

SpectralDiscriminator = partial(CartoonDiscriminator, norm="layer", bias=False, spectral_norm=True)
GeneratorAdam, DiscriminatorAdam = partial(GanAdam, lr=2e-5), partial(GanAdam, lr=4e-5)
Conv4_4 = partial(VggFeatures, taps=("conv4_4",))
WEIGHTS = {"gan": 300.0, "content": 1.5, "style": 2.5, "color": 15.0, "tv": 1.0}
DISCRIMINATOR_WEIGHTS = {"anime": 1.2, "fake": 1.2, "grey": 1.2, "smooth": 0.8}
YUV = ((0.299, 0.587, 0.114), (-0.14714119, -0.28886916, 0.43601035), (0.61497538, -0.51496512, -0.10001026))


class AnimeGAN(Translation):
    """A light generator trained on unpaired pictures; the defaults are those of the style Hayao.

    Args:
        generator: Makes the generator.
        discriminator: Makes the discriminator of anime pictures.
        vgg: Makes the network of (2) and (3), whose deepest tap is compared; only for a training with these weights.
        feature_scale: Makes what brings its features to the scale that the weights are made for.
        optimizer_g: Makes the generator's optimiser from its parameters.
        optimizer_d: Makes the discriminator's optimiser from its parameters.
        optimizer_initialization: Makes the generator's optimiser of the initialisation.
        weights: Weights of (1) to (5) by name.
        discriminator_weights: Weights of (6) to (9) by name.
        epochs: Length of the training, initialisation included.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        initialization_epochs: How many of these, the first, are the initialisation.
        metrics: What held-out photographs are judged by.

    Raises:
        UserError: Settings that fit no configuration.
    """

    batch_keys = ("photo", "anime")

    def __init__(
        self,
        generator: Callable[[], nn.Module] = AnimeGenerator,
        discriminator: Callable[[], nn.Module] = SpectralDiscriminator,
        vgg: Callable[[], nn.Module] = Conv4_4,
        feature_scale: Callable[[], FeatureScale] = FeatureScale,
        optimizer_g: Callable[..., Optimizer] = GeneratorAdam,
        optimizer_d: Callable[..., Optimizer] = DiscriminatorAdam,
        optimizer_initialization: Callable[..., Optimizer] = GanAdam,
        weights: Mapping[str, float] | None = None,
        discriminator_weights: Mapping[str, float] | None = None,
        epochs: int = 101,
        decay_epochs: int = 0,
        initialization_epochs: int = 10,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weights = check_weights(WEIGHTS if weights is None else weights, set(WEIGHTS))
        given = DISCRIMINATOR_WEIGHTS if discriminator_weights is None else discriminator_weights
        self.discriminator_weights = check_weights(given, set(DISCRIMINATOR_WEIGHTS), "method.discriminator_weights")
        check_initialization(initialization_epochs, epochs, decay_epochs, {"content": self.weights["content"]})
        self.generator, self.discriminator = generator(), discriminator()
        self.make_vgg, self.vgg, self.feature_scale = vgg, None, feature_scale()
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.optimizer_initialization = optimizer_initialization
        self.epochs, self.decay_epochs, self.initialization_epochs = epochs, decay_epochs, initialization_epochs
        self.metrics = metrics

    def setup(self, stage: str) -> None:
        """Load the network of features where a training needs it; translating never does."""
        super().setup(stage)
        if stage == "fit" and (self.weights["content"] or self.weights["style"]):
            self.vgg = self.make_vgg().to(self.device)

    def on_train_start(self) -> None:
        """Measure the scale of the features, in a run that is not resumed."""
        super().on_train_start()
        if self.vgg is not None:
            photographs = self.trainer.datamodule.training_crops("photo", self.feature_scale.photographs)
            self.feature_scale.measure(self.vgg, photographs)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """In the initialisation an update of G by (2); afterwards one of D, then one of G by (1) to (5)."""
        x, y = batch["photo"], batch["anime"]
        optimizer_g, optimizer_d, optimizer_initialization = self.optimizers()
        initializing = self.iteration < self.initialization_steps
        optimizer = optimizer_initialization if initializing else optimizer_g
        weights = {"content": self.weights["content"]} if initializing else self.weights
        used = {name for name, weight in weights.items() if weight}
        losses, terms = {}, {}
        with torch.no_grad():  # before G's own memory is needed
            content = self.features(x) if "content" in used else None
            style = gram_matrix(self.features(grey(y)), normalize=True) if "style" in used else None

        with update(self, optimizer):
            fake = self.generator(x)
            if "gan" in used:
                with update(self, optimizer_d):
                    losses = self.backward_from(y, fake.detach())
                    optimizer_d.step()
                terms["gan"] = lsgan_generator_loss(self.discriminator(fake))
            if used & {"content", "style"}:
                features = self.features(fake)
                if "content" in used:
                    terms["content"] = F.l1_loss(features, content)
                if "style" in used:
                    terms["style"] = F.l1_loss(gram_matrix(features, normalize=True), style)
            if "color" in used:
                terms["color"] = color_loss(fake, x)
            if "tv" in used:
                terms["tv"] = total_variation(fake) / 2
            self.manual_backward(weighted_sum(terms, weights))
            optimizer.step()

        # Of the initialisation no pictures, since its outputs should equal their photographs.
        return self.report(terms | losses, **({} if initializing else {"input": x, "output": fake.detach()}))

    def backward_from(self, y: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Backpropagate those of (6) to (9) that have a weight, one by one, and return them and their weighted sum."""
        pictures = {"anime": y, "fake": fake, "grey": grey(y)}
        if self.discriminator_weights["smooth"]:
            pictures["smooth"] = grey(smooth_edges(y))
        terms = {}
        for name, shown in pictures.items():
            if self.discriminator_weights[name]:
                logits = self.discriminator(shown)
                term = F.mse_loss(logits, torch.full_like(logits, float(name == "anime")))
                self.manual_backward(weighted_sum({name: term}, self.discriminator_weights))
                terms[name] = term.detach()
        return {**terms, "discriminator": weighted_sum(terms, self.discriminator_weights)}

    def features(self, pictures: Tensor) -> Tensor:
        """V(.) of pictures."""
        return self.feature_scale(self.vgg(pictures)[self.vgg.taps[-1]])

    def on_train_epoch_end(self) -> None:
        """Advance the schedules, which are of what follows the initialisation."""
        if self.current_epoch >= self.initialization_epochs:
            super().on_train_epoch_end()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        of_g = list(self.generator.parameters())
        optimizers = [
            self.optimizer_g(of_g),
            self.optimizer_d(self.discriminator.parameters()),
            self.optimizer_initialization(of_g),
        ]
        rest = {"epochs": self.epochs - self.initialization_epochs, "decay_epochs": self.decay_epochs}
        return optimizers, [linear_decay(optimizer, **rest) for optimizer in optimizers[:2]]

    def translator(self) -> nn.Module:
        return self.generator


def grey(pictures: Tensor) -> Tensor:
    """g(.): the luminance of ``(N, 3, H, W)`` in all three channels, in the same range."""
    return luminance(pictures).expand_as(pictures)


def color_loss(output: Tensor, photo: Tensor) -> Tensor:
    """Equation (4): how far brightness and, up to a square, color of an output are from its photograph's.

    In float32 at least.

    Args:
        output: ``(N, 3, H, W)`` in ``[-1, 1]``.
        photo: Likewise.

    Returns:
        A scalar in ``[0, inf)``; the means are over all pixels.
    """
    with torch.autocast(output.device.type, enabled=False):
        difference = (output.to(torch.promote_types(output.dtype, torch.float32)) - photo) / 2  # of [0, 1]
        y, u, v = (sum(difference[:, channel] * row[channel] for channel in range(3)) for row in YUV)
        return y.abs().mean() + sum(F.huber_loss(each, torch.zeros_like(each)) for each in (u, v))
