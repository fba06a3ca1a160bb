"""The objective of neural style transfer as a function of features, and the checks of its constants.

Gatys, Ecker, Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks", sections 2.1 to 2.3. F_l are the
features of VGG-19 at layer l, G_l = F_l F_l^T; x is the picture, p the content, s_k the styles.

(1) content  sum_l a_l mean (F_l(x) - F_l(p))^2
(2) style    sum_k w_k sum_l b_l mean (G_l(x) - G_l(s_k))^2
(3) tv       squared total variation of x
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.losses.style import gram_matrix, style_loss
from lit_ghibli.losses.variation import total_variation
from lit_ghibli.networks.vgg import layer_name
from lit_ghibli.training.updates import check_weights, weighted_sum

TERMS = ("content", "style", "tv")
LayerWeights = Literal["sum", "mean"] | Sequence[float]
Grams = dict[str, Tensor]


class Targets(NamedTuple):
    """What the picture's features are compared with: content features, and Gram matrices of each style, by layer."""

    content: dict[str, Tensor]
    styles: list[Grams]


class Objective(NamedTuple):
    """Constants of (1)-(3), and which of the terms count.

    Attributes:
        content_layers: a_l by layer.
        style_layers: b_l by layer.
        style_weights: w_k.
        normalize_gram: Divide Gram matrices by the number of features.
        weights: Weights of the terms; those of weight 0 are not computed.
    """

    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    style_weights: Sequence[float]
    normalize_gram: bool
    weights: Mapping[str, float]

    def taps(self) -> tuple[str, ...]:
        """Layers that the terms look at."""
        layers = {"content": self.content_layers, "style": self.style_layers}
        return tuple(layer for name, of_term in layers.items() if self.weights[name] for layer in of_term)

    def grams(self, features: Mapping[str, Tensor]) -> Grams:
        """Gram matrices of the style layers among ``features``."""
        return {layer: gram_matrix(features[layer], self.normalize_gram) for layer in self.style_layers}

    def terms(self, picture: Tensor, features: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Terms (1)-(3), unweighted.

        Args:
            picture: x, ``(1, 3, H, W)`` in ``[-1, 1]``, for (3).
            features: F_l(x), at least for :meth:`taps`.
            targets: Of the picture's size; without gradient.
        """
        terms = {}
        if self.weights["content"]:
            errors = {layer: F.mse_loss(features[layer], targets.content[layer]) for layer in self.content_layers}
            terms["content"] = weighted_sum(errors, self.content_layers)
        if self.weights["style"]:
            grams = self.grams(features)
            terms["style"] = sum(
                weight * weighted_sum(style_loss(grams, of_style), self.style_layers)
                for weight, of_style in zip(self.style_weights, targets.styles, strict=True)
            )
        if self.weights["tv"]:
            terms["tv"] = total_variation(picture)
        return terms


def check_terms(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights of the terms as a plain dict.

    Raises:
        UserError: They are not one finite, non-negative number for each term, or no picture counts.
    """
    weights = check_weights(weights, set(TERMS))
    check_finite("method.weights", list(weights.values()))
    if not weights["content"] and not weights["style"]:
        raise UserError("method.weights: content and style are both 0; at least one of them must count")
    return weights


def check_style_weights(weights: Sequence[float] | None, styles: Sequence[object]) -> list[float]:
    """Return w_k for all styles: equal shares where ``weights`` is None.

    Raises:
        UserError: There is not one for each style, or they do not sum to 1.
    """
    if weights is None:
        return [1 / len(styles)] * len(styles)
    if len(weights) != len(styles):
        raise UserError(f"method.style_weights has {len(weights)} numbers for {len(styles)} styles")
    check_finite("method.style_weights", weights)
    if abs(sum(weights) - 1) > 1e-6 or min(weights) < 0:
        raise UserError(
            f"method.style_weights are {list(weights)}, their sum {sum(weights):g}; they must not be negative and "
            f"sum to 1, such as {[round(1 / len(styles), 3)] * len(styles)} (or null, which means equal shares)"
        )
    return list(weights)


def weigh_layers(name: str, layers: Sequence[str | int], weights: LayerWeights) -> dict[str, float]:
    """Return a_l or b_l by layer name: ``sum`` means 1 each, ``mean`` one over their number.

    Raises:
        UserError: A layer is unknown or given twice, there is none, or there is not one number for each.
    """
    names = [layer_name(layer) for layer in layers]
    if not names or len(set(names)) < len(names):
        raise UserError(f"method.{name}_layers is {list(layers)}; it must name layers, each once")
    if isinstance(weights, str):
        check_choice(f"{name}_layer_weights", weights, ("sum", "mean"))
        weights = [1.0 if weights == "sum" else 1 / len(names)] * len(names)
    if len(weights) != len(names):
        raise UserError(f"method.{name}_layer_weights has {len(weights)} numbers for {len(names)} layers {names}")
    check_finite(f"method.{name}_layer_weights", weights)
    return dict(zip(names, weights, strict=True))


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is none of ``choices``."""
    if value not in choices:
        raise UserError(f"method.{name} is {value!r}; choose {', '.join(choices)}")


def check_finite(name: str, values: Sequence[float]) -> None:
    """Refuse NaN and infinity."""
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"{name}: {values} are not all finite numbers")
