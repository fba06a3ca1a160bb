"""The scale of features, measured, so that a weight means with one network what it meant with another.

CartoonGAN and AnimeGAN have their weights for the VGG-19 that its authors trained in Caffe, on pixels in 0..255.
Torchvision's VGG-19, trained by itself on pixels of variance 1, has features of another order of magnitude, with which
a difference of features counts for less by that factor, and one of Gram matrices by its square. What makes up for it is
one number for each network and layer, the mean absolute feature of photographs.

- Measured is that of the network in use, whichever it is, on training photographs, when a training begins.
- Assumed is that of Caffe's network at conv4_4 before the ReLU: 100. It is published nowhere, and that network is not
  shipped. Published is by how much its features of generated and real pictures differ where pixels in 0..255 differ
  by 1: 2.8 at conv4_2 and 0.08 at conv5_2, after the ReLU (constants in the code of Chen and Koltun 2017). conv4_4 lies
  halfway, at about 0.5, which is half or less of what it is before the ReLU; and the pixels of two photographs differ
  by about 70. So it is 70 or more, and 100 is a round number that may be wrong by a factor of two or three.

Who has Caffe's network can replace the assumption: with its weights, converted to torchvision's names, order of colors
and range, and with no magnitude, the number is measured and logged, and features are left as they are.
"""

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.mobilenet import MobileNetFeatures
from lit_ghibli.networks.vgg import VggFeatures

log = logging.getLogger(__name__)


class FeatureScale(nn.Module):
    """Brings the features of a network to a mean absolute value: differences change linearly, Gram matrices by squares.

    What was measured is a buffer: a checkpoint holds it, and a resumed training goes on with it.

    Args:
        magnitude: Mean absolute feature of photographs that the losses' weights are made for; None leaves
            features as they are.
        photographs: How many training photographs it is measured on.

    Attributes:
        measured: Mean absolute feature of the network in use, a scalar; 0 before it is measured.

    Raises:
        UserError: The magnitude is not positive, or there are no photographs.
    """

    measured: Tensor

    def __init__(self, magnitude: float | None = 100.0, photographs: int = 64) -> None:
        super().__init__()
        if magnitude is not None and magnitude <= 0:
            raise UserError(f"method.feature_scale.magnitude must be above 0, or null; got {magnitude}")
        if photographs < 1:
            raise UserError(f"method.feature_scale.photographs must be at least 1; got {photographs}")
        self.magnitude, self.photographs = magnitude, photographs
        self.register_buffer("measured", torch.zeros(()))

    @torch.no_grad()
    def measure(self, vgg: VggFeatures | MobileNetFeatures, photographs: Iterable[Tensor]) -> None:
        """Measure the mean absolute feature at the network's deepest tap, unless a checkpoint has brought it.

        Every process measures the same photographs, and so the same number.

        Args:
            vgg: The network.
            photographs: ``(N, 3, H, W)`` each, in ``[-1, 1]``, all of one size.

        Raises:
            UserError: The features are all 0, or not numbers.
        """
        if self.measured:
            return
        tap = vgg.taps[-1]
        means = [vgg(photos.to(self.measured))[tap].abs().mean() for photos in photographs]
        measured = torch.stack(means).mean()
        if not (measured > 0 and measured.isfinite()):
            raise UserError(
                f"features of {vgg.network} ({vgg.source}) at {tap} have a mean absolute value of {measured.item()}: "
                "its weights are damaged; give others with method.vgg.weights"
            )
        self.measured.copy_(measured)
        change = "left as they are" if self.magnitude is None else f"multiplied by {self.magnitude / measured:.4g}"
        log.info(
            "features of %s (%s) at %s: mean absolute value %.4g on %d training photographs; they are %s",
            *(vgg.network, vgg.source, tap, measured, len(means), change),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Bring features of any shape to the magnitude, in float32 at least."""
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return features if self.magnitude is None else features * (self.magnitude / self.measured)

    def extra_repr(self) -> str:
        """What a printed module says of this one."""
        return f"magnitude={self.magnitude}, photographs={self.photographs}"
