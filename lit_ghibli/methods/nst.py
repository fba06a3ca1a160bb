"""Neural style transfer by optimisation: the pixels of one picture are the parameters.

Gatys, Ecker, Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks" (arXiv:1508.06576), sections 2.1
to 2.3, in the two forms of the documents "Neural Style Transfer From Scratch" and "Penerapan Neural Style Transfer
untuk Transformasi Citra ke Gaya Studio Ghibli". F_l are the features of VGG-19 at layer l, G_l = F_l F_l^T; x is the
picture, p the content, s_k the styles.

(1) content  sum_l a_l mean (F_l(x) - F_l(p))^2
(2) style    sum_k w_k sum_l b_l mean (G_l(x) - G_l(s_k))^2
(3) tv       squared total variation of x

With masks, the squares of (2) are sum_r a_r mean (G_lr(x) - G_lr(s_k))^2, G_lr being the Gram matrix of T_lr F_l, which
is F_l in region r, and a_r the region's share of the content: Gatys et al. 2017, "Controlling Perceptual Factors in
Neural Style Transfer" (arXiv:1611.07865), Eqs. 5 to 8.

Deviations: the documents optimise at one size; here a list of levels may lead from coarse to fine, each of which
starts from what the one before has made. With one level of scale 1 it is the documents' algorithm.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from lit_ghibli.data.iterations import IterationsDataModule
from lit_ghibli.data.region_masks import load_regions
from lit_ghibli.data.single_pictures import Size, load_pictures, match_colors, resize, scaled_size
from lit_ghibli.errors import UserError
from lit_ghibli.images import luminance
from lit_ghibli.losses.style import gram_matrix, guidance_channels, style_loss
from lit_ghibli.losses.variation import total_variation
from lit_ghibli.methods.base import Method
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.mobilenet import LAYERS  # whose names none of VGG-19's layers has
from lit_ghibli.networks.vgg import VggFeatures, layer_name
from lit_ghibli.training.updates import check_weights, weighted_sum

LayerWeights = Literal["sum", "mean"] | Sequence[float]
Grams = dict[str, Tensor]
FiveLayers = (0, 5, 10, 19, 29)
Adam2e3 = partial(Adam, lr=2e-3, betas=(0.9, 0.999), eps=5e-9)


class NeuralStyle(Method):
    """One picture that is optimised to show the content of one picture in the style of others.

    Args:
        content: File of the content.
        style: File of the style, or several.
        style_weights: w_k, which sum to 1; None: all equal.
        content_mask: File with regions of the content, of its shape: light and dark, or up to 8 colors.
        style_mask: File with the regions of the style in which these are painted; of several styles one for each.
        vgg: Makes the network from its taps: VGG-19, or MobileNetV2 where it cannot be had.
        optimizer: Makes the optimiser of the pixels; it is called with a closure.
        weights: Weights of the terms ``content``, ``style``, ``tv``.
        content_layers: By name, or by index in torchvision's ``features`` of VGG-19.
        content_layer_weights: a_l: ``sum`` (1 each), ``mean`` (one over their number), or a number for each.
        style_layers: Likewise.
        style_layer_weights: b_l, likewise.
        normalize_gram: Divide Gram matrices by the number of features, so that sizes compare.
        start: What the pixels are at first: ``content``, ``noise`` or ``style`` (the first one, stretched).
        color: Where the colors come from: ``style``; ``luminance`` transfers to the luma alone and keeps the chroma
            of the content; ``matched`` recolors the styles like the content beforehand.
        size: Long side in pixels of content and styles; None or 0: as given.
        style_scale: Factor on the size of the styles: larger strokes above 1.
        levels: ``(scale, iterations)``, in order; the optimiser starts afresh where the size changes.
        epochs: Into how many parts the iterations are divided for reports and checkpoints.
        metrics: Not used, since nothing is held out; the training command gives it to every method.

    Attributes:
        pixels: The picture's parameter ``(1, 3, H, W)`` in ``[-1, 1]``, not clamped.
        gram_memory: Gram targets by style, size and masks; one dict may serve many pictures of the same recipe.

    Raises:
        UserError: A file cannot be read or is too small, or an argument cannot be used.
    """

    def __init__(
        self,
        content: str | Path | None = None,
        style: str | Path | Sequence[str | Path] | None = None,
        style_weights: Sequence[float] | None = None,
        content_mask: str | Path | None = None,
        style_mask: str | Path | Sequence[str | Path] | None = None,
        vgg: Callable[..., nn.Module] = VggFeatures,
        optimizer: Callable[..., Optimizer] = Adam2e3,
        weights: Mapping[str, float] | None = None,
        content_layers: Sequence[str | int] = FiveLayers,
        content_layer_weights: LayerWeights = "sum",
        style_layers: Sequence[str | int] = FiveLayers,
        style_layer_weights: LayerWeights = "sum",
        normalize_gram: bool = False,
        start: Literal["content", "noise", "style"] = "content",
        color: Literal["style", "luminance", "matched"] = "style",
        size: int | None = None,
        style_scale: float = 1.0,
        levels: Sequence[tuple[float, int]] = ((1.0, 10_000),),
        epochs: int = 20,
        metrics: MetricSuite | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        _check_choice("start", start, ("content", "noise", "style"))
        _check_choice("color", color, ("style", "luminance", "matched"))
        self.content_file, self.style_files = _check_files(content, style)
        self.content_layers = _weigh_layers("content", content_layers, content_layer_weights)
        self.style_layers = _weigh_layers("style", style_layers, style_layer_weights)
        self.style_weights = _check_style_weights(style_weights, self.style_files)
        self.normalize_gram = normalize_gram
        self.weights = check_weights(weights or {"content": 0.9, "style": 0.1, "tv": 0.0}, {"content", "style", "tv"})
        _check_finite("method.weights", list(self.weights.values()))
        if not self.weights["content"] and not self.weights["style"]:
            raise UserError("method.weights: content and style are both 0; at least one of them must count")
        self.optimizer, self.color, self.epochs = optimizer, color, epochs
        self.levels = _check_levels(levels, size, style_scale)
        self.content, *self.styles = load_pictures([self.content_file, *self.style_files])
        self.mask_files = _check_masks(content_mask, style_mask, len(self.styles))
        pictures = [self.content, *self.styles]
        regions = load_regions(self.mask_files, pictures) if self.mask_files else [None] * len(pictures)
        self.register_buffer("regions", regions[0], persistent=False)
        self.style_regions = regions[1:]
        self.sizes = [scaled_size(self.content, size, scale) for scale, _ in self.levels]
        self.style_sizes = [
            [scaled_size(style, size, scale * style_scale) for style in self.styles] for scale, _ in self.levels
        ]
        layers = {"content": self.content_layers, "style": self.style_layers}
        self.vgg = vgg(tuple(layer for term, of_term in layers.items() if self.weights[term] for layer in of_term))
        self._check_sizes()
        if color == "matched":
            self.styles = [match_colors(style, self.content) for style in self.styles]
        if start == "noise":
            first = torch.rand(1, 3, *self.sizes[0]) * 2 - 1
        else:
            first = resize(self.content if start == "content" else self.styles[0], self.sizes[0]).clone()
        self.pixels = nn.Parameter(first)
        self.gram_memory: dict[tuple[Path | Size, ...], Grams] = {}
        self._last: tuple[Tensor, dict[str, Tensor]] | None = None  # pixels whose gradient is known, and their losses
        self._level: int | None = None
        self._content_target: dict[str, Tensor] = {}  # features of the present level by layer
        self._style_targets: list[Grams] = []  # of each style

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step of the optimiser; the losses are those of the pixels before it."""
        self.enter_level()
        optimizer = self.optimizers()
        calls: list[dict[str, Tensor]] = []

        def closure() -> Tensor:
            # A line search ends at pixels that it has evaluated, where the next step begins: no need to do it again.
            if calls or self._last is None or not torch.equal(self._last[0], self.pixels):
                optimizer.zero_grad()
                terms = self.terms()
                terms["total"] = weighted_sum(terms, self.weights)
                self.manual_backward(terms["total"])
                losses = {name: term.detach() for name, term in terms.items()}
                self._last = self.pixels.detach().clone(), losses
            calls.append(self._last[1])
            return self._last[1]["total"]

        optimizer.step(closure)
        if len(calls) == 1:  # no line search: comparing would only make a GPU wait
            self._last = None
        self.log_dict({"train/evaluations": float(len(calls)), "train/long_side": float(max(self.size))})
        return self.report(calls[0])

    def terms(self) -> dict[str, Tensor]:
        """Terms (1) to (3) of the pixels as they are, unweighted, those with a weight of 0 left out."""
        seen = self._seen(self.pixels)
        features = self.vgg(seen)
        terms = {}
        if self.weights["content"]:
            target = self._content_target
            errors = {layer: F.mse_loss(features[layer], target[layer]) for layer in self.content_layers}
            terms["content"] = weighted_sum(errors, self.content_layers)
        if self.weights["style"]:
            grams = self._grams(features, self.regions)
            shares = None if self.regions is None else self.regions.mean(dim=(1, 2, 3))
            terms["style"] = sum(
                weight * weighted_sum(style_loss(grams, target, shares), self.style_layers)
                for weight, target in zip(self.style_weights, self._style_targets, strict=True)
            )
        if self.weights["tv"]:
            terms["tv"] = total_variation(seen)
        return terms

    def enter_level(self) -> None:
        """Where the iteration belongs to another level: fit the pixels to its size and compute its targets."""
        level = self.level_at(self.iteration)
        if level == self._level:
            return
        if self.size != self.sizes[level]:
            self.pixels.data = resize(self.pixels.data, self.sizes[level])
            self.trainer.strategy.setup_optimizers(self.trainer)
        self._compute_targets(level)
        self._level = level

    def level_at(self, iteration: int) -> int:
        """The level to which an iteration belongs; those beyond the last belong to the last."""
        ends = accumulate(iterations for _, iterations in self.levels)
        return next((level for level, end in enumerate(ends) if iteration < end), len(self.levels) - 1)

    @property
    def size(self) -> Size:
        """Present height and width of the picture."""
        return tuple(self.pixels.shape[-2:])

    @torch.no_grad()
    def picture(self) -> Tensor:
        """The picture as it is to be seen: ``(1, 3, H, W)``, in ``[-1, 1]`` but for values to be clamped."""
        pixels = self.pixels.detach()
        if self.color != "luminance":
            return pixels
        content = resize(self.content, self.size).to(pixels)
        return content + luminance(pixels) - luminance(content)

    def _seen(self, picture: Tensor) -> Tensor:
        """What the network sees of a picture: all of it, or its luma as a grey picture."""
        return luminance(picture).expand(-1, 3, -1, -1) if self.color == "luminance" else picture

    @torch.no_grad()
    def _compute_targets(self, level: int) -> None:
        if self.weights["content"]:
            features = self._features(self.content, self.sizes[level], self.content_file)
            self._content_target = {layer: features[layer] for layer in self.content_layers}
        self._style_targets = []
        if self.weights["style"]:
            for number, (file, style) in enumerate(zip(self.style_files, self.styles, strict=True)):
                size = self.style_sizes[level][number]
                # Recolored styles are those of one content.
                key = (file if self.color != "matched" else self.content_file / file, size, *self.mask_files)
                if key not in self.gram_memory:
                    features = self._features(style, size, file)
                    self.gram_memory[key] = self._grams(features, self.style_regions[number])
                self._style_targets.append(self.gram_memory[key])

    def _grams(self, features: Mapping[str, Tensor], regions: Tensor | None) -> Grams:
        features = {layer: features[layer] for layer in self.style_layers}
        if regions is not None:
            guides = {layer: guidance_channels(regions.to(of), of.shape[-2:]) for layer, of in features.items()}
            features = {layer: guides[layer] * of for layer, of in features.items()}
        return {layer: gram_matrix(of, self.normalize_gram) for layer, of in features.items()}

    def _features(self, picture: Tensor, size: Size, file: Path) -> dict[str, Tensor]:
        features = self.vgg(self._seen(resize(picture, size).to(self.pixels)))
        broken = [layer for layer, values in features.items() if not values.isfinite().all()]
        if broken:
            raise UserError(
                f"{file}: the network's features at {broken[0]} are no finite numbers; its weights "
                f"({getattr(self.vgg, 'source', 'unknown')}) are damaged: give others with method.vgg.weights"
            )
        return features

    def _check_sizes(self) -> None:
        """Refuse what is too small for the deepest layer, before anything runs."""
        smallest = getattr(self.vgg, "minimum_size", 1)
        sizes = [(self.content_file, size) for size in self.sizes]
        sizes += [pair for of_level in self.style_sizes for pair in zip(self.style_files, of_level, strict=True)]
        small = [(file, size) for file, size in sizes if min(size) < smallest]
        if small:
            listed = ", ".join(f"{file} at {height}x{width}" for file, (height, width) in small)
            raise UserError(
                f"too small for {self.vgg.taps[-1]}, which needs {smallest}x{smallest} pixels (height x width): "
                f"{listed}; raise method.size, method.style_scale or the scales in method.levels, or use other layers"
            )

    def check_data(self, datamodule: LightningDataModule) -> None:
        """Refuse data that give another number of iterations."""
        if not isinstance(datamodule, IterationsDataModule):
            raise UserError(
                "method=nst needs data=iterations and callbacks=nst, as experiment=nst_scratch and nst_ghibli have them"
            )

    def inputs(self) -> dict[str, list[Path]]:
        masks = {"masks": self.mask_files} if self.mask_files else {}
        return {"content": [self.content_file], "style": self.style_files} | masks

    def setup(self, stage: str) -> None:
        """Refuse several processes, for there is one picture."""
        if self.trainer.world_size > 1:
            raise UserError(
                f"one picture cannot be shared out among {self.trainer.world_size} processes: use trainer.devices=1; "
                "`lit-ghibli nst` shares out several pictures"
            )
        super().setup(stage)

    def configure_optimizers(self) -> Optimizer:
        self.pixels.data = self.pixels.data.contiguous()  # L-BFGS flattens them, which channels_last does not allow
        return self.optimizer([self.pixels])

    def networks(self) -> dict[str, nn.Module]:
        """The frozen network."""
        return {"vgg": self.vgg}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the pixels the size that they had, before the weights and the optimiser's state are loaded."""
        self.pixels.data = torch.empty_like(checkpoint["state_dict"]["pixels"])
        super().on_load_checkpoint(checkpoint)


