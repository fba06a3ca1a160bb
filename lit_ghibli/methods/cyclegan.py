"""CycleGAN: unpaired image-to-image translation.

Zhu, Park, Isola, Efros 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
arXiv:1703.10593. Domain A holds photographs, domain B anime pictures; G = ``generator_ab``, F = ``generator_ba``.

(1) gan       E_b[(D_B(b) - 1)^2] + E_a[D_B(G(a))^2] for D_B, E_a[(D_B(G(a)) - 1)^2] for G; likewise for F, D_A
(2) cycle     E_a[|F(G(a)) - a|_1] + E_b[|G(F(b)) - b|_1]
(3) identity  E_b[|G(b) - b|_1] + E_a[|F(a) - a|_1]                                    (section 5.2)

Deviations from the authors' code, none of which changes a gradient: a half-cycle is backpropagated as soon as it is
computed, since (1)-(3) are sums over independent graphs, so that one half-cycle is alive in memory instead of six
generator passes; the weight of (3) is absolute (5, not 0.5 times the weight of (2)).

One deviation does, an option that the recipe leaves off: a head start of the discriminators, who learn alone at first.
Generators that start from the photograph settle there, held by (2), if the discriminators cannot tell anything yet.

What the recipe's document names as further work are options, too, all of them off: attention in the generators
(``generator.attention``), spectral norm (``discriminator.spectral_norm``) and a gradient penalty of the discriminators
(``r1``, Mescheder et al. 2018), and a perceptual term beside (2) (Engin et al. 2018, Cycle-Dehaze, Eq. 3):

(4) perceptual  mean square difference of VGG-19's features of F(G(a)) and of a, and of G(F(b)) and of b
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.errors import UserError
from lit_ghibli.losses.adversarial import lsgan_discriminator_loss, lsgan_generator_loss, r1_penalty
from lit_ghibli.losses.perceptual import content_loss
from lit_ghibli.methods.base import GanAdam, Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.sizes import translate
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.training.image_pool import ImagePool
from lit_ghibli.training.updates import check_weights, update, weighted_sum

SixBlocks = partial(ResnetGenerator, num_blocks=6)
Relu3_4 = partial(VggFeatures, taps=("relu3_4",))


class CycleGAN(Translation):
    """Two generators and two discriminators trained on unpaired photographs and anime pictures.

    Args:
        generator: Makes one generator; called twice.
        discriminator: Makes one discriminator; called twice.
        optimizer_g: Makes the optimiser of both generators from their parameters.
        optimizer_d: Makes the optimiser of both discriminators from their parameters.
        weights: Weights of the terms ``gan``, ``cycle``, ``identity`` and, unless it is left out, ``perceptual`` in the
            generators' objective.
        pool_size: Generated images remembered for each discriminator; 0 for none.
        epochs: Length of the training that the schedule is made for.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        head_start: Iterations, the first, in which the discriminators learn alone.
        r1: Weight of each discriminator's penalty of gradients at real images; 0 for none.
        vgg: Makes the network of (4), whose first tap is compared; only for a training with that weight.
        metrics: What held-out photographs are judged by.
    """

    batch_keys = ("photo", "anime")
    joinable = ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")

    def __init__(
        self,
        generator: Callable[[], nn.Module] = SixBlocks,
        discriminator: Callable[[], nn.Module] = PatchDiscriminator,
        optimizer_g: Callable[..., Optimizer] = GanAdam,
        optimizer_d: Callable[..., Optimizer] = GanAdam,
        weights: Mapping[str, float] | None = None,
        pool_size: int = 50,
        epochs: int = 50,
        decay_epochs: int = 0,
        head_start: int = 0,
        r1: float = 0.0,
        vgg: Callable[[], nn.Module] = Relu3_4,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator_ab, self.generator_ba = generator(), generator()
        self.discriminator_a, self.discriminator_b = discriminator(), discriminator()
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        weights = {"gan": 1.0, "cycle": 10.0, "identity": 5.0} if weights is None else weights
        self.weights = check_weights({"perceptual": 0.0, **weights}, {"gan", "cycle", "identity", "perceptual"})
        self.pool_a, self.pool_b = ImagePool(pool_size), ImagePool(pool_size)
        self.epochs, self.decay_epochs = epochs, decay_epochs
        if head_start < 0:
            raise UserError(f"method.head_start must be 0 iterations or more; got {head_start}")
        if r1 < 0:
            raise UserError(f"method.r1 must be 0 or more; got {r1}")
        self.head_start, self.r1 = head_start, r1
        self.make_vgg, self.vgg = vgg, None
        self.metrics = metrics

    def setup(self, stage: str) -> None:
        """Load the network of features where a training needs it; translating never does."""
        super().setup(stage)
        if stage == "fit" and self.weights["perceptual"]:
            self.vgg = self.make_vgg().to(self.device)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """One update of both generators, unless the discriminators have their head start, then one of these."""
        real_a, real_b = batch["photo"], batch["anime"]
        optimizer_g, optimizer_d = self.optimizers()
        losses = {}

        if self.iteration < self.head_start:
            with torch.no_grad():
                fake_b, fake_a = self.generator_ab(real_a), self.generator_ba(real_b)
            pictures = {}
        else:
            with update(self, optimizer_g):
                fake_b, terms_a = self.backward_from(real_a, self.generator_ab, self.generator_ba, self.discriminator_b)
                fake_a, terms_b = self.backward_from(real_b, self.generator_ba, self.generator_ab, self.discriminator_a)
                optimizer_g.step()
            losses |= {name: terms_a[name] + terms_b[name] for name in terms_a}
            pictures = {"input": real_a, "output": fake_b}

        with update(self, optimizer_d):
            loss_b = self.discriminator_loss(self.discriminator_b, real_b, self.pool_b.query(fake_b))
            self.manual_backward(loss_b)
            loss_a = self.discriminator_loss(self.discriminator_a, real_a, self.pool_a.query(fake_a))
            self.manual_backward(loss_a)
            optimizer_d.step()

        losses |= {"discriminator_a": loss_a, "discriminator_b": loss_b}
        return self.report(losses, **pictures)

    def backward_from(
        self, real: Tensor, forth: nn.Module, back: nn.Module, discriminator: nn.Module
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Backpropagate all that the generators owe to ``real``: its half of (1), (2), (3), (4).

        Returns:
            The translation of ``real`` and the unweighted terms that have a weight, all detached.
        """
        fake = forth(real)
        terms = {}
        if self.weights["gan"]:
            terms["gan"] = lsgan_generator_loss(discriminator(fake))
        if self.weights["cycle"] or self.weights["perceptual"]:
            if self.joining and self.weights["identity"]:
                reconstructed, same = self.passes(back, fake, real)
                terms["identity"] = F.l1_loss(same, real)
            else:
                reconstructed = back(fake)
        if self.weights["cycle"]:
            terms["cycle"] = F.l1_loss(reconstructed, real)
        if self.weights["perceptual"]:
            with torch.no_grad():
                expected = self.vgg(real)[self.vgg.taps[0]]
            terms["perceptual"] = content_loss(self.vgg(reconstructed)[self.vgg.taps[0]], expected)
        if terms:
            self.manual_backward(weighted_sum(terms, self.weights))
        if self.weights["identity"] and "identity" not in terms:
            terms["identity"] = F.l1_loss(back(real), real)
            self.manual_backward(weighted_sum({"identity": terms["identity"]}, self.weights))
        return fake.detach(), {name: term.detach() for name, term in terms.items()}

    def discriminator_loss(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Equation (1) for one discriminator, and its penalty; ``fake`` is detached and may come from the pool."""
        if not self.r1:
            return lsgan_discriminator_loss(*self.passes(discriminator, real, fake))
        real = real.detach().requires_grad_()
        judged = discriminator(real)
        return lsgan_discriminator_loss(judged, discriminator(fake)) + self.r1 * r1_penalty(judged, real)

    @property
    def levels(self) -> list[tuple[str, int]]:
        """The head start and the rest of the training, if there is one."""
        if not self.head_start:
            return []
        total = self.trainer.num_training_batches * self.trainer.max_epochs
        return [("discriminators alone", self.head_start), ("all networks", total - self.head_start)]

    def on_train_start(self) -> None:
        """Refuse a head start that leaves nothing of the training.

        Raises:
            UserError: The generators would never learn.
        """
        super().on_train_start()
        total = self.trainer.num_training_batches * self.trainer.max_epochs
        if self.head_start and self.head_start >= total:
            raise UserError(
                f"method.head_start = {self.head_start} iterations, but the whole training has {total}: the "
                "generators would never learn; lower it or raise method.epochs"
            )

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        return self.gan_optimizers([self.generator_ab, self.generator_ba], [self.discriminator_a, self.discriminator_b])

    def translator(self) -> nn.Module:
        return self.generator_ab

    def reverse_translator(self) -> nn.Module:
        """F, which turns a picture into a photograph."""
        return self.generator_ba

    def picture_columns(self, input: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """The triptych: real, generated, reconstructed."""
        generated = translate(self.generator_ab, input)
        return {"real": input, "generated": generated, "reconstructed": translate(self.generator_ba, generated)}
