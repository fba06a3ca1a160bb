"""NijiGAN: semi-supervised contrastive translation with a NeuralODE bottleneck; Scenimefy and CUT are its variants.

Santoso et al. 2024, "NijiGAN: Transform What You See into Anime with Contrastive Semi-Supervised Learning and Neural
Ordinary Differential Equations", arXiv:2412.19455. x is a photograph, y an anime picture, (x_p, y_p) a pseudo pair. G
is an encoder, ODE blocks and a decoder. z_l(.) are L2-normalised projections of G's features of an image at layer l
and P random locations; losses between features are means over the layers.

Unsupervised branch:
(1) gan           E_x[(D(G(x)) - 1)^2]; D minimises E_y[(D(y) - 1)^2] + E_x[D(G(x))^2]
(2) src           Jensen-Shannon divergence of the patch relations within x and within G(x)  (Jung et al. 2022)
(3) hdce          decoupled InfoNCE of z(G(x)) and z(x), negatives weighted by their relation to the key, more sharply
                  as gamma falls; the mean of this and of the same of (G(y), y)              (Jung et al. 2022)
(4) nce           InfoNCE in place of (2) and (3), likewise                                  (CUT: Park et al. 2020)
(5) vgg           mean square difference of VGG-19's conv4_4 of G(x) and of x
(6) straightness  mean square error of one Euler step in place of each ODE block: not in the paper
Supervised branch, times lambda_sup(t):
(7) gan_pair      conditional GAN: (1) of D_p on (x_p, y_p) and (x_p, G(x_p))                (Jiang et al. 2023)
(8) style_nce     InfoNCE of G(x_p) and y_p, with a projection of its own                    (Jiang et al. 2023)

Deviations from the paper: the default solver is the midpoint rule, one step for each block, where it has Dormand-Prince
(``generator.solver=dopri5``). Each branch is backpropagated as soon as it is computed, which changes no gradient. The
features of real images fall out of their translation. While lambda_sup is 0 the supervised branch is not computed,
D_p included. ``faithful`` brings back three slips of Scenimefy's released code: the range of VGG's input,
the oscillating cosine decay, the weight of (8) applied twice.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from lit_ghibli.errors import UserError
from lit_ghibli.losses.adversarial import lsgan_discriminator_loss, lsgan_generator_loss
from lit_ghibli.losses.contrastive import hdce, patch_nce, semantic_relation_consistency
from lit_ghibli.losses.perceptual import content_loss
from lit_ghibli.losses.straightness import straightness
from lit_ghibli.methods.base import Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.patch_mlp import PatchMlp
from lit_ghibli.networks.patchgan import PatchDiscriminator
from lit_ghibli.networks.resnet import TAPS
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.training.patch_comparison import Features, PatchComparison, mean_over_layers
from lit_ghibli.training.schedules import linear_decay
from lit_ghibli.training.updates import check_weights, update, weighted_sum
from lit_ghibli.training.weight_schedules import SupervisedWeight, falling

PairDiscriminator = partial(PatchDiscriminator, in_channels=6)
Conv4_4 = partial(VggFeatures, taps=("conv4_4",))
Adam2e4 = partial(Adam, lr=2e-4, betas=(0.5, 0.999), fused=True)
WEIGHTS = {
    "gan": 1.0,
    "src": 0.05,
    "hdce": 0.1,
    "nce": 0.0,
    "vgg": 0.1,
    "straightness": 0.0,
    "gan_pair": 1.0,
    "style_nce": 0.1,
}
RAMP_UP = {"name": "ramp_up", "unit": "epoch", "warm_up_epochs": 10}


class NijiGAN(Translation):
    """A generator trained on unpaired pictures and, with a weight that changes over time, on pseudo pairs.

    Args:
        generator: Makes the generator.
        discriminator: Makes the discriminator of anime pictures.
        pair_discriminator: Makes the discriminator of pairs, of six channels.
        projection: Makes a projection from the channels of the ``nce_layers``.
        vgg: Makes the network of (5), whose first tap is compared; only for a training with that weight.
        optimizer_g: Makes the optimiser of generator and projections from their parameters.
        optimizer_d: Makes the optimiser of both discriminators from their parameters.
        weights: Weights of (1) to (8) by name. Without (7) and (8) there is no supervised branch, and batches need no
            pairs.
        identity: Let (3) and (4) hold for G(y) and y, too.
        flip_equivariance: Translate the mirrored photograph in half of the steps, and compare its features mirrored
            back (FastCUT).
        nce_layers: Layers of G whose features are compared, of ``TAPS`` in ``lit_ghibli.networks.resnet``.
        num_patches: Locations that are compared in each layer.
        temperature: Of (3), (4) and (8).
        gamma: Of (3), at the start and at the end of training.
        schedule: Name, unit and warm-up of lambda_sup; see ``lit_ghibli.training.weight_schedules``.
        faithful: Bring back the slips of the released code.
        epochs: Length of the training that the schedules are made for.
        decay_epochs: How many of these, at the end, decay the learning rates linearly.
        metrics: What held-out photographs are judged by.

    Raises:
        UserError: Weights that fit no configuration.
    """

    def __init__(
        self,
        generator: Callable[[], nn.Module] = OdeGenerator,
        discriminator: Callable[[], nn.Module] = PatchDiscriminator,
        pair_discriminator: Callable[[], nn.Module] = PairDiscriminator,
        projection: Callable[[Mapping[str, int]], nn.Module] = PatchMlp,
        vgg: Callable[[], VggFeatures] = Conv4_4,
        optimizer_g: Callable[..., Optimizer] = Adam2e4,
        optimizer_d: Callable[..., Optimizer] = Adam2e4,
        weights: Mapping[str, float] | None = None,
        identity: bool = True,
        flip_equivariance: bool = False,
        nce_layers: Sequence[str] = TAPS,
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
        if self.weights["straightness"] and self.generator.evaluations is None:
            raise UserError("method.weights.straightness is for ODE blocks: set it to 0, or method/bottleneck=ode")
        self.comparison = PatchComparison(nce_layers, num_patches)
        channels = {layer: self.generator.feature_channels[layer] for layer in self.comparison.layers}
        self.projection = projection(channels) if self._contrasted() else None
        self.pair_discriminator = pair_discriminator() if self.weights["gan_pair"] else None
        self.style_projection = projection(channels) if self.weights["style_nce"] else None
        self.make_vgg, self.vgg = vgg, None
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.identity, self.flip_equivariance = identity, flip_equivariance
        if min(temperature, *gamma) <= 0:
            raise UserError(f"method.temperature = {temperature} and method.gamma = {list(gamma)} must be positive")
        self.temperature, self.gamma = temperature, tuple(gamma)
        schedule = RAMP_UP if schedule is None else schedule
        self.schedule = SupervisedWeight(**schedule, epochs=epochs, faithful=faithful) if self.supervised else None
        self.faithful = faithful
        if faithful:
            self.weights["style_nce"] **= 2
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.metrics = metrics

    def setup(self, stage: str) -> None:
        """Load VGG-19 where a training needs it; translating never does."""
        super().setup(stage)
        if stage == "fit" and self.weights["vgg"]:
            try:
                self.vgg = self.make_vgg().to(self.device)
            except UserError as error:
                raise UserError(f"{error}; or train without that term: method.weights.vgg=0") from error

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Of each branch its discriminator's update and its share of the generator's gradients; then G's update."""
        optimizer_g, optimizer_d = self.optimizers()
        supervised = self.supervised_weight(batch_idx)

        with update(self, optimizer_g):
            fake, losses = self.update_from_photo(batch["photo"], batch["anime"], optimizer_d)
            if self.identity and (self.weights["hdce"] or self.weights["nce"]):
                for name, term in self.update_from_anime(batch["anime"]).items():
                    losses[name] = losses[name] + term
            if supervised:
                losses |= self.update_from_pair(batch["pair_a"], batch["pair_b"], supervised, optimizer_d)
            optimizer_g.step()

        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, prog_bar=True)
        if self.supervised:
            self.log_dict({"train/supervised_weight": supervised})
        return {"losses": losses, "input": batch["photo"], "output": fake}

    def update_from_photo(self, photo: Tensor, anime: Tensor, optimizer_d: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Update D, then backpropagate all that G owes to the photograph: (1) to (6)."""
        flip = self.flip_equivariance and torch.rand(()).item() < 0.5
        source = photo.flip(-1) if flip else photo
        real = self.generator(source, features=True, gaps=bool(self.weights["straightness"]))
        self.log_statistics()
        losses, terms = {}, {}
        if self.weights["gan"]:
            losses["discriminator"] = self.update_discriminator(self.discriminator, optimizer_d, anime, real.picture)
            terms["gan"] = lsgan_generator_loss(self.discriminator(real.picture))
        if self._contrasted():
            features = self.generator(real.picture, picture=False, features=True).features
            if flip:
                features = {name: feature.flip(-1) for name, feature in features.items()}
                with torch.no_grad():
                    keys = self.generator(photo, picture=False, features=True).features
            terms |= self.contrast(features, keys if flip else real.features, ("src", "hdce", "nce"))
        if self.weights["vgg"]:
            terms["vgg"] = self.vgg_loss(real.picture, source)
        if self.weights["straightness"]:
            terms["straightness"] = straightness(real.gaps)
        if terms:
            self.manual_backward(weighted_sum(terms, self.weights))
        return real.picture.detach(), losses | {name: term.detach() for name, term in terms.items()}

    def update_from_anime(self, anime: Tensor) -> dict[str, Tensor]:
        """Backpropagate the half of (3) and (4) that holds G(y) to y."""
        real = self.generator(anime, features=True)
        features = self.generator(real.picture, picture=False, features=True).features
        terms = self.contrast(features, real.features, ("hdce", "nce"))
        self.manual_backward(weighted_sum(terms, self.weights))
        return {name: term.detach() for name, term in terms.items()}

    def update_from_pair(
        self, pair_a: Tensor, pair_b: Tensor, supervised: float, optimizer_d: Any
    ) -> dict[str, Tensor]:
        """Update D_p, then backpropagate (7) and (8), weighted by lambda_sup."""
        fake = self.generator(pair_a)
        losses, terms = {}, {}
        if self.weights["gan_pair"]:
            pairs = torch.cat([pair_a, pair_b], dim=1), torch.cat([pair_a, fake], dim=1)
            discriminator = self.pair_discriminator
            losses["discriminator_pair"] = self.update_discriminator(discriminator, optimizer_d, *pairs)
            terms["gan_pair"] = lsgan_generator_loss(discriminator(pairs[1]))
        if self.weights["style_nce"]:
            queries = self.generator(fake, picture=False, features=True).features
            with torch.no_grad():
                keys = self.generator(pair_b, picture=False, features=True).features
            queries, keys = self.comparison.project(self.style_projection, queries, keys)
            terms["style_nce"] = mean_over_layers(partial(patch_nce, temperature=self.temperature), queries, keys)
        self.manual_backward(supervised * weighted_sum(terms, self.weights))
        return losses | {name: term.detach() for name, term in terms.items()}

    def update_discriminator(self, discriminator: nn.Module, optimizer: Any, real: Tensor, fake: Tensor) -> Tensor:
        """One update by (1) for D or (7) for D_p."""
        with update(self, optimizer):
            loss = lsgan_discriminator_loss(discriminator(real), discriminator(fake.detach()))
            self.manual_backward(loss)
            optimizer.step()
        return loss.detach()

    def contrast(self, queries: Features, keys: Features, names: Sequence[str]) -> dict[str, Tensor]:
        """Those of (2), (3), (4) in ``names`` that have a weight; the latter two halved if they are one of two."""
        queries, keys = self.comparison.project(self.projection, queries, keys)
        share = 0.5 if self.identity else 1.0
        losses = {
            "src": semantic_relation_consistency,
            "hdce": partial(hdce, gamma=self.relation_gamma(), temperature=self.temperature),
            "nce": partial(patch_nce, temperature=self.temperature),
        }
        terms = {name: mean_over_layers(losses[name], queries, keys) for name in names if self.weights[name]}
        return {name: term if name == "src" else share * term for name, term in terms.items()}

    def vgg_loss(self, picture: Tensor, photo: Tensor) -> Tensor:
        """Term (5)."""
        tap = self.vgg.taps[0]
        with torch.no_grad():
            expected = self.vgg(photo)[tap]
        # In [0, 1] the released code adds 1/2 to the picture in [-1, 1] where it should halve it first.
        return content_loss(self.vgg(2 * picture if self.faithful else picture)[tap], expected)

    def supervised_weight(self, batch_idx: int) -> float:
        """lambda_sup in this step; 0 without a supervised branch."""
        return (
            self.schedule(self.current_epoch, batch_idx, self.trainer.num_training_batches) if self.supervised else 0.0
        )

    def relation_gamma(self) -> float:
        """The curriculum's gamma in this epoch."""
        return falling(self.current_epoch + 1, self.epochs, *self.gamma)

    def log_statistics(self) -> None:
        """Log gamma, and how often the ODE's right side was evaluated in the last pass."""
        statistics = {"train/nfe": self.generator.evaluations} if self.generator.evaluations is not None else {}
        if self.weights["hdce"]:
            statistics["train/gamma"] = self.relation_gamma()
        self.log_dict({name: float(value) for name, value in statistics.items()})

    def on_train_epoch_end(self) -> None:
        """Advance all learning rates by one epoch."""
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """One optimiser for generator and projections, one for both discriminators, each with its schedule."""
        generating = [self.generator, self.projection, self.style_projection]
        judging = [self.discriminator, self.pair_discriminator]
        optimizers = [
            make(list(chain(*(network.parameters() for network in networks if network is not None))))
            for make, networks in ((self.optimizer_g, generating), (self.optimizer_d, judging))
        ]
        decay = partial(linear_decay, epochs=self.epochs, decay_epochs=self.decay_epochs)
        return optimizers, [decay(optimizer) for optimizer in optimizers]

    def translator(self) -> nn.Module:
        """G, from photographs to anime pictures."""
        return self.generator

    def _contrasted(self) -> bool:
        return any(self.weights[name] for name in ("src", "hdce", "nce"))
