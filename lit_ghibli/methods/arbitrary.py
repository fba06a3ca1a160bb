"""Arbitrary stylisation: one network learns to paint any photograph in the style of any picture, in one pass.

Ghiasi, Lee, Kudlur, Dumoulin, Shlens 2017, "Exploring the structure of a real-time, arbitrary neural artistic
stylization network" (arXiv:1705.06830), sections 2 and 3, and Magenta's code. x is a photograph, s a style picture, T
the transformer, P the predictor, F_l the features of a classification network at layer l, G_l = F_l F_l^T / (C H W).

(1) content     sum over content layers mean (F_l(T(x, P(s))) - F_l(x))^2
(2) style       sum over style layers mean (G_l(T(x, P(s))) - G_l(s))^2
(3) tv          squared total variation of T(x, P(s))
(4) supervised  E_acb[|T(a, P(c)) - b|_1], of triples of a photograph a, a style picture c and the finished picture b

Deviations: (4), of triples as data=triples serves them or of pairs, whose b is its own style, is not in the paper;
styles are augmented in their colors as there, but by crops of the data's own, not by random sizes of the whole batch.
The features need not be VGG's.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchvision.transforms import v2

from lit_ghibli.losses.perceptual import content_loss
from lit_ghibli.losses.style import gram_matrix, style_loss
from lit_ghibli.losses.variation import total_variation
from lit_ghibli.methods.base import Translation
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.arbitrary import ArbitraryStylization
from lit_ghibli.networks.mobilenet import MobileNetFeatures
from lit_ghibli.training.schedules import linear_decay
from lit_ghibli.training.updates import check_weights, update, weighted_sum

SlowAdam = partial(Adam, lr=1e-5, betas=(0.9, 0.999), fused=True)
WEIGHTS = {"content": 1.0, "style": 1e6, "tv": 30.0, "supervised": 0.0}
_REMEMBERED = 1000  # steps over which the styles of a training are averaged


class Arbitrary(Translation):
    """A style predictor and a transformer, trained on photographs and style pictures in all combinations.

    Args:
        generator: Makes both.
        features: Makes the network of (1) and (2) from its taps; only for a training with those weights.
        optimizer: Makes the optimiser from the parameters that are trained.
        weights: Weights of the terms ``content``, ``style``, ``tv`` and ``supervised``.
        content_layers: Of (1), by name.
        style_layers: Of (2), by name.
        train_predictor: Whether the predictor learns, too, rather than the transformer alone.
        color_jitter: How far the brightness, the saturation and the hue of styles are changed at random.
        epochs: Length of the training that the schedule is made for.
        decay_epochs: How many of these, at the end, decay the learning rate linearly.
        metrics: What held-out photographs are judged by, painted in the mean style of the training.
    """

    def __init__(
        self,
        generator: Callable[[], ArbitraryStylization] = ArbitraryStylization,
        features: Callable[..., nn.Module] = MobileNetFeatures,
        optimizer: Callable[..., Optimizer] = SlowAdam,
        weights: Mapping[str, float] | None = None,
        content_layers: Sequence[str] = ("block_5",),
        style_layers: Sequence[str] = ("stem", "expand_1", "expand_3", "expand_6"),
        train_predictor: bool = True,
        color_jitter: Sequence[float] = (0.8, 0.5, 0.2),
        epochs: int = 200,
        decay_epochs: int = 0,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weights = check_weights(WEIGHTS if weights is None else weights, set(WEIGHTS))
        self.generator = generator()
        self.make_features, self.features = features, None
        self.optimizer = optimizer
        self.content_layers, self.style_layers = list(content_layers), list(style_layers)
        self.train_predictor = train_predictor
        brightness, saturation, hue = color_jitter
        self.jitter = (
            v2.ColorJitter(brightness=brightness, saturation=saturation, hue=hue) if any(color_jitter) else None
        )
        self.epochs, self.decay_epochs = epochs, decay_epochs
        self.metrics = metrics

    @property
    def batch_keys(self) -> tuple[str, ...]:
        """Pairs only where something is learned from them."""
        return ("pair_a", "pair_b", "photo", "anime") if self.weights["supervised"] else ("photo", "anime")

    def setup(self, stage: str) -> None:
        """Load the network of (1) and (2) where a training needs it; translating never does."""
        super().setup(stage)
        taps = [
            layer
            for term, layers in (("content", self.content_layers), ("style", self.style_layers))
            if self.weights[term]
            for layer in layers
        ]
        if stage == "fit" and taps:
            self.features = self.make_features(taps).to(self.device)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """One update of T, and of P if it is trained."""
        optimizer = self.optimizers()
        x, s = batch["photo"], self.jittered(batch["anime"])
        with update(self, optimizer):
            style = self.described(s)
            self.remember(style.detach())
            picture = self.generator(x, style)
            terms = self.terms(picture, x, s)
            if self.weights["supervised"]:
                a, b = batch["pair_a"], batch["pair_b"]
                c = batch.get("pair_style", b)
                terms["supervised"] = F.l1_loss(self.generator(a, self.described(c)), b)
            self.manual_backward(weighted_sum(terms, self.weights))
            optimizer.step()
        return self.report(terms, input=x, style=s, output=picture.detach())

    def terms(self, picture: Tensor, photo: Tensor, style: Tensor) -> dict[str, Tensor]:
        """Terms (1) to (3) of pictures, unweighted, those with a weight of 0 left out."""
        terms = {}
        if self.features is not None:
            seen = self.features(picture)
            with torch.no_grad():
                of_photo = self.features(photo) if self.weights["content"] else {}
                of_style = self.features(style) if self.weights["style"] else {}
        if self.weights["content"]:
            terms["content"] = sum(content_loss(seen[layer], of_photo[layer]) for layer in self.content_layers)
        if self.weights["style"]:
            grams, targets = (
                {layer: gram_matrix(each[layer], normalize=True) for layer in self.style_layers}
                for each in (seen, of_style)
            )
            terms["style"] = sum(style_loss(grams, targets).values())
        if self.weights["tv"]:
            terms["tv"] = total_variation(picture)
        return terms

    def jittered(self, styles: Tensor) -> Tensor:
        """Styles in other colors, all of a batch alike."""
        return styles if self.jitter is None else self.jitter((styles + 1) / 2) * 2 - 1

    def described(self, styles: Tensor) -> Tensor:
        """P(s)."""
        with torch.set_grad_enabled(self.train_predictor):
            return self.generator.embed(styles)

    def remember(self, styles: Tensor) -> None:
        """Take the styles of all processes into the mean in which photographs are painted for which none is given."""
        mean = styles.to(self.generator.style.dtype).mean(dim=0, keepdim=True)  # also under autocast
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.generator.style.lerp_(mean, 1 / min(self.iteration + 1, _REMEMBERED))

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        trained = self.generator if self.train_predictor else self.generator.transformer
        optimizer = self.optimizer(trained.parameters())
        return [optimizer], [linear_decay(optimizer, epochs=self.epochs, decay_epochs=self.decay_epochs)]

    def translator(self) -> nn.Module:
        return self.generator