def _check_files(content: Any, style: Any) -> tuple[Path, list[Path]]:
    if content is None or not style:
        unset = " and ".join(f"method.{name}" for name, value in (("content", content), ("style", style)) if not value)
        raise UserError(f"{unset} not set: give picture files, as in method.content=a.jpg method.style=b.jpg")
    styles = [style] if isinstance(style, str | Path) else style
    return Path(content).expanduser(), [Path(file).expanduser() for file in styles]


def _check_masks(content: str | Path | None, style: Any, styles: int) -> list[Path]:
    """The mask of the content and those of all styles; none where neither is given."""
    of_styles = [style] if isinstance(style, str | Path) else list(style or [])
    if content is None and not of_styles:
        return []
    if content is None or len(of_styles) != styles:
        raise UserError(
            f"method.content_mask is {content} and method.style_mask names {len(of_styles)} files: give a mask of the "
            f"content and one of each style, {styles} here"
        )
    return [Path(file).expanduser() for file in (content, *of_styles)]


def _check_levels(levels: Sequence[Any], size: int | None, style_scale: float) -> list[tuple[float, int]]:
    _check_finite("method.style_scale", [style_scale])
    if style_scale <= 0 or (size or 0) < 0:
        raise UserError(f"method.style_scale must be above 0 and method.size at least 0; got {style_scale} and {size}")
    pairs = [tuple(level) for level in levels]
    if not pairs or any(len(pair) != 2 or not pair[0] > 0 or pair[1] < 1 or pair[1] % 1 for pair in pairs):
        raise UserError(
            f"method.levels is {levels}; it must list [scale, iterations], such as [[0.5, 200], [1, 100]], with scales "
            "above 0 and at least 1 iteration each"
        )
    return pairs


