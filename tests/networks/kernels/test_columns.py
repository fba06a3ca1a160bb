import pytest
import torch
from torch.nn import functional as F

from lit_ghibli.networks.kernels import columns
from lit_ghibli.networks.kernels.columns import convolve_by_columns


def layer(kernel=(7, 5), size=(19, 14)):
    torch.manual_seed(0)
    return [torch.randn(2, 6, *size), torch.randn(3, 6, *kernel), torch.randn(3)]


def outcome(convolve, tensors, autocast=False):
    """Output and gradients to all."""
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    y = convolve(*tensors)
    grad_y = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        return [y, *torch.autograd.grad(y, tensors, grad_y)]


def assert_agrees_with_float64(tensors, autocast=False):
    expected = outcome(F.conv2d, [tensor.double() for tensor in tensors])
    for actual, wanted in zip(outcome(convolve_by_columns, tensors, autocast), expected, strict=True):
        assert actual.dtype == torch.float32
        assert actual.is_contiguous()
        assert (actual - wanted).abs().max() < 1e-6 * wanted.abs().max()


@pytest.mark.parametrize("chunk_bytes", [2**20, 2000, 1], ids=["one chunk", "some rows", "row by row"])
@pytest.mark.parametrize("kernel", [(7, 7), (4, 5), (1, 9)])
def test_outputs_and_gradients_agree_with_float64(monkeypatch, chunk_bytes, kernel):
    monkeypatch.setattr(columns, "_CHUNK_BYTES", chunk_bytes)
    assert_agrees_with_float64(layer(kernel))


def test_pictures_that_lie_otherwise_in_memory():
    pictures, *parameters = layer()
    assert_agrees_with_float64([pictures.contiguous(memory_format=torch.channels_last), *parameters])


def test_gradients_are_as_exact_when_asked_for_inside_autocast():
    assert_agrees_with_float64(layer(), autocast=True)


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_only_the_gradients_asked_for_are_computed(needed):
    tensors = layer()
    wanted = outcome(F.conv2d, tensors)[1 + needed]
    tensors[needed].requires_grad_()
    y = convolve_by_columns(*tensors)
    y.backward(torch.linspace(-1, 1, y.numel()).view_as(y))
    torch.testing.assert_close(tensors[needed].grad, wanted, atol=1e-4, rtol=1e-4)
