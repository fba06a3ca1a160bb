"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3).

A tile of 4x4 outputs depends on 6x6 inputs. With x a flattened input tile (36), w a flattened kernel (9)
and y a flattened output tile (16), summed over input channels,

    y = A [(G w) * (B x)],

where * is elementwise: 36 products where the definition takes 144. The elementwise products of all
tiles and channels are 36 matrix products, in which almost all of the time is spent. The map is
linear in x and in w, so both gradients are transposes of the same small matrices.

Source: Lavin and Gray 2016, section 4; Winograd 1980.
"""

import math
import threading
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_INPUT_1D = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNEL_1D = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT_1D = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def _in_2d(matrix: list[list[float]]) -> Tensor:
    one_dimensional = torch.tensor(matrix, dtype=torch.float64, device="cpu")  # also inside torch.device("meta")
    return torch.kron(one_dimensional, one_dimensional).float()


_B, _G, _A = _in_2d(_INPUT_1D), _in_2d(_KERNEL_1D), _in_2d(_OUTPUT_1D)  # (36, 36), (36, 9), (16, 36)
_EVERYWHERE = 7  # the product that A adds to all outputs of a tile alike

# Transformed tiles of one chunk, in bytes: larger ones fall out of the caches, smaller ones make the
# matrix products too thin.
_CHUNK_BYTES = 10 * 2**20
_MINIMUM_CHUNK_TILES = 128


def _inside(band: Tensor, image: Tensor, first: int, padding: int) -> tuple[Tensor, Tensor, int, int]:
    """What a band, padded rows from ``first`` on, and an image share, as views of both; its rows within the band."""
    height, width = image.shape[1:]
    begin, end = max(padding - first, 0), min(padding - first + height, band.shape[1])
    begins_at = first - padding + begin
    return band[:, begin:end, padding : padding + width], image[:, begins_at : begins_at + end - begin], begin, end


def _fill(band: Tensor, image: Tensor, first: int, padding: int, padding_mode: str) -> None:
    """Make a band (C, H', W') padded rows of one image (C, H, W) from ``first`` on; beyond the padding it is zero."""
    inside, shown, begin, end = _inside(band, image, first, padding)
    width = padding + image.shape[2]
    for outside in (band[:, :begin], band[:, end:], band[:, :, :padding], band[:, :, width:]):
        outside.zero_()
    inside.copy_(shown)
    if padding and padding_mode == "reflect":
        band[:, :, 0], band[:, :, width] = band[:, :, 2], band[:, :, width - 2]
        if begin:
            band[:, 0] = band[:, 2]
        if end < band.shape[1]:
            band[:, end] = band[:, end - 2]


def _add(band: Tensor, image: Tensor, first: int, padding: int, padding_mode: str) -> None:
    """Transpose of `_fill`: add a band of gradients to an image's, which ends where it begins; the band is changed."""
    inside, shown, begin, end = _inside(band, image, first, padding)
    width = padding + image.shape[2]
    if padding and padding_mode == "reflect":
        if end < band.shape[1]:
            band[:, end - 2] += band[:, end]
        if begin:
            band[:, 2] += band[:, 0]
        band[:, :, width - 2] += band[:, :, width]
        band[:, :, 2] += band[:, :, 0]
    overlap = 2 if first else 0  # rows that the tiles above have a part in, too
    shown[:, :overlap] += inside[:, :overlap]
    shown[:, overlap:] = inside[:, overlap:]


_kept = threading.local()


def _workspace(purpose: str, *shape: int) -> Tensor:
    """Uninitialised memory of this shape, which the thread's next call for this purpose will get again.

    Freed blocks of this size go back to the system, and fresh pages for each call cost a seventh of its time.
    """
    memory, elements = getattr(_kept, purpose, None), math.prod(shape)
    if memory is None or memory.numel() < elements:
        with torch.inference_mode(False):  # else it could not be written to outside inference mode
            memory = torch.empty(elements)
        setattr(_kept, purpose, memory)
    return memory[:elements].view(shape)


