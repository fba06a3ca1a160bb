"""pix2pix: paired image-to-image translation with a conditional GAN.

Isola, Zhu, Zhou, Efros 2017, "Image-to-Image Translation with Conditional Adversarial Networks", arXiv:1611.07004.
x is the input, y its target, G a U-Net whose dropout is the noise z.

(1) gan  E_xy[log D(x, y)] + E_x[log(1 - D(x, G(x)))], maximised by D; G maximises E_x[log D(x, G(x))]   (section 3.3)
(2) l1   E_xy[|y - G(x)|_1]

Deviations: none from the paper. Normalisation uses the statistics of the image at hand also at test time, as in its
section 3.3; the noise is off there unless ``generator.test_dropout`` is set, so that results can be repeated.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.losses.adversarial import bce_discriminator_loss, bce_generator_loss
from lit_ghibli.methods.base import GanAdam, Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.training.running_mean import RunningMean
from lit_ghibli.training.updates import check_weights, early_steps, update, weighted_sum

ConditionalDiscriminator = partial(PatchDiscriminator, in_channels=6, norm="batch")


class Pix2Pix(Translation):
    """A U-Net and a discriminator of (input, picture) trained on pairs.

    Args:
        generator: Makes the generator.
        discriminator: Makes the discriminator, of six channels.
        optimizer_g: Makes the generator's optimiser from its parameters.
        optimizer_d: Makes the discriminator's optimiser from its parameters.
        weights: Weights of the terms ``gan`` and ``l1`` in the generator's objective.
        epochs: Length of the training that the schedule is made for.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        metrics: What held-out pairs are judged by.
    """

    extra_metrics = ("l1_gap",)
    batch_keys = ("input", "target")
    joinable = ("discriminator",)

    def __init__(
        self,
        generator: Callable[[], nn.Module] = UnetGenerator,
        discriminator: Callable[[], nn.Module] = ConditionalDiscriminator,
        optimizer_g: Callable[..., Optimizer] = GanAdam,
        optimizer_d: Callable[..., Optimizer] = GanAdam,
        weights: Mapping[str, float] | None = None,
        epochs: int = 200,
        decay_epochs: int = 100,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = generator(), discriminator()
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        weights = {"gan": 1.0, "l1": 100.0} if weights is None else weights
        self.weights = check_weights(weights, {"gan", "l1"})
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.metrics = metrics
        self.train_l1 = RunningMean()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """One update of the discriminator, then one of the generator."""
        x, y = batch["input"], batch["target"]
        optimizer_g, optimizer_d = self.optimizers()
        fake = self.generator(x)
        losses, terms = {}, {}

        if self.weights["gan"]:
            with update(self, optimizer_d):
                pairs = (torch.cat([x, picture], dim=1) for picture in (y, fake.detach()))
                losses["discriminator"] = bce_discriminator_loss(*self.passes(self.discriminator, *pairs))
                self.manual_backward(losses["discriminator"])
                optimizer_d.step()

        with update(self, optimizer_g), early_steps(self, optimizer_g):
            if self.weights["gan"]:
                terms["gan"] = bce_generator_loss(self.discriminator(torch.cat([x, fake], dim=1)))
            if self.weights["l1"]:
                terms["l1"] = F.l1_loss(fake, y)
                self.train_l1.update(terms["l1"] / 2, weight=len(x))  # in [0, 1], as metrics are
            self.manual_backward(weighted_sum(terms, self.weights))
            optimizer_g.step()

        return self.report({**terms, **losses})

    def on_train_epoch_start(self) -> None:
        self.train_l1.reset()

    def validation_metrics(self) -> dict[str, float]:
        """Add ``l1_gap``, by how much the held-out L1 exceeds this epoch's training L1: it grows with overfitting."""
        values = super().validation_metrics()
        train_l1 = self.train_l1.compute(self.device)
        if "l1" in values and train_l1 is not None:
            values["l1_gap"] = values["l1"] - train_l1
        return values

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        return self.gan_optimizers([self.generator], [self.discriminator])

    def translator(self) -> nn.Module:
        return self.generator
