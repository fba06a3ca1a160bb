"""Learned perceptual image patch similarity, LPIPS.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv:1801.03924). The
network and its heads, version 0.1, are torchmetrics' own; the backbone's ImageNet weights are torchvision's.
"""

import functools
import inspect
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchvision.models import AlexNet_Weights, VGG16_Weights

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.networks.weights import find_weights, pick_weights, read_weights

SMALLEST = 32  # pixels on a side that all layers of both backbones take

_URLS = {"alex": AlexNet_Weights.IMAGENET1K_V1.url, "vgg": VGG16_Weights.IMAGENET1K_V1.url}
_NETWORKS = {"alex": "torchvision's alexnet", "vgg": "torchvision's vgg16"}
_WAYS_OUT = (
    "run once with internet access, which fills the cache; or put the file there by hand; or give "
    "metrics.lpips_weights=<path of a state dict of {network}>; or leave lpips out of metrics.metrics; or, to try "
    "things out only, metrics.lpips_weights=random"
)


class PerceptualDistance:
    """LPIPS of pairs of pictures, in float32.

    No ``nn.Module``, for the reasons of `FeatureExtractor`.

    Args:
        backbone: ``alex``, which its authors recommend for measuring, or ``vgg``.
        weights: ``imagenet`` (torchvision's), ``random`` (whose distances are no LPIPS), or the path of a state dict
            of torchvision's ``alexnet`` or ``vgg16``.

    Attributes:
        source: The first digits of the file's checksum, or ``random``.

    Raises:
        UserError: No such backbone, or weights that cannot be had, read or used.
    """

    def __init__(self, backbone: str = "alex", weights: str = "imagenet") -> None:
        if backbone not in _URLS:
            raise UserError(f"metrics.lpips={backbone}: choose one of {', '.join(_URLS)}")
        self.backbone = backbone
        self._network, self.source = _build(backbone, weights)

    @torch.no_grad()
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the distances ``(N,)`` of images ``(N, 3, H, W)`` in ``[0, 1]``."""
        self._network.to(output.device)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._network(output, target, normalize=True).flatten()


@functools.lru_cache(maxsize=2)  # the suites of one evaluation share it
def _build(backbone: str, weights: str) -> tuple[nn.Module, str]:
    heads = Path(inspect.getfile(torchmetrics_lpips)).with_name("lpips_models") / f"{backbone}.pth"
    with torch.device("meta"):
        network = torchmetrics_lpips._NoTrainLpips(pretrained=False, net=backbone, pnet_rand=True)
    network.scaling_layer = torchmetrics_lpips.ScalingLayer()  # constants, which no file holds
    network.lins = nn.ModuleList()  # a second name of each head
    network.to_empty(device="cpu")
    network.scaling_layer = torchmetrics_lpips.ScalingLayer()
    names = {f"features.{name.split('.', 1)[1]}": name for name in network.net.state_dict()}
    shapes = {name: tuple(network.net.state_dict()[inside].shape) for name, inside in names.items()}
    state, source = _backbone_weights(backbone, weights, shapes)
    network.net.load_state_dict({inside: state[name] for name, inside in names.items()})
    network.load_state_dict(read_weights(heads, "LPIPS's heads"), strict=False)
    network.lins = nn.ModuleList(getattr(network, f"lin{level}") for level in range(network.L))
    return network.requires_grad_(False).eval(), source


def _backbone_weights(backbone: str, weights: str, shapes: dict[str, tuple[int, ...]]) -> tuple[dict[str, Tensor], str]:
    if weights == "random":
        generator = torch.Generator().manual_seed(0)
        state = {name: torch.zeros(shape) for name, shape in shapes.items()}
        for name in state:
            if name.endswith("weight"):
                nn.init.kaiming_normal_(state[name], nonlinearity="relu", generator=generator)
        return state, "random"
    network = _NETWORKS[backbone]
    ways_out = _WAYS_OUT.format(network=network)
    path = find_weights(_URLS[backbone], ways_out) if weights == "imagenet" else Path(weights).expanduser()
    return pick_weights(read_weights(path, network), shapes, path, network), sha256_of(path)[:16]
