"""What is where in a picture: torchvision's networks for the 21 classes of Pascal VOC."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import (
    DeepLabV3_ResNet50_Weights,
    LRASPP_MobileNet_V3_Large_Weights,
    deeplabv3_resnet50,
    lraspp_mobilenet_v3_large,
)

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8
from lit_ghibli.networks.weights import IMAGENET_MEAN, IMAGENET_STD, find_weights, pick_weights, read_weights

NUM_CLASSES = 21
NETWORKS = {
    "deeplabv3_resnet50": (deeplabv3_resnet50, DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1),
    "lraspp_mobilenet_v3_large": (lraspp_mobilenet_v3_large, LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1),
}

_SIDE = 520  # pixels of the short side that the networks were trained and are judged at
_WAYS_OUT = (
    "run once with internet access, which fills the cache; or download that file elsewhere and give "
    "segmentation=<its path>; or leave the comparison of meaning out with segmentation=null"
)
_AUXILIARY = "aux_classifier."  # a second head of deeplabv3_resnet50, of use in training only


class Segmentation(nn.Module):
    """The most likely of 21 classes for every pixel; frozen.

    Args:
        weights: ``deeplabv3_resnet50`` or ``lraspp_mobilenet_v3_large`` (torchvision's, trained on COCO with VOC's
            labels, from torch.hub's cache, else fetched), or the path of a state dict of either.

    Attributes:
        num_classes: 21.
        source: ``sha256:`` and the first 16 digits of the weights' file.

    Raises:
        UserError: The weights cannot be had, read or used.

    Source: Chen et al. 2017 (DeepLabv3); Howard et al. 2019 (LR-ASPP).
    """

    num_classes = NUM_CLASSES

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        named = NETWORKS.get(str(weights))
        path = find_weights(named[1].url, _WAYS_OUT) if named else Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"segmentation={weights}: no such file; give {_accepted()}")
        self.network = _build(path).requires_grad_(False).eval()
        self.source = f"sha256:{sha256_of(path)[:16]}"
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("mean", from_uint8(255 * mean))
        self.register_buffer("std", from_uint8(255 * (mean + std)) - self.mean)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Label images ``(N, 3, H, W)`` in ``[-1, 1]``, on any device: ``(N, h, w)``, the shorter side being 520."""
        shorter = min(images.shape[-2:])
        size = [round(side * _SIDE / shorter) for side in images.shape[-2:]]
        images = F.interpolate(images.to(self.mean), size, mode="bilinear", antialias=True)
        return self.network((images - self.mean) / self.std)["out"].argmax(dim=1)


def _accepted() -> str:
    return f"{', '.join(NETWORKS)}, or the path of a .pth file of torchvision's weights for one of them"


def _build(path: Path) -> nn.Module:
    """The network that the state dict in a file belongs to, with its weights."""
    state = {
        key: value
        for key, value in read_weights(path, " or ".join(NETWORKS)).items()
        if not str(key).startswith(_AUXILIARY)
    }
    name = "lraspp_mobilenet_v3_large" if any("low_classifier" in str(key) for key in state) else "deeplabv3_resnet50"
    with torch.device("meta"):  # a skeleton, since every tensor is replaced
        network = NETWORKS[name][0](weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    picked = pick_weights(state, expected, path, name)
    if surplus := [key for key in state if key not in expected]:
        raise UserError(f"{path}: no weights of {name}, for it also holds {surplus[0]}; give {_accepted()}")
    network.load_state_dict(picked, assign=True)
    return network.float()
