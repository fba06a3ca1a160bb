"""Features of VGG-19: what content, style and perceptual losses compare."""

import difflib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_later
from torchvision.models import VGG19_Weights

from lit_ghibli.checksums import sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8
from lit_ghibli.networks.convolutions import Conv2d
from lit_ghibli.networks.sizes import check_images
from lit_ghibli.networks.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    find_weights,
    pick_weights,
    published_digits,
    read_weights,
)

_WIDTHS = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)


def _name_layers() -> Iterator[str]:
    for stage, widths in enumerate(_WIDTHS, start=1):
        for number in range(1, len(widths) + 1):
            yield from (f"conv{stage}_{number}", f"relu{stage}_{number}")
        yield f"pool{stage}"


LAYERS = tuple(_name_layers())  # a layer's place here is its index in torchvision's `features`

_CHANNELS = itertools.pairwise((3, *itertools.chain(*_WIDTHS)))
_CONVOLUTIONS = dict(zip((name for name in LAYERS if name.startswith("conv")), _CHANNELS, strict=True))  # (in, out)

# What pixels in [0, 1] are moved and scaled by: means and deviations of red, green and blue
_INPUT_RANGES = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "caffe": (tuple(level / 255 for level in (123.68, 116.779, 103.939)), (1 / 255,) * 3),
}

_IMAGENET_URL = VGG19_Weights.IMAGENET1K_V1.url
_NETWORK = "torchvision's vgg19 (the one without batch norm), or of its `features`"

_WAYS_OUT = (
    "run once with internet access, which fills the cache; or give method.vgg.weights=<path of a .pth, .pt or "
    ".safetensors file of torchvision's vgg19>; or ask for method.vgg.weights=random, whose features know nothing of "
    "pictures"
)


def layer_name(tap: str | int) -> str:
    """The name of a layer of VGG-19 that is given by name or by its index in torchvision's ``features``.

    ``conv4_1`` and 19 are the fourth stage's first convolution, before its ReLU; ``relu4_1`` and 20 are after it.

    Args:
        tap: one of :data:`LAYERS`, or 0 to 36, also as text.

    Raises:
        UserError: There is no such layer; the message offers the nearest names.
    """
    text = str(tap).lower()
    if text in LAYERS:
        return text
    if text.isdecimal() and int(text) < len(LAYERS):
        return LAYERS[int(text)]
    nearest = _nearest_layers(text)
    offer = f" Did you mean {', '.join(nearest)}?" if nearest else ""
    raise UserError(
        f"VGG-19 has no layer {tap!r}.{offer} Its layers are conv1_1 (before its ReLU), relu1_1 (after it), ..., "
        f"{LAYERS[-1]}, or their indices in torchvision's `features`, 0 to {len(LAYERS) - 1}"
    )


def _nearest_layers(text: str) -> list[str]:
    """Up to three similar names, those of the same stage first: to difflib, conv5_4 is as near to conv4_5."""
    bare = "".join(filter(str.isalnum, text))
    names = {name.replace("_", ""): name for name in LAYERS}
    similar = difflib.get_close_matches(bare, names, n=len(names))
    similar.sort(key=lambda name: name[:5] != bare[:5])
    return [names[name] for name in similar[:3]]


def _keys_and_shapes(names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Torchvision's keys for the convolutions among the named layers, within ``features``, and their shapes."""
    expected = {}
    for name in names:
        if name in _CONVOLUTIONS:
            in_channels, out_channels = _CONVOLUTIONS[name]
            expected[f"{LAYERS.index(name)}.weight"] = (out_channels, in_channels, 3, 3)
            expected[f"{LAYERS.index(name)}.bias"] = (out_channels,)
    return expected


def _draw(expected: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """He-normal weights and zero biases, whatever the default device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    state = {key: torch.zeros(shape, device="cpu") for key, shape in expected.items()}
    for key, tensor in state.items():
        if key.endswith("weight"):
            nn.init.kaiming_normal_(tensor, nonlinearity="relu", generator=generator)
    return state


def _identify(path: Path) -> str:
    found = sha256_of(path)
    return "imagenet" if found.startswith(published_digits(_IMAGENET_URL)) else f"sha256:{found[:16]}"


def _load(weights: str | Path, names: Iterable[str], seed: int) -> tuple[dict[str, Tensor], str]:
    """Weights of the convolutions among the named layers, and where they are from."""
    expected = _keys_and_shapes(names)
    if str(weights) == "random":
        return _draw(expected, seed), "random"
    path = find_weights(_IMAGENET_URL, _WAYS_OUT) if str(weights) == "imagenet" else Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"weights={weights}: no such file; give imagenet, random, or the path of VGG-19's weights")
    state = read_weights(path, _NETWORK)
    prefix = "" if "0.weight" in state else "features."
    picked = pick_weights(state, {prefix + key: shape for key, shape in expected.items()}, path, _NETWORK)
    return {key: picked[prefix + key] for key in expected}, _identify(path)


class _FrozenConvolution(Conv2d):
    """A 3x3 convolution with constant weights, which no checkpoint stores.

    The weights are parameters without gradient rather than non-persistent buffers, since DDP sends all
    buffers to every process in each step.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], 3, padding=1, device="meta")
        self.weight, self.bias = (
            nn.Parameter(tensor.to(torch.float32, copy=True), requires_grad=False) for tensor in (weight, bias)
        )

    def _save_to_state_dict(self, *arguments: Any, **options: Any) -> None:
        pass

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        pass


