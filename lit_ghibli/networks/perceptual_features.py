"""The network whose features perceptual losses compare: VGG-19, or MobileNetV2, which needs no download."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.mobilenet import MobileNetFeatures
from lit_ghibli.networks.vgg import VggFeatures


class PerceptualFeatures(nn.Module):
    """The frozen network of one backbone.

    The two differ in the scale of their features, and so in what a loss's weight means.

    Args:
        taps: layers of VGG-19.
        mobilenet_taps: layers of MobileNetV2.
        backbone: ``vgg19`` or ``mobilenet``.
        weights: as :class:`VggFeatures` has them; MobileNetV2 takes ``random``, or Magenta's for ``imagenet``.
        input_range: of VGG-19.
        seed: of ``random`` weights.

    Attributes:
        taps: names of the tapped layers, from shallow to deep.
        network: what the backbone is called.
        source: where its weights are from.

    Raises:
        UserError: There is no such backbone or layer, or weights cannot be had, read or used.
    """

    def __init__(
        self,
        taps: Iterable[str | int],
        mobilenet_taps: Iterable[str] = ("block_5",),
        backbone: Literal["vgg19", "mobilenet"] = "vgg19",
        weights: str | Path = "imagenet",
        input_range: Literal["imagenet", "unit", "caffe"] = "imagenet",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if backbone == "vgg19":
            self.backbone = VggFeatures(taps, weights, input_range=input_range, seed=seed)
        elif backbone == "mobilenet":
            self.backbone = MobileNetFeatures(mobilenet_taps, "magenta" if weights == "imagenet" else weights, seed)
        else:
            raise UserError(f"method.vgg.backbone={backbone}: choose vgg19 or mobilenet")
        self.taps = self.backbone.taps
        self.network, self.source = self.backbone.network, self.backbone.source

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features by tap of images ``(N, 3, H, W)`` in ``[-1, 1]``."""
        return self.backbone(images)
