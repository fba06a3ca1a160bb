"""Inception v3 as a frozen source of 2048 pooled features, in the two versions that results are published with."""

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception_V3_Weights, inception_v3

from lit_ghibli.errors import UserError
from lit_ghibli.networks.weights import IMAGENET_MEAN, IMAGENET_STD, pick_weights, read_weights

TENSORFLOW_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
TENSORFLOW_CLASSES = 1008
TORCHVISION_URL = Inception_V3_Weights.IMAGENET1K_V1.url
SIDE = 299  # pixels


def tensorflow_inception(path: Path) -> nn.Module:
    """The network of the original FID: ``uint8`` images ``(N, 3, H, W)`` to features ``(N, 2048)``.

    Torchmetrics' own, which resizes to 299 x 299 pixels bilinearly, with antialiasing.

    Args:
        path: The file of :data:`TENSORFLOW_URL`.

    Raises:
        UserError: The file holds something else.

    Source: Heusel et al. 2017 (arXiv:1706.08500); weights converted by torch-fidelity.
    """
    from torchmetrics.image.fid import NoTrainInceptionV3

    advice = f"give the file of {TENSORFLOW_URL}"
    buffer = io.BytesIO()  # torch-fidelity unpickles anything: it gets a copy of what was read safely
    torch.save(read_weights(path, "torch-fidelity's Inception"), buffer)
    buffer.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights first
            network = NoTrainInceptionV3("inception-v3-compat", ["2048"], buffer, antialias=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no weights of the original FID's Inception ({error}); {advice}") from error
    return network.requires_grad_(False)


class TorchvisionInception(nn.Module):
    """Torchvision's Inception v3 up to its pooled features, as NijiGAN's FID has it.

    Images are squeezed to 299 x 299 pixels, antialiased, and normalised with ImageNet's statistics. The weights were
    trained on ``(x - 0.5) / 0.5``, to which torchvision's ``transform_input`` would bring them; NijiGAN's listing turns
    that off, so its FIDs are those of other features than the network's own.

    Args:
        path: State dict of torchvision's ``inception_v3``; its classifiers are not read.

    Raises:
        UserError: The file holds something else.

    Source: Szegedy et al. 2015 (arXiv:1512.00567); Santoso et al. 2024, section 5.3.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        with torch.device("meta"):
            network = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
        network.fc = nn.Identity()
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in network.state_dict().items()
            if not name.endswith("num_batches_tracked")  # older files have none, and only training needs them
        }
        network.to_empty(device="cpu")
        name = "torchvision's inception_v3"
        network.load_state_dict(pick_weights(read_weights(path, name), shapes, path, name), strict=False)
        self.network = network.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features ``(N, 2048)`` of ``uint8`` images ``(N, 3, H, W)``."""
        unit = F.interpolate(images.float() / 255.0, (SIDE, SIDE), mode="bilinear", antialias=True)
        return self.network((unit - self.mean) / self.std)
