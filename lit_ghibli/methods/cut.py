"""CUT: contrastive unpaired translation, and FastCUT, its quicker variant.

Park, Efros, Zhang, Zhu 2020, "Contrastive Learning for Unpaired Image-to-Image Translation", arXiv:2007.15651. x is a
photograph, y an anime picture, G the generator, D the discriminator. z_l(.) are L2-normalised projections of G's
features of an image at layer l and P random locations.

(1) gan  E_x[(D(G(x)) - 1)^2]; D minimises E_y[(D(y) - 1)^2] + E_x[D(G(x))^2]
(2) nce  InfoNCE of z_l(G(x)) and z_l(x), the mean over layers, where the other locations of an image are the negatives;
         with ``identity`` the mean of this and of the same of (G(y), y)                           (sections 3.1, 3.2)

FastCUT leaves the identity out and mirrors x in half of the steps: z_l(G(x)) then are mirrored back   (section 4.1)

Deviations from the authors' code, none of which changes a gradient: (2) of y is backpropagated by itself, and the
features of real images fall out of their translation.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.errors import UserError
from lit_ghibli.losses.adversarial import lsgan_discriminator_loss, lsgan_generator_loss
from lit_ghibli.losses.contrastive import mean_over_layers, patch_nce
from lit_ghibli.methods.base import GanAdam, Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.patch_mlp import PatchMlp, compared_channels
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import RELEASED_TAPS, ResnetGenerator
from lit_ghibli.training.updates import check_weights, update, weighted_sum

# As released: blur pools, bilinear enlargement, Xavier's start
BlurredGenerator = partial(ResnetGenerator, upsample="bilinear", downsample="blur", initialization="xavier")
BlurredDiscriminator = partial(PatchDiscriminator, downsample="blur", initialization="xavier")
XavierMlp = partial(PatchMlp, initialization="xavier")


class CUT(Translation):
    """A generator trained on unpaired pictures, to keep what is where by its own features.

    Args:
        generator: Makes the generator.
        discriminator: Makes the discriminator of anime pictures.
        projection: Makes a projection from the channels of the ``nce_layers``.
        optimizer_g: Makes the optimiser of generator and projection from their parameters.
        optimizer_d: Makes the discriminator's optimiser from its parameters.
        weights: Weights of the terms ``gan`` and ``nce``.
        identity: Let (2) hold for G(y) and y, too.
        flip_equivariance: Translate the mirrored photograph in half of the steps, and compare its features mirrored
            back.
        nce_layers: Layers of G whose features are compared, of ``TAPS`` in ``lit_ghibli.networks.resnet``.
        num_patches: Locations that are compared in each layer.
        temperature: Of (2).
        epochs: Length of the training that the schedule is made for.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        metrics: What held-out photographs are judged by.
    """

    batch_keys = ("photo", "anime")
    joinable = ("discriminator",)

    def __init__(
        self,
        generator: Callable[[], nn.Module] = BlurredGenerator,
        discriminator: Callable[[], nn.Module] = BlurredDiscriminator,
        projection: Callable[[Mapping[str, int]], PatchMlp] = XavierMlp,
        optimizer_g: Callable[..., Optimizer] = GanAdam,
        optimizer_d: Callable[..., Optimizer] = GanAdam,
        weights: Mapping[str, float] | None = None,
        identity: bool = True,
        flip_equivariance: bool = False,
        nce_layers: Sequence[str] = RELEASED_TAPS,
        num_patches: int = 256,
        temperature: float = 0.07,
        epochs: int = 400,
        decay_epochs: int = 200,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weights = check_weights({"gan": 1.0, "nce": 1.0} if weights is None else weights, {"gan", "nce"})
        self.generator, self.discriminator = generator(), discriminator()
        channels = compared_channels(self.generator, nce_layers, num_patches)
        self.projection = projection(channels) if self.weights["nce"] else None
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.identity, self.flip_equivariance = identity, flip_equivariance
        if temperature <= 0:
            raise UserError(f"method.temperature must be above 0; got {temperature}")
        self.num_patches, self.temperature = num_patches, temperature
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.metrics = metrics

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """One update of D and, by what G then owes to x and to y, one of G and the projection."""
        x, y = batch["photo"], batch["anime"]
        optimizer_g, optimizer_d = self.optimizers()
        flip = self.flip_equivariance and torch.rand(()).item() < 0.5
        losses, terms = {}, {}

        with update(self, optimizer_g):
            real = self.generator(x.flip(-1) if flip else x, features=True)
            fake = real.picture
            if (nfe := getattr(self.generator, "nfe", None)) is not None:
                self.log_dict({"train/nfe": torch.tensor(float(nfe))})
            if self.weights["gan"]:
                with update(self, optimizer_d):
                    logits = self.passes(self.discriminator, y, fake.detach())
                    losses["discriminator"] = lsgan_discriminator_loss(*logits)
                    self.manual_backward(losses["discriminator"])
                    optimizer_d.step()
                terms["gan"] = lsgan_generator_loss(self.discriminator(fake))
            if self.weights["nce"]:
                queries, keys = self.generator(fake, picture=False, features=True).features, real.features
                if flip:
                    queries = {layer: maps.flip(-1) for layer, maps in queries.items()}
                    with torch.no_grad():
                        keys = self.generator(x, picture=False, features=True).features
                terms["nce"] = self.nce(queries, keys)
            self.manual_backward(weighted_sum(terms, self.weights))
            losses |= {name: term.detach() for name, term in terms.items()}

            if self.identity and self.weights["nce"]:
                same = self.generator(y, features=True)
                nce = self.nce(self.generator(same.picture, picture=False, features=True).features, same.features)
                self.manual_backward(weighted_sum({"nce": nce}, self.weights))
                losses["nce"] += nce.detach()
            optimizer_g.step()

        return self.report(losses, input=x, output=fake.detach())

    def nce(self, queries: Mapping[str, Tensor], keys: Mapping[str, Tensor]) -> Tensor:
        """Term (2) of an output's features and its input's, halved if it is one of two."""
        loss = partial(patch_nce, temperature=self.temperature)
        term = mean_over_layers(loss, *self.projection.compare(queries, keys, self.num_patches))
        return term / 2 if self.identity else term

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        return self.gan_optimizers([self.generator, self.projection], [self.discriminator])

    def translator(self) -> nn.Module:
        return self.generator
