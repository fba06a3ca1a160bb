"""Learned perceptual image patch similarity, LPIPS, as a metric; see ``lit_ghibli.networks.lpips``."""

import torch
from torch import Tensor

from lit_ghibli.errors import UserError
from lit_ghibli.networks.lpips import BACKBONES, build_lpips

SMALLEST = 32  # pixels on a side that all layers of both backbones take

_WAYS_OUT = (
    "run once with internet access, which fills the cache; or put the file there by hand; or give "
    "metrics.lpips_weights=<path of a state dict of {network}>; or leave lpips out by metrics=weight_free; or, to try "
    "things out only, metrics.lpips_weights=random"
)


class PerceptualDistance:
    """LPIPS of pairs of pictures, in float32.

    No ``nn.Module``, for the reasons of `FeatureExtractor`.

    Args:
        backbone: ``alex``, which its authors recommend for measuring, ``vgg``; or ``vgg19`` or ``mobilenet``, which
            are no LPIPS.
        weights: ``imagenet`` (torchvision's), ``random`` (whose distances are no LPIPS), or the path of a state dict
            of torchvision's ``alexnet``, ``vgg16`` or ``vgg19``.

    Attributes:
        source: The first digits of the file's checksum, or ``random``.
        title: What the distances are called: ``lpips`` where they are.

    Raises:
        UserError: No such backbone, or weights that cannot be had, read or used.
    """

    def __init__(self, backbone: str = "alex", weights: str = "imagenet") -> None:
        if backbone not in BACKBONES:
            raise UserError(f"metrics.lpips={backbone}: choose one of {', '.join(BACKBONES)}")
        self.backbone = backbone
        self._network, self.source = build_lpips(backbone, weights, _WAYS_OUT)
        differs = "random" if self.source == "random" else None if backbone in ("alex", "vgg") else backbone
        self.title = f"perceptual_{differs}" if differs else "lpips"

    @torch.no_grad()
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the distances ``(N,)`` of images ``(N, 3, H, W)`` in ``[0, 1]``."""
        self._network.to(output.device)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._network(output, target, normalize=True).flatten()
