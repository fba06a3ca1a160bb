"""NijiGAN: semi-supervised contrastive translation with a NeuralODE bottleneck; Scenimefy is its variant.

Santoso et al. 2024, "NijiGAN: Transform What You See into Anime with Contrastive Semi-Supervised Learning and Neural
Ordinary Differential Equations", arXiv:2412.19455. x is a photograph, y an anime picture, (x_p, y_p) a pseudo pair. G
is an encoder, ODE blocks and a decoder. z_l(.) are L2-normalised projections of G's features of an image at layer l
and P random locations; losses between features are means over the layers.

Unsupervised branch:
(1) gan           E_x[(D(G(x)) - 1)^2]; D minimises E_y[(D(y) - 1)^2] + E_x[D(G(x))^2]
(2) src           Jensen-Shannon divergence of the patch relations within x and within G(x)  (Jung et al. 2022)
(3) hdce          decoupled InfoNCE of z(G(x)) and z(x), negatives weighted by their relation to the key, more sharply
                  as gamma falls; the mean of this and of the same of (G(y), y)              (Jung et al. 2022)
(4) vgg           mean square difference of VGG-19's conv4_4 of G(x) and of x, which it is fed in [0, 1] without
                  ImageNet's statistics: the weight is made for that
(5) straightness  mean square error of one Euler step in place of each ODE block: not in the paper
Supervised branch, times lambda_sup(t):
(6) gan_pair      conditional GAN: (1) of D_p on (x_p, y_p) and (x_p, G(x_p))                (Jiang et al. 2023)
(7) style_nce     InfoNCE of G(x_p) and y_p, with a projection of its own                    (Jiang et al. 2023)

Deviations from the paper: f has instance norm and no time, where it has batch norm and t; so there are its 5.477 M
parameters. The default solver is the midpoint rule, one step for each block, where it has Dormand-Prince
(``generator.solver=dopri5``). Each branch is backpropagated as soon as it is computed, which changes no gradient. The
features of real images fall out of their translation. While lambda_sup is 0 the supervised branch is not computed,
D_p included. ``faithful`` brings back three slips of Scenimefy's released code: the range of VGG's input,
the oscillating cosine decay, the weight of (7) applied twice.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli.errors import UserError
from lit_ghibli.losses.adversarial import lsgan_discriminator_loss, lsgan_generator_loss
from lit_ghibli.losses.contrastive import hdce, mean_over_layers, patch_nce, semantic_relation_consistency
from lit_ghibli.losses.perceptual import content_loss
from lit_ghibli.losses.straightness import straightness
from lit_ghibli.methods.base import GanAdam, Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.patch_mlp import PatchMlp, compared_channels
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import SUITE_TAPS
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.training.updates import check_weights, update, weighted_sum

PairDiscriminator = partial(PatchDiscriminator, in_channels=6)
Conv4_4 = partial(VggFeatures, taps=("conv4_4",), input_range="unit")
WEIGHTS = {"gan": 1.0, "src": 0.05, "hdce": 0.1, "vgg": 0.1, "straightness": 0.0, "gan_pair": 1.0, "style_nce": 0.1}
RAMP_UP = {"name": "ramp_up", "unit": "epoch", "warm_up_epochs": 10}


class NijiGAN(Translation):
    """A generator trained on unpaired pictures and, with a weight that changes over time, on pseudo pairs.

    Args:
        generator: Makes the generator.
        discriminator: Makes the discriminator of anime pictures.
        pair_discriminator: Makes the discriminator of pairs, of six channels.
        projection: Makes a projection from the channels of the ``nce_layers``.
        vgg: Makes the network of (4), whose first tap is compared; only for a training with that weight.
        optimizer_g: Makes the optimiser of generator and projections from their parameters.
        optimizer_d: Makes the optimiser of both discriminators from their parameters.
        weights: Weights of (1) to (7) by name. Without (6) and (7) there is no supervised branch, and batches need no
            pairs.
        identity: Let (3) hold for G(y) and y, too.
        nce_layers: Layers of G whose features are compared, of ``TAPS`` in ``lit_ghibli.networks.resnet``.
        num_patches: Locations that are compared in each layer.
        temperature: Of (3) and (7).
        gamma: Of (3), at the start and at the end of training.
        schedule: Name, unit and warm-up of lambda_sup; see :class:`SupervisedWeight`.
        faithful: Bring back the slips of the released code.
        epochs: Length of the training that the schedules are made for.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        metrics: What held-out photographs are judged by.

    Raises:
        UserError: Weights that fit no configuration.
    """

    joinable = ("discriminator", "pair_discriminator")

    def __init__(
        self,
        generator: Callable[[], nn.Module] = OdeGenerator,
        discriminator: Callable[[], nn.Module] = PatchDiscriminator,
        pair_discriminator: Callable[[], nn.Module] = PairDiscriminator,
        projection: Callable[[Mapping[str, int]], PatchMlp] = PatchMlp,
        vgg: Callable[[], nn.Module] = Conv4_4,
        optimizer_g: Callable[..., Optimizer] = GanAdam,
        optimizer_d: Callable[..., Optimizer] = GanAdam,
        weights: Mapping[str, float] | None = None,
        identity: bool = True,
        nce_layers: Sequence[str] = SUITE_TAPS,
        num_patches: int = 256,
        temperature: float = 0.07,
        gamma: tuple[float, float] = (50.0, 10.0),
        schedule: Mapping[str, Any] | None = None,
        faithful: bool = False,
        epochs: int = 25,
        decay_epochs: int = 12,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weights = check_weights(WEIGHTS if weights is None else weights, set(WEIGHTS))
        self.supervised = bool(self.weights["gan_pair"] or self.weights["style_nce"])
        self.batch_keys = ("pair_a", "pair_b", "photo", "anime") if self.supervised else ("photo", "anime")
        self.generator, self.discriminator = generator(), discriminator()
        if self.weights["straightness"] and getattr(self.generator, "nfe", None) is None:
            raise UserError("method.weights.straightness is for ODE blocks: set it to 0, or method/bottleneck=ode")
        channels = compared_channels(self.generator, nce_layers, num_patches)
        self.projection = projection(channels) if self.weights["src"] or self.weights["hdce"] else None
        self.pair_discriminator = pair_discriminator() if self.weights["gan_pair"] else None
        self.style_projection = projection(channels) if self.weights["style_nce"] else None
        self.make_vgg, self.vgg = vgg, None
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        if min(temperature, *gamma) <= 0:
            raise UserError(f"method.temperature = {temperature} and method.gamma = {list(gamma)} must be positive")
        self.identity, self.num_patches, self.temperature, self.gamma = identity, num_patches, temperature, tuple(gamma)
        schedule = RAMP_UP if schedule is None else schedule
        self.schedule = SupervisedWeight(**schedule, epochs=epochs, faithful=faithful) if self.supervised else None
        self.faithful = faithful
        if faithful:
            self.weights["style_nce"] **= 2
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.metrics = metrics

    def setup(self, stage: str) -> None:
        """Load the network of features where a training needs it; translating never does."""
        super().setup(stage)
        if stage == "fit" and self.weights["vgg"]:
            try:
                self.vgg = self.make_vgg().to(self.device)
            except UserError as error:
                raise UserError(f"{error}; or train without that term: method.weights.vgg=0") from error

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Of each branch its discriminator's update and its share of the generator's gradients; then G's update."""
        optimizer_g, optimizer_d = self.optimizers()
        supervised = 0.0
        if self.supervised:
            supervised = self.schedule(self.current_epoch, batch_idx, self.trainer.num_training_batches)

        with update(self, optimizer_g):
            fake, losses = self.backward_from_photo(batch["photo"], batch["anime"], optimizer_d)
            if self.identity and self.weights["hdce"]:
                losses["hdce"] = losses["hdce"] + self.backward_from_anime(batch["anime"])
            if supervised:
                losses |= self.backward_from_pair(batch["pair_a"], batch["pair_b"], supervised, optimizer_d)
            optimizer_g.step()

        if self.supervised:
            self.log_dict({"train/supervised_weight": torch.tensor(supervised)})
        return self.report(losses, input=batch["photo"], output=fake)

    def backward_from_photo(self, x: Tensor, y: Tensor, optimizer_d: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Update D, then backpropagate all that G owes to the photograph: (1) to (5)."""
        real = self.generator(x, features=True, **({"gaps": True} if self.weights["straightness"] else {}))
        fake, losses, terms, statistics = real.picture, {}, {}, {}
        if (nfe := getattr(self.generator, "nfe", None)) is not None:
            statistics["train/nfe"] = torch.tensor(float(nfe))  # on the CPU: for a mere number a GPU is waited for
        if self.weights["gan"]:
            losses["discriminator"] = self.update_discriminator(self.discriminator, optimizer_d, y, fake)
            terms["gan"] = lsgan_generator_loss(self.discriminator(fake))
        if self.projection is not None:
            queries, keys = self.compare(self.projection, fake, real.features)
            if self.weights["src"]:
                terms["src"] = mean_over_layers(semantic_relation_consistency, queries, keys)
            if self.weights["hdce"]:
                terms["hdce"] = self.hdce(queries, keys)
                statistics["train/gamma"] = torch.tensor(float(self.relation_gamma()))
        if self.weights["vgg"]:
            tap = self.vgg.taps[0]
            with torch.no_grad():
                expected = self.vgg(x)[tap]
            # In [0, 1] the released code adds 1/2 to the picture in [-1, 1] where it should halve it first.
            terms["vgg"] = content_loss(self.vgg(2 * fake if self.faithful else fake)[tap], expected)
        if self.weights["straightness"]:
            terms["straightness"] = straightness(real.gaps)
        if terms:
            self.manual_backward(weighted_sum(terms, self.weights))
        self.log_dict(statistics)
        return fake.detach(), losses | {name: term.detach() for name, term in terms.items()}

    def backward_from_anime(self, y: Tensor) -> Tensor:
        """Backpropagate the half of (3) that holds G(y) to y."""
        real = self.generator(y, features=True)
        term = self.hdce(*self.compare(self.projection, real.picture, real.features))
        self.manual_backward(weighted_sum({"hdce": term}, self.weights))
        return term.detach()

    def backward_from_pair(self, x_p: Tensor, y_p: Tensor, supervised: float, optimizer_d: Any) -> dict[str, Tensor]:
        """Update D_p, then backpropagate (6) and (7), weighted by lambda_sup."""
        fake = self.generator(x_p)
        losses, terms = {}, {}
        if self.weights["gan_pair"]:
            pairs = torch.cat([x_p, y_p], dim=1), torch.cat([x_p, fake], dim=1)
            losses["discriminator_pair"] = self.update_discriminator(self.pair_discriminator, optimizer_d, *pairs)
            terms["gan_pair"] = lsgan_generator_loss(self.pair_discriminator(pairs[1]))
        if self.weights["style_nce"]:
            with torch.no_grad():
                keys = self.generator(y_p, picture=False, features=True).features
            loss = partial(patch_nce, temperature=self.temperature)
            terms["style_nce"] = mean_over_layers(loss, *self.compare(self.style_projection, fake, keys))
        self.manual_backward(supervised * weighted_sum(terms, self.weights))
        return losses | {name: term.detach() for name, term in terms.items()}

    def update_discriminator(self, discriminator: nn.Module, optimizer: Any, real: Tensor, fake: Tensor) -> Tensor:
        """One update by (1) for D or (6) for D_p."""
        with update(self, optimizer):
            loss = lsgan_discriminator_loss(*self.passes(discriminator, real, fake.detach()))
            self.manual_backward(loss)
            optimizer.step()
        return loss.detach()

    def compare(self, projection: PatchMlp, fake: Tensor, keys: Mapping[str, Tensor]) -> tuple[Any, Any]:
        """Projections of an output's features and of those that they should resemble, at the same locations."""
        queries = self.generator(fake, picture=False, features=True).features
        return projection.compare(queries, keys, self.num_patches)

    def hdce(self, queries: Mapping[str, Tensor], keys: Mapping[str, Tensor]) -> Tensor:
        """Term (3), halved if it is one of two."""
        loss = partial(hdce, gamma=self.relation_gamma(), temperature=self.temperature)
        term = mean_over_layers(loss, queries, keys)
        return term / 2 if self.identity else term

    def relation_gamma(self) -> float:
        """Gamma in this epoch: on a line from the first one, before the training, to the last one, at its end."""
        start, end = self.gamma
        return start + (end - start) * min(self.current_epoch + 1, self.epochs) / self.epochs

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        return self.gan_optimizers(
            [self.generator, self.projection, self.style_projection], [self.discriminator, self.pair_discriminator]
        )

    def translator(self) -> nn.Module:
        return self.generator


@dataclass(frozen=True)
class SupervisedWeight:
    """lambda_sup at every step of a training; call it.

    ``ramp_up`` stays at 0 during the warm-up, then rises linearly to 1 at the end: Santoso et al. 2024, section 4.2.4,
    ask for a weight that is larger in later epochs, and linear is our reading. ``cosine_decay`` falls from 1 along a
    quarter of a cosine, as Jiang et al. 2023 mean it. Their released code multiplies by the length where dividing is
    meant: its cosine, which ``faithful`` brings back, stays at 1 where 4 divides the length, and else changes its
    sign, as 1, -1, 1, -1 for an even length and as 1, 0, -1, 0 for an odd one.

    Args:
        name: ``ramp_up``, ``cosine_decay`` or ``constant``.
        epochs: Planned length of the training. In a longer one the last weight stays.
        unit: ``epoch`` changes the weight between epochs, ``step`` at every step.
        warm_up_epochs: Epochs of ``ramp_up`` without the branch; the other schedules have none.
        faithful: See above.

    Raises:
        UserError: On an unknown name or unit, and on a warm-up that is negative or leaves no epoch to rise in.
    """

    name: str
    epochs: int
    unit: str = "epoch"
    warm_up_epochs: int = 0
    faithful: bool = False

    def __post_init__(self) -> None:
        names, units = ("ramp_up", "constant", "cosine_decay"), ("epoch", "step")
        for key, value, accepted in (("name", self.name, names), ("unit", self.unit, units)):
            if value not in accepted:
                raise UserError(f"method.schedule.{key} is {value!r}; it must be one of {', '.join(accepted)}")
        if self.name == "ramp_up" and not 0 <= self.warm_up_epochs < self.epochs:
            raise UserError(
                f"method.schedule.warm_up_epochs is {self.warm_up_epochs}; for ramp_up it must be at least 0 and less "
                f"than method.epochs = {self.epochs}"
            )

    def __call__(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Give the weight at ``step`` of ``epoch``, both counted from 0, the step from the epoch's start."""
        if self.unit == "epoch":
            step, steps_per_epoch = 0, 1
        total = self.epochs * steps_per_epoch
        t = min(epoch * steps_per_epoch + step + 1, total)  # from 1 to total
        if self.name == "ramp_up":
            warm_up = self.warm_up_epochs * steps_per_epoch
            return min(max((t - warm_up) / (total - warm_up), 0.0), 1.0)
        if self.name == "constant":
            return 1.0
        return math.cos(math.pi / 2 * total * (t - 1) if self.faithful else math.pi / 2 * (t - 1) / total)
