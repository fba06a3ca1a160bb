"""CartoonGAN: unpaired translation with a discriminator that is to notice soft edges.

Chen, Lai, Liu 2018, "CartoonGAN: Generative Adversarial Networks for Photo Cartoonization", CVPR. x is a photograph, y
an anime picture, e(y) the same with soft edges, G the generator, D the discriminator. V(.) are the features of VGG-19's
conv4_4 before its ReLU, brought to the scale that the weight of (2) is made for; see
``lit_ghibli.networks.feature_scale``.

(1) gan      E_y[(D(y) - 1)^2] + E_y[D(e(y))^2] + E_x[D(G(x))^2] for D, E_x[(D(G(x)) - 1)^2] for G     (authors' code);
             with ``adversarial='log'`` E_y[log D(y)] + E_y[log(1 - D(e(y)))] + E_x[log(1 - D(G(x)))], which D
             maximises, and E_x[log D(G(x))] for G                                                  (paper, Eq. 3)
(2) content  E_x[|V(G(x)) - V(x)|_1], the mean over all features                                   (paper, Eq. 4)

In the first epochs, the initialisation, G learns (2) alone, at a rate of its own, and D rests           (section 3.3)

Deviations from the authors' code: e(y) is computed from the very pictures y of a step, where they draw others; G is
told what D says of G(x) after D's update, where they reuse D's pass over pictures of the pool; biases of convolutions
learn, where they set them to 0 before each step. That each term of (1) for D is backpropagated by itself changes no
gradient.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.errors import UserError
from lit_ghibli.methods.base import GanAdam, Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.cartoon_discriminator import CartoonDiscriminator
from lit_ghibli.networks.cartoongan import CartoonGenerator
from lit_ghibli.networks.feature_scale import FeatureScale
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.training.edge_smoothing import smooth_edges
from lit_ghibli.training.image_pool import ImagePool
from lit_ghibli.training.schedules import check_initialization, initialization_then_linear, linear_decay
from lit_ghibli.training.updates import check_weights, collected, detached, update, weighted_sum

SlowAdam = partial(GanAdam, lr=1e-5)
Conv4_4 = partial(VggFeatures, taps=("conv4_4",))
COMPARE = {"lsgan": F.mse_loss, "log": F.binary_cross_entropy_with_logits}


class CartoonGAN(Translation):
    """A generator trained on unpaired pictures, to keep what VGG-19 sees and to draw clear edges.

    Args:
        generator: Makes the generator.
        discriminator: Makes the discriminator of anime pictures.
        vgg: Makes the network of (2), whose deepest tap is compared; only for a training with that weight.
        feature_scale: Makes what brings its features to the scale that the weight is made for.
        optimizer_g: Makes the generator's optimiser from its parameters.
        optimizer_d: Makes the discriminator's optimiser from its parameters.
        weights: Weights of the terms ``gan`` and ``content`` in the generator's objective.
        adversarial: ``lsgan`` or ``log``.
        smooth_edges: Show D pictures with soft edges as well; without, (1) is that of any GAN.
        content_size: Pixels to which pictures are squeezed for (2), both sides; 0 for as they are.
        pool_size: Generated images remembered for the discriminator; 0 for none.
        epochs: Length of the training that the schedule is made for, initialisation included.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        initialization_epochs: How many of these, the first, are the initialisation.
        initialization_decay_epochs: How many of those, at their end, decay its learning rate linearly.
        initialization_lr: Learning rate of the initialisation.
        metrics: What held-out photographs are judged by.

    Raises:
        UserError: Settings that fit no configuration.
    """

    batch_keys = ("photo", "anime")

    def __init__(
        self,
        generator: Callable[[], nn.Module] = CartoonGenerator,
        discriminator: Callable[[], nn.Module] = CartoonDiscriminator,
        vgg: Callable[[], nn.Module] = Conv4_4,
        feature_scale: Callable[[], FeatureScale] = FeatureScale,
        optimizer_g: Callable[..., Optimizer] = SlowAdam,
        optimizer_d: Callable[..., Optimizer] = SlowAdam,
        weights: Mapping[str, float] | None = None,
        adversarial: Literal["lsgan", "log"] = "lsgan",
        smooth_edges: bool = True,
        content_size: int = 224,
        pool_size: int = 50,
        epochs: int = 220,
        decay_epochs: int = 100,
        initialization_epochs: int = 20,
        initialization_decay_epochs: int = 10,
        initialization_lr: float = 2e-4,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weights = check_weights({"gan": 1.0, "content": 10.0} if weights is None else weights, {"gan", "content"})
        if adversarial not in COMPARE:
            raise UserError(f"method.adversarial is {adversarial!r}; it must be one of {', '.join(COMPARE)}")
        check_initialization(initialization_epochs, epochs, decay_epochs, {"content": self.weights["content"]})
        self.generator, self.discriminator = generator(), discriminator()
        self.make_vgg, self.vgg, self.feature_scale = vgg, None, feature_scale()
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.adversarial, self.smooth_edges, self.content_size = adversarial, smooth_edges, content_size
        self.pool = ImagePool(pool_size)
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.initialization_epochs = initialization_epochs
        self.initialization_decay_epochs = initialization_decay_epochs
        self.initialization_lr = initialization_lr
        self.metrics = metrics

    def setup(self, stage: str) -> None:
        """Load the network of features where a training needs it; translating never does."""
        super().setup(stage)
        if stage == "fit" and self.weights["content"]:
            self.vgg = self.make_vgg().to(self.device)

    def on_train_start(self) -> None:
        """Measure the scale of the features, in a run that is not resumed."""
        super().on_train_start()
        if self.vgg is not None:
            photographs = self.trainer.datamodule.training_crops("photo", self.feature_scale.photographs)
            self.feature_scale.measure(self.vgg, map(self.squeezed, photographs))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """In the initialisation an update of G by (2); afterwards one of D, then one of G by (1) and (2)."""
        x, y = batch["photo"], batch["anime"]
        optimizer_g, optimizer_d = self.optimizers()
        initializing = self.iteration < self.initialization_steps
        losses, terms = {}, {}
        with torch.no_grad():  # before G's own memory is needed
            content = self.features(x) if self.weights["content"] else None

        with update(self, optimizer_g):
            fake = self.generator(x)
            shown = detached(fake)  # so that D's memory is free again before VGG's is needed, and that before G's
            if self.weights["gan"] and not initializing:
                with update(self, optimizer_d):
                    losses["discriminator"] = self.backward_from(y, self.pool.query(fake))
                    optimizer_d.step()
                terms["gan"] = self.towards(self.discriminator(*shown), 1.0)
                self.manual_backward(weighted_sum({"gan": terms["gan"]}, self.weights))
            if self.weights["content"]:
                terms["content"] = F.l1_loss(self.features(*shown), content)
                self.manual_backward(weighted_sum({"content": terms["content"]}, self.weights))
            self.manual_backward(collected(self, [fake], shown))
            optimizer_g.step()

        # Of the initialisation no pictures, since its outputs should equal their photographs.
        return self.report(terms | losses, **({} if initializing else {"input": x, "output": fake.detach()}))

    def backward_from(self, y: Tensor, fake: Tensor) -> Tensor:
        """Backpropagate (1) for D, term by term, and return it; ``fake`` is detached and may come from the pool."""
        pictures = [(y, 1.0), (fake, 0.0)] + ([(smooth_edges(y), 0.0)] if self.smooth_edges else [])
        total = torch.zeros((), device=y.device)
        for shown, target in pictures:
            loss = self.towards(self.discriminator(shown), target)
            self.manual_backward(loss)
            total = total + loss.detach()
        return total

    def towards(self, logits: Tensor, target: float) -> Tensor:
        """How far D's logits are from 1, for real, or 0, for not."""
        return COMPARE[self.adversarial](logits, torch.full_like(logits, target))

    def features(self, pictures: Tensor) -> Tensor:
        """V(.) of pictures."""
        return self.feature_scale(self.vgg(self.squeezed(pictures))[self.vgg.taps[-1]])

    def squeezed(self, pictures: Tensor) -> Tensor:
        """Pictures in the size in which VGG-19 looks at them."""
        if not self.content_size:
            return pictures
        size = (self.content_size, self.content_size)  # corners on corners, as Torch7's bilinear layer has them
        return F.interpolate(pictures, size, mode="bilinear", align_corners=True)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        optimizer_g = self.optimizer_g(self.generator.parameters())
        optimizer_d = self.optimizer_d(self.discriminator.parameters())
        lengths = {"epochs": self.epochs, "decay_epochs": self.decay_epochs}
        schedule_g = initialization_then_linear(
            optimizer_g,
            **lengths,
            initialization_epochs=self.initialization_epochs,
            initialization_decay_epochs=self.initialization_decay_epochs,
            initialization_lr=self.initialization_lr,
        )
        return [optimizer_g, optimizer_d], [schedule_g, linear_decay(optimizer_d, **lengths)]

    def translator(self) -> nn.Module:
        return self.generator
