"""What is where in a picture: torchvision's networks for the 21 classes of Pascal VOC."""

import pickle
from pathlib import Path
from typing import Any

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

NUM_CLASSES = 21
NETWORKS = {
    "deeplabv3_resnet50": (deeplabv3_resnet50, DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1),
    "lraspp_mobilenet_v3_large": (lraspp_mobilenet_v3_large, LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1),
}

_SIDE = 520  # pixels of the short side that the networks were trained and are judged at
_IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
_IMAGENET_STD = (0.229, 0.224, 0.225)
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
        path = _find(str(weights)) if str(weights) in NETWORKS else Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"segmentation={weights}: no such file; give {_accepted()}")
        state = _read(path)
        self.network = _build(state, path).requires_grad_(False).eval()
        self.source = f"sha256:{sha256_of(path)[:16]}"
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
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


def _find(name: str) -> Path:
    """Torchvision's file in torch.hub's cache, downloaded if need be."""
    url = NETWORKS[name][1].url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The name ends in the first digits of the checksum.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
        except (OSError, RuntimeError) as error:  # RuntimeError: what arrived has another checksum
            raise UserError(
                f"segmentation={name}: its weights are not at {path} and {url} could not be fetched ({error}): run "
                f"once with internet access, which fills the cache; or download that file elsewhere and give "
                f"segmentation=<its path>; or leave the comparison of meaning out with segmentation=null"
            ) from error
    return path


def _read(path: Path) -> dict[str, Any]:
    """A file's state dict, read without running code that the file may hold."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused, since it holds more than tensors and plain values: {error}") from error
    except Exception as error:  # torch's reader raises many kinds on damaged data
        raise UserError(f"{path}: damaged, or no weights at all: {error}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}; it must hold a state dict of {' or '.join(NETWORKS)}")
    return {key: value for key, value in state.items() if not str(key).startswith(_AUXILIARY)}


def _build(state: dict[str, Any], path: Path) -> nn.Module:
    """The network that the state dict belongs to, with its weights."""
    name = "lraspp_mobilenet_v3_large" if any("low_classifier" in str(key) for key in state) else "deeplabv3_resnet50"
    with torch.device("meta"):  # a skeleton, since every tensor is replaced
        network = NETWORKS[name][0](weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    missing, surplus = (
        [key for key in some if key not in others] for some, others in ((expected, state), (state, expected))
    )
    if missing or surplus:
        what = f"lacks {missing[0]}" if missing else f"also holds {surplus[0]}"
        raise UserError(f"{path}: no weights of {name}, for it {what}; give {_accepted()}")
    for key, shape in expected.items():
        if (found := tuple(getattr(state[key], "shape", ()))) != shape or not isinstance(state[key], Tensor):
            raise UserError(f"{path}: {key} should have the shape {shape} but has {found}; give {_accepted()}")
    network.load_state_dict(state, assign=True)
    return network.float()
