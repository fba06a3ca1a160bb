"""Learned perceptual image patch similarity, LPIPS: its networks, frozen.

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

_URLS = {"alex": AlexNet_Weights.IMAGENET1K_V1.url, "vgg": VGG16_Weights.IMAGENET1K_V1.url}
_NETWORKS = {"alex": "torchvision's alexnet", "vgg": "torchvision's vgg16"}
BACKBONES = tuple(_URLS)
_WAYS_OUT = (
    "run once with internet access, which fills the cache; or give method.lpips.weights=<path of a state dict of "
    "{network}>; or, to try things out only, method.lpips.weights=random; or train without that term: "
    "method.weights.lpips=0"
)


class Lpips(nn.Module):
    """LPIPS as a loss: how far pictures are from others, with gradients for the pictures.

    Frozen: it has no parameters of its own, and state dicts of modules that hold one know nothing of it.

    Args:
        backbone: ``vgg``, which its authors recommend for optimising, or ``alex``.
        weights: ``imagenet`` (torchvision's, from torch.hub's cache, else fetched), ``random``, or the path of a state
            dict of torchvision's ``vgg16`` or ``alexnet``.

    Attributes:
        source: The first digits of the file's checksum, or ``random``.

    Raises:
        UserError: No such backbone, or weights that cannot be had, read or used.
    """

    def __init__(self, backbone: str = "vgg", weights: str = "imagenet") -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise UserError(f"method.lpips.backbone={backbone}: choose one of {', '.join(BACKBONES)}")
        network, self.source = build_lpips(backbone, str(weights), _WAYS_OUT)
        self._hidden = (network,)  # from state dicts and DDP

    def forward(self, pictures: Tensor, targets: Tensor) -> Tensor:
        """Mean distance, a scalar in ``[0, inf)``, of ``(N, 3, H, W)`` in ``[-1, 1]``; in float32."""
        network = self._hidden[0].to(pictures.device)
        with torch.autocast(pictures.device.type, enabled=False):
            return network(pictures.float(), targets.float()).mean()


@functools.lru_cache(maxsize=2)  # the suites of one evaluation share it
def build_lpips(backbone: str, weights: str, ways_out: str) -> tuple[nn.Module, str]:
    """The network that measures LPIPS of images in ``[-1, 1]``, in eval mode, and where its weights are from.

    Args:
        backbone: one of ``BACKBONES``.
        weights: ``imagenet``, ``random``, or the path of a state dict of torchvision's ``alexnet`` or ``vgg16``.
        ways_out: what a person without these weights can do instead; ``{network}`` stands for whose they are.

    Raises:
        UserError: The weights cannot be had, read or used.
    """
    heads = Path(inspect.getfile(torchmetrics_lpips)).with_name("lpips_models") / f"{backbone}.pth"
    with torch.device("meta"):
        network = torchmetrics_lpips._NoTrainLpips(pretrained=False, net=backbone, pnet_rand=True)
    network.scaling_layer = torchmetrics_lpips.ScalingLayer()  # constants, which no file holds
    network.lins = nn.ModuleList()  # a second name of each head
    network.to_empty(device="cpu")
    network.scaling_layer = torchmetrics_lpips.ScalingLayer()
    names = {f"features.{name.split('.', 1)[1]}": name for name in network.net.state_dict()}
    shapes = {name: tuple(network.net.state_dict()[inside].shape) for name, inside in names.items()}
    state, source = _backbone_weights(backbone, weights, shapes, ways_out)
    network.net.load_state_dict({inside: state[name] for name, inside in names.items()})
    network.load_state_dict(read_weights(heads, "LPIPS's heads"), strict=False)
    network.lins = nn.ModuleList(getattr(network, f"lin{level}") for level in range(network.L))
    return network.requires_grad_(False).eval(), source


def _backbone_weights(
    backbone: str, weights: str, shapes: dict[str, tuple[int, ...]], ways_out: str
) -> tuple[dict[str, Tensor], str]:
    if weights == "random":
        generator = torch.Generator().manual_seed(0)
        state = {name: torch.zeros(shape) for name, shape in shapes.items()}
        for name in state:
            if name.endswith("weight"):
                nn.init.kaiming_normal_(state[name], nonlinearity="relu", generator=generator)
        return state, "random"
    network = _NETWORKS[backbone]
    ways_out = ways_out.format(network=network)
    path = find_weights(_URLS[backbone], ways_out) if weights == "imagenet" else Path(weights).expanduser()
    return pick_weights(read_weights(path, network), shapes, path, network), sha256_of(path)[:16]