class VggFeatures(nn.Module):
    """Features of an ImageNet-trained VGG-19 at chosen layers; the network ends at the deepest of them.

    Frozen: no parameter has a gradient, ``train()`` has no effect, and state dicts of modules that hold one
    neither store nor expect its weights.

    A ``conv`` tap is the convolution's output before its ReLU, also where it is given by index. Torchvision's
    own ReLUs work in place, and code that collects conv outputs from them sees rectified values; ask
    for the ``relu`` tap to have those, or for ``rectified``. Here a ReLU works in place only where no tap needs its
    input.

    Args:
        taps: layers by name (``conv4_1``, ``relu4_1``, ``pool4``) or index; see :func:`layer_name`.
        weights: ``imagenet`` (torchvision's, from torch.hub's cache, else fetched), ``random``, or the path of a
            .pth, .pt or .safetensors state dict of torchvision's whole ``vgg19`` or of its ``features`` alone.
        pool: ``max`` as trained, or ``average``, which Gatys et al. prefer for synthesis.
        seed: of ``random`` weights, drawn without touching the global generator.
        checkpoint: keep only each stage's input and taps for the backward pass and compute the rest again.
        input_range: what the network is fed. ``imagenet``: pixels in ``[0, 1]`` normalised with ImageNet's statistics,
            as torchvision's weights were trained. ``unit``: pixels in ``[0, 1]``, as much released code has it; then
            features are of another, smaller scale, and weights of losses mean less. ``caffe``: blue, green, red in
            0..255, less ImageNet's means, for weights from Caffe.
        rectified: give ``conv`` taps after their ReLU, too, by their own names.

    Attributes:
        network: what it is called.
        taps: names of the tapped layers, from shallow to deep.
        minimum_size: smallest height and width that the deepest tap allows, in pixels.
        source: where the weights are from: ``imagenet``, ``random``, or ``sha256:`` and the file's first 16 digits.

    Raises:
        UserError: on an unknown tap, pool or input range, and on weights that cannot be had, read or used.

    Source: Simonyan and Zisserman 2015, configuration E; Gatys et al. 2016, section 2.
    """

    network = "VGG-19"

    def __init__(
        self,
        taps: Iterable[str | int],
        weights: str | Path = "imagenet",
        pool: Literal["max", "average"] = "max",
        seed: int = 0,
        checkpoint: bool = False,
        input_range: Literal["imagenet", "unit", "caffe"] = "imagenet",
        rectified: bool = False,
    ) -> None:
        super().__init__()
        if input_range not in _INPUT_RANGES:
            raise UserError(f"input_range is {input_range!r}; it must be one of {', '.join(_INPUT_RANGES)}")
        if pool not in ("max", "average"):
            raise UserError(f"pool is {pool!r}; it must be 'max' or 'average'")
        self.taps = tuple(sorted({layer_name(tap) for tap in taps}, key=LAYERS.index))
        if not self.taps:
            raise UserError("taps is empty; name at least one layer of VGG-19, such as relu4_1")
        names = LAYERS[: LAYERS.index(self.taps[-1]) + 1]
        self.minimum_size = 2 ** sum(name.startswith("pool") for name in names)
        self.checkpoint, self.rectified, self.input_range = checkpoint, rectified, input_range
        state, self.source = _load(weights, names, seed)
        layers = {name: self._build(name, state, pool) for name in names}
        stages = itertools.groupby(names, key=lambda name: name[4])
        self.stages = nn.ModuleList(nn.ModuleDict({name: layers[name] for name in stage}) for _, stage in stages)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in _INPUT_RANGES[input_range])
        # The statistics move to the images' range, not the images to theirs: to_unit clamps, which would leave
        # pixels beyond the range without gradient for ever.
        self.register_buffer("mean", from_uint8(255 * mean), persistent=False)
        self.register_buffer("std", from_uint8(255 * (mean + std)) - self.mean, persistent=False)
        self.eval()

    def _build(self, name: str, state: dict[str, Tensor], pool: str) -> nn.Module:
        index = LAYERS.index(name)
        if name.startswith("conv"):
            return _FrozenConvolution(state[f"{index}.weight"], state[f"{index}.bias"])
        if name.startswith("relu"):
            return nn.ReLU(inplace=LAYERS[index - 1] not in self.taps)
        return nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)

    def train(self, mode: bool = True) -> "VggFeatures":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features of images.

        Args:
            images: ``(N, 3, H, W)`` in ``[-1, 1]``, at least ``minimum_size`` high and wide. Values beyond the
                range are not clamped.

        Returns:
            For each name in ``taps`` the features ``(N, C, h, w)``, h and w being H and W halved, rounded
            down, at every pooling up to the tap.

        Raises:
            UserError: on images that are too small or have not three channels.
        """
        check_images(self.network, images, self.minimum_size, self.taps[-1])
        x, features = (images - self.mean) / self.std, {}
        if self.input_range == "caffe":
            x = x.flip(1)
        for stage in self.stages:
            if self.checkpoint and torch.is_grad_enabled():
                x, tapped = recompute_later(self._run, stage, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x, tapped = self._run(stage, x)
            features.update(tapped)
        return features

    def _run(self, stage: nn.ModuleDict, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tapped = {}
        for name, layer in stage.items():
            x = layer(x)
            if name in self.taps:
                tapped[name] = x.relu() if self.rectified and name.startswith("conv") else x
        return x, tapped
