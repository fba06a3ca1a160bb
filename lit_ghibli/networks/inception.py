"""Inception v3 as a frozen source of 2048 pooled features, in the two versions that results are published with.

Weights are read without running code that their file may hold; fetched files are known by their checksum.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception_V3_Weights, inception_v3

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError

TENSORFLOW_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
TENSORFLOW_CLASSES = 1008
TORCHVISION_URL = Inception_V3_Weights.IMAGENET1K_V1.url
SIDE = 299  # pixels

_IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
_IMAGENET_STD = (0.229, 0.224, 0.225)


def find_weights(url: str, ways_out: str) -> Path:
    """The file of a URL in torch.hub's cache, downloaded if need be; its name ends in its checksum's first digits.

    Args:
        url: Of a file named ``<anything>-<digits>.pth``.
        ways_out: What a person without this file can do instead, for the error.

    Raises:
        UserError: It is neither there nor can be fetched, or is damaged.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    digits = path.stem.rpartition("-")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: what arrived has another checksum
            raise UserError(f"no weights at {path}, and {url} could not be fetched ({error}): {ways_out}") from error
    if not (found := sha256_of(path)).startswith(digits):
        raise UserError(
            f"{path}: damaged, its SHA-256 {found[:16]} does not begin with {digits}; delete it, and {ways_out}"
        )
    return path


def read_weights(path: Path, network: str) -> dict[str, Any]:
    """The state dict in a file.

    Args:
        path: A ``.pth`` or ``.pt`` file.
        network: Whose weights these should be, for errors.

    Raises:
        UserError: The file is missing, damaged, refused as unsafe, or holds something else.
    """
    advice = f"give a state dict of {network}"
    if not path.is_file():
        raise UserError(f"{path}: no such file; {advice}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused, since it holds more than tensors and plain values: {error}") from error
    except Exception as error:  # torch's reader raises many kinds on damaged data
        raise UserError(f"{path}: damaged, or no weights at all ({error}); {advice}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}; {advice}")
    return dict(state)


def pick_weights(path: Path, shapes: dict[str, tuple[int, ...]], network: str) -> dict[str, Tensor]:
    """The tensors of these names and shapes in a file of weights; what else it holds is left out.

    Raises:
        UserError: As `read_weights`, and where one is missing or has another shape.
    """
    state, advice = read_weights(path, network), f"give a state dict of {network}"
    for name, shape in shapes.items():
        if name not in state:
            raise UserError(f"{path}: has no {name}; {advice}")
        if (found := tuple(getattr(state[name], "shape", ()))) != shape:
            raise UserError(f"{path}: {name} should have the shape {shape} but has {found}; {advice}")
    return {name: state[name] for name in shapes}


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
    """Torchvision's Inception v3 up to its pooled features; images are resized to 299 x 299 pixels, antialiased.

    Args:
        path: State dict of torchvision's ``inception_v3``; its classifiers are not read.

    Raises:
        UserError: The file holds something else.

    Source: Szegedy et al. 2015 (arXiv:1512.00567); NijiGAN measures its FID with it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        with torch.device("meta"):
            network = inception_v3(weights=None, aux_logits=False, transform_input=True, init_weights=False)
        network.fc = nn.Identity()
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in network.state_dict().items()
            if not name.endswith("num_batches_tracked")  # older files have none, and only training needs them
        }
        network.to_empty(device="cpu")
        network.load_state_dict(pick_weights(path, shapes, "torchvision's inception_v3"), strict=False)
        self.network = network.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features ``(N, 2048)`` of ``uint8`` images ``(N, 3, H, W)``."""
        unit = F.interpolate(images.float() / 255.0, (SIDE, SIDE), mode="bilinear", antialias=True)
        return self.network((unit - self.mean) / self.std)
