"""The network that describes the style of a picture by a hundred numbers."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception3

from lit_ghibli.errors import UserError
from lit_ghibli.networks.mobilenet import MobileNetV2

SIDE = 256  # pixels of the square that a style is looked at in: embeddings move by a tenth at 192 or 320


class StylePredictor(nn.Module):
    """Features of a classification network, their mean over all positions, a linear layer.

    Args:
        style_dim: numbers of a style.
        backbone: ``mobilenet``, as Magenta published it (2,334,916 parameters), or ``inception``, the paper's:
            Inception-v3 to Mixed_6e, whose ReLUs are not capped here.

    Raises:
        UserError: On another backbone.

    Source: Ghiasi et al. 2017, section 3; the mobile one as in Magenta's code.
    """

    def __init__(self, style_dim: int = 100, backbone: Literal["mobilenet", "inception"] = "mobilenet") -> None:
        super().__init__()
        if backbone not in ("mobilenet", "inception"):
            raise UserError(f"backbone is {backbone!r}; it must be 'mobilenet' or 'inception'")
        self.trunk, channels = (MobileNetV2(), 1280) if backbone == "mobilenet" else (_inception(), 768)
        self.head = nn.Linear(channels, style_dim)

    def forward(self, pictures: Tensor) -> Tensor:
        """Describe ``(N, 3, H, W)`` in ``[-1, 1]``, 256 x 256 as in training, by ``(N, style_dim)``."""
        return self.head(self.trunk((pictures + 1) / 2).mean(dim=(2, 3)))

    def embed(self, pictures: Tensor) -> Tensor:
        """Describe pictures of any size by the square in their middle, brought to 256 x 256."""
        height, width = pictures.shape[-2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = pictures[..., top : top + side, left : left + side]
        return self(F.interpolate(square, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1))


def _inception() -> nn.Sequential:
    """Inception-v3 to Mixed_6e, with random weights."""
    network = Inception3(num_classes=1, aux_logits=False, init_weights=False)
    names = [name for name, _ in network.named_children()]
    return nn.Sequential(*(getattr(network, name) for name in names[: names.index("Mixed_6e") + 1]))