def _check_style_weights(weights: Sequence[float] | None, styles: Sequence[object]) -> list[float]:
    """Return w_k for all styles: equal shares where ``weights`` is None."""
    if weights is None:
        return [1 / len(styles)] * len(styles)
    if len(weights) != len(styles):
        raise UserError(f"method.style_weights has {len(weights)} numbers for {len(styles)} styles")
    _check_finite("method.style_weights", weights)
    if abs(sum(weights) - 1) > 1e-6 or min(weights) < 0:
        raise UserError(
            f"method.style_weights are {list(weights)}, their sum {sum(weights):g}; they must not be negative and "
            f"sum to 1, such as {[round(1 / len(styles), 3)] * len(styles)} (or null, which means equal shares)"
        )
    return list(weights)


def _weigh_layers(name: str, layers: Sequence[str | int], weights: LayerWeights) -> dict[str, float]:
    """Return a_l or b_l by layer name: ``sum`` means 1 each, ``mean`` one over their number."""
    names = [layer if layer in LAYERS else layer_name(layer) for layer in layers]
    if not names or len(set(names)) < len(names):
        raise UserError(f"method.{name}_layers is {list(layers)}; it must name layers, each once")
    if isinstance(weights, str):
        _check_choice(f"{name}_layer_weights", weights, ("sum", "mean"))
        weights = [1.0 if weights == "sum" else 1 / len(names)] * len(names)
    if len(weights) != len(names):
        raise UserError(f"method.{name}_layer_weights has {len(weights)} numbers for {len(names)} layers {names}")
    _check_finite(f"method.{name}_layer_weights", weights)
    return dict(zip(names, weights, strict=True))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is none of ``choices``."""
    if value not in choices:
        raise UserError(f"method.{name} is {value!r}; choose {', '.join(choices)}")


def _check_finite(name: str, values: Sequence[float]) -> None:
    """Refuse NaN and infinity."""
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"{name}: {values} are not all finite numbers")
