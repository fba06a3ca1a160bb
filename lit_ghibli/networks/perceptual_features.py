"""The network whose features perceptual losses compare: VGG-19, or MobileNetV2, which needs no download."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from lit_ghibli.errors import UserError
from lit_ghibli.networks.mobilenet import MobileNetFeatures
from lit_ghibli.networks.vgg import VggFeatures


def perceptual_features(
    taps: Iterable[str | int],
    mobilenet_taps: Iterable[str] = ("block_5",),
    backbone: Literal["vgg19", "mobilenet"] = "vgg19",
    weights: str | Path = "imagenet",
    input_range: Literal["imagenet", "unit", "caffe"] = "imagenet",
    seed: int = 0,
) -> VggFeatures | MobileNetFeatures:
    """Build the frozen network of one backbone, from images ``(N, 3, H, W)`` in ``[-1, 1]`` to features by tap.

    The two differ in the scale of their features, and so in what a loss's weight means.

    Args:
        taps: layers of VGG-19.
        mobilenet_taps: layers of MobileNetV2.
        backbone: ``vgg19`` or ``mobilenet``.
        weights: as :class:`VggFeatures` has them; MobileNetV2 takes ``random``, or Magenta's for ``imagenet``.
        input_range: of VGG-19.
        seed: of ``random`` weights.

    Raises:
        UserError: There is no such backbone or layer, or weights cannot be had, read or used.
    """
    if backbone == "vgg19":
        return VggFeatures(taps, weights, input_range=input_range, seed=seed)
    if backbone != "mobilenet":
        raise UserError(f"method.vgg.backbone={backbone}: choose vgg19 or mobilenet")
    return MobileNetFeatures(mobilenet_taps, "magenta" if weights == "imagenet" else weights, seed)