class _Chunks:
    """Rows of tiles in portions that stay in the caches, and the memory they take turns in."""

    def __init__(self, images: int, channels: int, rows: int, columns: int, num_buffers: int) -> None:
        tiles = max(_CHUNK_BYTES // (channels * 36 * 4), _MINIMUM_CHUNK_TILES)
        self.images, self.rows = images, rows
        self.step = min(max(tiles // columns, 1), rows)
        elements = channels * max(36 * self.step * columns, 16 * (self.step + 1) * (columns + 1))  # tiles, or a band
        self.buffers = _workspace("tiles", num_buffers, elements)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Image, first and last + 1 row of tiles of each chunk."""
        for image in range(self.images):
            for first in range(0, self.rows, self.step):
                yield image, first, min(first + self.step, self.rows)

    def buffer(self, index: int, *shape: int) -> Tensor:
        return self.buffers[index, : math.prod(shape)].view(shape)


def _transform_inputs(band: Tensor, chunks: _Chunks, scratch: int, result: int) -> Tensor:
    """B x for every tile of a band of padded rows: (C, 4R + 2, 4Q + 2) -> (36, C, R * Q); it may lie in the result."""
    channels = len(band)
    windows = band.unfold(1, 6, 4).unfold(2, 6, 4).permute(0, 3, 4, 1, 2)
    tiles = chunks.buffer(scratch, *windows.shape).copy_(windows).view(channels, 36, -1)
    transformed = chunks.buffer(result, *tiles.shape)
    return torch.bmm(_B.expand(channels, -1, -1), tiles, out=transformed).transpose(0, 1)


def _as_tiles(outputs: Tensor, first: int, last: int) -> Tensor:
    """View of rows of output tiles of one image: (C, 4R, 4Q) -> (4, 4, C, last - first, Q)."""
    tiles = outputs.view(len(outputs), outputs.shape[1] // 4, 4, -1, 4)[:, first:last]
    return tiles.permute(2, 4, 0, 1, 3)


def _transform_kernels(weight: Tensor) -> Tensor:
    """G w for every kernel: (K, C, 3, 3) -> (36, K, C), valid until the thread's next call."""
    transformed = _workspace("kernels", 36, weight.shape[0] * weight.shape[1])
    return torch.mm(_G, weight.reshape(-1, 9).t(), out=transformed).view(36, *weight.shape[:2])


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, padding_mode: str) -> Tensor:
    height, width = x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2
    rows, columns = -(-height // 4), -(-width // 4)
    out_channels, in_channels = weight.shape[:2]
    kernels = _transform_kernels(weight)
    y = x.new_empty(len(x), out_channels, 4 * rows, 4 * columns)
    chunks = _Chunks(len(x), max(weight.shape[:2]), rows, columns, num_buffers=2)
    for image, first, last in chunks:
        band = chunks.buffer(1, in_channels, 4 * (last - first) + 2, 4 * columns + 2)
        _fill(band, x[image], 4 * first, padding, padding_mode)
        inputs = _transform_inputs(band, chunks, scratch=0, result=1)
        products = torch.bmm(kernels, inputs, out=chunks.buffer(0, 36, out_channels, inputs.shape[2]))
        if bias is not None:
            products[_EVERYWHERE] += bias.unsqueeze(1)
        tiles = torch.mm(_A, products.flatten(1), out=chunks.buffer(1, 16, out_channels * inputs.shape[2]))
        outputs = _as_tiles(y[image], first, last)
        outputs.copy_(tiles.view(outputs.shape))
    return y if (height, width) == y.shape[2:] else y[:, :, :height, :width].contiguous()


def _add_overlapping(tiles: Tensor, band: Tensor, chunks: _Chunks, scratch: int) -> Tensor:
    """Sum 6x6 tiles (36, C, R * Q), four apart, in a band (C, 4R + 4, 4Q + 4)."""
    channels, height, width = band.shape
    tiles = tiles.view(6, 6, channels, height // 4 - 1, -1)
    phases = chunks.buffer(scratch, 4, 4, channels, height // 4, width // 4)  # positions of the same place in a tile
    phases[..., -1, :] = 0
    phases[..., -1] = 0
    phases[..., :-1, :-1] = tiles[:4, :4]
    phases[:, :2, :, :-1, 1:] += tiles[:4, 4:]
    phases[:2, :, :, 1:, :-1] += tiles[4:, :4]
    phases[:2, :2, :, 1:, 1:] += tiles[4:, 4:]
    _as_tiles(band, 0, height // 4).copy_(phases)
    return band


def _transform_grad_outputs(grad_tiles: Tensor, chunks: _Chunks, scratch: int, result: int) -> Tensor:
    """Transpose of the output transform: (4, 4, K, R, Q) -> (36, K, R * Q)."""
    tiles = chunks.buffer(scratch, *grad_tiles.shape).copy_(grad_tiles).view(16, -1)
    transformed = chunks.buffer(result, 36, tiles.shape[1])
    return torch.mm(_A.t(), tiles, out=transformed).view(36, grad_tiles.shape[2], -1)


def _backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, padding: int, padding_mode: str, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients to the input and to the weight, where needed."""
    rows, columns = -(-grad_y.shape[2] // 4), -(-grad_y.shape[3] // 4)
    if grad_y.shape[2:] != (4 * rows, 4 * columns):
        grad_y = F.pad(grad_y, [0, 4 * columns - grad_y.shape[3], 0, 4 * rows - grad_y.shape[2]])
    grad_y = grad_y.contiguous()
    in_channels = x.shape[1]
    kernels = _transform_kernels(weight).transpose(1, 2) if needs[0] else None
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if needs[0] else None
    grad_kernels = _workspace("gradients", 36, *weight.shape[:2]) if needs[1] else None
    chunks = _Chunks(len(x), max(weight.shape[:2]), rows, columns, num_buffers=3)
    for image, first, last in chunks:
        position = 4 * first, padding, padding_mode
        grad_products = _transform_grad_outputs(_as_tiles(grad_y[image], first, last), chunks, 0, 1)
        if needs[0]:
            shape = 36, in_channels, grad_products.shape[2]
            grad_inputs = torch.bmm(kernels, grad_products, out=chunks.buffer(0, *shape)).flatten(1)
            grad_tiles = torch.mm(_B.t(), grad_inputs, out=chunks.buffer(2, *grad_inputs.shape))
            band = chunks.buffer(2, in_channels, 4 * (last - first) + 4, 4 * columns + 4)
            _add(_add_overlapping(grad_tiles, band, chunks, scratch=0), grad_x[image], *position)
        if needs[1]:
            band = chunks.buffer(2, in_channels, 4 * (last - first) + 2, 4 * columns + 2)
            _fill(band, x[image], *position)
            inputs = _transform_inputs(band, chunks, 0, 2)
            started = image > 0 or first > 0  # before, what is left of another call is not even read
            grad_kernels.baddbmm_(grad_products, inputs.transpose(1, 2), beta=float(started))
    grad_weight = (_G.t() @ grad_kernels.flatten(1)).t().contiguous().view(weight.shape) if needs[1] else None
    return grad_x, grad_weight


class _WinogradConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, padding_mode: str
    ) -> Tensor:
        # Nothing padded or transformed is kept: with reflection this saves less than F.pad and F.conv2d do.
        ctx.save_for_backward(x, weight)
        ctx.padding = padding, padding_mode
        return _forward(x, weight, bias, padding, padding_mode)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_x = grad_weight = None
        if needs_x or needs_weight:
            with torch.autocast("cpu", enabled=False):  # on if backward is called inside it: products would be bfloat16
                grad_x, grad_weight = _backward(grad_y, x, weight, *ctx.padding, (needs_x, needs_weight))
        return grad_x, grad_weight, grad_y.sum(dim=(0, 2, 3)) if needs_bias else None, None, None


def winograd_conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0, padding_mode: str = "zeros"
) -> Tensor:
    """Convolve with 3x3 kernels at stride 1 on the CPU in float32, by Winograd's F(4x4, 3x3).

    Equal to ``F.conv2d`` of the padded input up to rounding: against float64 the largest error is
    about 1e-5 of the largest output, for outputs and gradients alike. It can be differentiated once.

    Args:
        x: float32 ``(N, C, H, W)``.
        weight: float32 ``(K, C, 3, 3)``.
        bias: float32 ``(K,)`` or ``None``.
        padding: pixels added on every side; with it, H and W are at least 3.
        padding_mode: ``zeros`` or ``reflect``.

    Returns:
        float32 ``(N, K, H + 2 * padding - 2, W + 2 * padding - 2)``.

    Source: Lavin and Gray 2016, section 4.
    """
    return _WinogradConvolution.apply(x, weight, bias, padding, padding_mode)
