"""Published layouts with random weights, tables of names written out, and the files that hold such."""

import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def drawn(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, those of norms around 1, of filters their constants."""
    torch.manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith(".filt"):
            row = torch.tensor([1.0, 2.0, 1.0] if shape[-1] == 3 else [1.0, 3.0, 3.0, 1.0])
            state[name] = (torch.outer(row, row) / 16).repeat(shape[0], 1, 1, 1)
        else:
            spread = 0.3 if len(shape) == 1 else 1.2 / torch.Size(shape).numel() ** 0.5 * max(shape) ** 0.5
            scale = len(shape) == 1 and not name.endswith(("bias", "biases", "shift", "beta"))
            state[name] = torch.randn(shape) * spread + scale
            if name.startswith("deconv3."):  # of pictures from 0 to 255
                state[name] = state[name] * 60 + 20
    return state


def conv(name: str, *shape: int, bias: bool = True, at: int = 0) -> Shapes:
    """A convolution's weight ``(out, in, size, size)`` and its bias, as long as axis ``at`` of the weight."""
    weight = {f"{name}.weight": (*shape, shape[-1])}
    return {**weight, f"{name}.bias": (shape[at],)} if bias else weight


def norm(name: str, channels: int, weight: str = "weight", bias: str = "bias") -> Shapes:
    return {f"{name}.{weight}": (channels,), f"{name}.{bias}": (channels,)}


def statistics(name: str, channels: int) -> Shapes:
    running = {f"{name}.running_mean": (channels,), f"{name}.running_var": (channels,)}
    return {**running, f"{name}.num_batches_tracked": ()}


def cyclegan(c: int = 64, blocks: int = 9, second: int = 5) -> Shapes:
    shapes = conv("model.1", c, 3, 7) | conv("model.4", 2 * c, c, 3) | conv("model.7", 4 * c, 2 * c, 3)
    for block in range(10, 10 + blocks):
        shapes |= conv(f"model.{block}.conv_block.1", 4 * c, 4 * c, 3)
        shapes |= conv(f"model.{block}.conv_block.{second}", 4 * c, 4 * c, 3)
    shapes |= conv(f"model.{10 + blocks}", 4 * c, 2 * c, 3, at=1) | conv(f"model.{13 + blocks}", 2 * c, c, 3, at=1)
    return shapes | conv(f"model.{17 + blocks}", 3, c, 7)


def old_cyclegan(c: int, blocks: int) -> Shapes:
    """With dropout in the blocks, and with statistics that nothing uses."""
    shapes = cyclegan(c, blocks, second=6) | statistics("model.2", c) | statistics("model.5", 2 * c)
    for block in range(10, 10 + blocks):
        shapes |= statistics(f"model.{block}.conv_block.2", 4 * c) | statistics(f"model.{block}.conv_block.7", 4 * c)
    return shapes


def cut(c: int = 64, blocks: int = 9) -> Shapes:
    shapes = conv("model.1", c, 3, 7) | conv("model.4", 2 * c, c, 3) | {"model.7.filt": (2 * c, 1, 3, 3)}
    shapes |= conv("model.8", 4 * c, 2 * c, 3) | {"model.11.filt": (4 * c, 1, 3, 3)}
    for block in range(12, 12 + blocks):
        shapes |= conv(f"model.{block}.conv_block.1", 4 * c, 4 * c, 3)
        shapes |= conv(f"model.{block}.conv_block.5", 4 * c, 4 * c, 3)
    shapes |= {f"model.{12 + blocks}.filt": (4 * c, 1, 4, 4)} | conv(f"model.{13 + blocks}", 2 * c, 4 * c, 3)
    shapes |= {f"model.{16 + blocks}.filt": (2 * c, 1, 4, 4)} | conv(f"model.{17 + blocks}", c, 2 * c, 3)
    return shapes | conv(f"model.{21 + blocks}", 3, c, 7)


def pix2pix(c: int = 64, depth: int = 8, batch: bool = True) -> Shapes:
    def normalized(name: str, channels: int) -> Shapes:
        return norm(name, channels) | statistics(name, channels) if batch else {}

    widths = [c * min(2**level, 8) for level in range(depth)]
    shapes, prefix = conv("model.model.0", c, 3, 4, bias=not batch), "model.model.1.model"
    if batch:
        shapes = {"model.model.0.weight": (c, 3, 4, 4)}
    for level in range(1, depth - 1):
        shapes |= conv(f"{prefix}.1", widths[level], widths[level - 1], 4, bias=not batch)
        shapes |= normalized(f"{prefix}.2", widths[level])
        shapes |= conv(f"{prefix}.5", 2 * widths[level], widths[level - 1], 4, bias=not batch, at=1)
        shapes |= normalized(f"{prefix}.6", widths[level - 1])
        prefix += ".3.model"
    shapes |= conv(f"{prefix}.1", widths[-1], widths[-2], 4, bias=not batch)
    shapes |= conv(f"{prefix}.3", widths[-1], widths[-2], 4, bias=not batch, at=1)
    shapes |= normalized(f"{prefix}.4", widths[-2])
    return shapes | conv("model.model.3", 2 * c, 3, 4, at=1)


def cartoongan(c: int = 64, blocks: int = 8) -> Shapes:
    def scaled(name: str, channels: int) -> Shapes:
        return norm(name, channels, "scale", "shift")

    shapes = conv("conv01_1", c, 3, 7) | scaled("in01_1", c)
    for stage, width in ((2, 2 * c), (3, 4 * c)):
        shapes |= conv(f"conv0{stage}_1", width, width // 2, 3) | conv(f"conv0{stage}_2", width, width, 3)
        shapes |= scaled(f"in0{stage}_1", width)
    for stage in range(4, 4 + blocks):
        for number in (1, 2):
            shapes |= conv(f"conv{stage:02}_{number}", 4 * c, 4 * c, 3) | scaled(f"in{stage:02}_{number}", 4 * c)
    for stage, width in ((1, 2 * c), (2, c)):
        shapes |= conv(f"deconv0{stage}_1", 2 * width, width, 3, at=1) | conv(f"deconv0{stage}_2", width, width, 3)
        shapes |= scaled(f"in{3 + blocks + stage:02}_1", width)
    return shapes | conv("deconv03_1", 3, c, 7)


# Of AnimeGANv2, in the order in which they run: out channels, in channels and kernel, by widths at full resolution.
ANIME = (
    (("a", 0), 1, 0, 7),
    (("a", 1), 2, 1, 3),
    (("a", 2), 2, 2, 3),
    (("b", 0), 4, 2, 3),
    (("b", 1), 4, 4, 3),
    (("c", 0), 4, 4, 3),
    (("c", 5), 4, 8, 3),
    (("d", 0), 4, 4, 3),
    (("d", 1), 4, 4, 3),
    (("e", 0), 2, 4, 3),
    (("e", 1), 2, 2, 3),
    (("e", 2), 1, 2, 7),
)


def animegan2_pytorch(c: int = 32) -> Shapes:
    shapes = {}
    for (group, number), out, inside, size in ANIME:
        name = f"block_{group}.{number}"
        shapes |= conv(f"{name}.1", c * out, c * inside or 3, size, bias=False) | norm(f"{name}.2", c * out)
    for block in range(1, 5):
        name, inside = f"block_c.{block}.layers", c * (4 if block == 1 else 8)
        shapes |= conv(f"{name}.0.1", 2 * inside, inside, 1, bias=False) | norm(f"{name}.0.2", 2 * inside)
        shapes |= conv(f"{name}.1.1", 2 * inside, 1, 3) | norm(f"{name}.1.2", 2 * inside)
        shapes |= conv(f"{name}.2", 8 * c, 2 * inside, 1, bias=False) | norm(f"{name}.3", 8 * c)
    return shapes | conv("out_layer.0", 3, c, 1, bias=False)


def pytorch_animegan(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of another port, whose last convolution has a bias."""
    groups = {"a": "conv_block1", "b": "conv_block2", "c": "res_blocks", "d": "conv_block3", "e": "conv_block4"}
    parts = {"0.1": "conv_block.conv", "0.2": "conv_block.ins_norm", "1.1": "conv_block2.conv"}
    parts |= {"1.2": "conv_block2.ins_norm", "2": "conv", "3": "norm"}
    head = "decode_blocks.0"
    renamed = {f"{head}.weight": state["out_layer.0.weight"], f"{head}.bias": torch.tensor([0.3, 0, -1])}
    for name, value in state.items():
        if name.startswith("block"):
            group, (number, rest, leaf) = name[6], (name[8], *name[10:].rsplit(".", 1))
            rest = parts[rest[7:]] if rest.startswith("layers") else {"1": "conv", "2": "ins_norm"}[rest]
            renamed[f"{groups[group]}.{number}.{rest}.{leaf}"] = value
    return renamed


def animegan2_tensorflow(state: dict[str, Tensor]) -> dict[str, NDArray]:
    """The same weights as their authors' checkpoint has them."""
    arrays = {}
    for name, value in state.items():
        kernel = value.permute(2, 3, 1, 0) if value.dim() == 4 else value
        group, number, *rest = name.split(".")
        scope = f"generator/G_MODEL/{group[-1].upper()}"
        if group == "out_layer":
            arrays["generator/G_MODEL/out_layer/Conv/weights"] = kernel
        elif rest[0] == "layers":
            block, part = f"{scope}/r{number}", ".".join(rest[1:-1])
            if part == "1.1" and rest[-1] == "weight":
                arrays[f"{block}/r{number}/w"] = value.permute(2, 3, 0, 1)
            elif part == "1.1":
                arrays[f"{block}/r{number}/bias"] = value
            elif part in ("0.1", "2"):
                arrays[f"{block}/{'Conv' if part == '0.1' else 'Conv_1'}/weights"] = kernel
            else:
                of_norm = {"0.2": "LayerNorm", "1.2": "1", "3": "2"}[part]
                arrays[f"{block}/{of_norm}/{'gamma' if rest[-1] == 'weight' else 'beta'}"] = value
        else:
            count = {"0": "", "5": "_1"}.get(number, f"_{number}")
            if rest[0] == "1":
                arrays[f"{scope}/Conv{count}/weights"] = kernel
            else:
                arrays[f"{scope}/LayerNorm{count}/{'gamma' if rest[-1] == 'weight' else 'beta'}"] = value
    return {name: np.ascontiguousarray(value) for name, value in arrays.items()}


def whitebox(c: int = 32, blocks: int = 4) -> Shapes:
    sizes = [(3, c, 7), (c, c, 3), (c, 2 * c, 3), (2 * c, 2 * c, 3), (2 * c, 4 * c, 3), (4 * c, 2 * c, 3)]
    sizes += [(2 * c, 2 * c, 3), (2 * c, c, 3), (c, c, 3), (c, 3, 7)]
    layers = {f"generator/Conv{f'_{n}' if n else ''}": size for n, size in enumerate(sizes)}
    layers |= {f"generator/block_{n}/conv{m}": (4 * c, 4 * c, 3) for n in range(blocks) for m in (1, 2)}
    shapes = {}
    for name, (inside, out, size) in layers.items():
        shapes |= {f"{name}/weights": (size, size, inside, out), f"{name}/biases": (out,)}
    return shapes


def fast_style(c: int = 32, blocks: int = 5) -> Shapes:
    def layer(name: str, of_norm: str, *shape: int) -> Shapes:
        return conv(f"{name}.conv2d", *shape) | norm(of_norm, shape[0])

    shapes = (
        layer("conv1", "in1", c, 3, 9) | layer("conv2", "in2", 2 * c, c, 3) | layer("conv3", "in3", 4 * c, 2 * c, 3)
    )
    for block in range(1, blocks + 1):
        for number in (1, 2):
            shapes |= layer(f"res{block}.conv{number}", f"res{block}.in{number}", 4 * c, 4 * c, 3)
    shapes |= layer("deconv1", "in4", 2 * c, 4 * c, 3) | layer("deconv2", "in5", c, 2 * c, 3)
    return shapes | conv("deconv3.conv2d", 3, c, 9)


# --- files -----------------------------------------------------------------------


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def message(**fields: int | bytes) -> bytes:
    """A protocol buffer of fields called f1, f2, ...: numbers, or texts of bytes."""
    written = b""
    for name, value in fields.items():
        tag = int(name[1:]) << 3
        written += (
            varint(tag) + varint(value) if isinstance(value, int) else (varint(tag | 2) + varint(len(value)) + value)
        )
    return written


def block_of(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a sorted table: of each key what differs from the one before it, then where searching begins."""
    written, before = b"", b""
    for key, value in entries:
        shared = next((n for n, pair in enumerate(zip(key, before, strict=False)) if pair[0] != pair[1]), 0)
        written += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return written + struct.pack("<II", 0, 1)


def write_tensorflow(path: Path, arrays: dict[str, NDArray], in_block: int = 5) -> Path:
    """A checkpoint of TensorFlow with a counter besides; return its index."""
    data, entries = b"", [(b"", message(f1=1))]
    for name, array in sorted(arrays.items()):
        dimensions = b"".join(message(f2=message(f1=extent)) for extent in array.shape)
        content = array.astype("<f4").tobytes()
        fields = {"f1": 1, "f2": dimensions, "f4": len(data), "f5": len(content)}
        entries.append((name.encode(), message(**fields) + b"\x35abcd"))  # with a checksum, of a fixed length
        data += content
    entries.append((b"global_step", message(f1=9, f4=len(data), f5=8)))
    entries.sort()
    table, places = b"", []
    for start in range(0, len(entries), in_block):
        block = block_of(entries[start : start + in_block])
        places.append((entries[min(start + in_block, len(entries)) - 1][0], varint(len(table)) + varint(len(block))))
        table += block + b"\0abcd"  # not compressed; a checksum
    meta, index = block_of([]), block_of(places)
    footer = varint(len(table)) + varint(len(meta)) + varint(len(table + meta) + 5) + varint(len(index))
    table += meta + b"\0abcd" + index + b"\0abcd" + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(data + b"step" * 2)
    index_file = path.with_name(f"{path.name}.index")
    index_file.write_bytes(table)
    return index_file
