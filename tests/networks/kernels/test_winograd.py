import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lit_ghibli.networks.kernels import winograd
from lit_ghibli.networks.kernels.winograd import winograd_conv3x3

TOLERANCE = 2e-5  # of the largest element


def relative_error(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def reference(x, weight, bias, padding, padding_mode):
    x, weight = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    bias = None if bias is None else bias.detach().double().requires_grad_()
    mode = {"zeros": "constant", "reflect": "reflect"}[padding_mode]
    return F.conv2d(F.pad(x, [padding] * 4, mode=mode), weight, bias), (x, weight, bias)


@pytest.mark.parametrize("chunk_bytes", [10 * 2**20, 1], ids=["one chunk", "row by row"])
@pytest.mark.parametrize("size", [(3, 3), (4, 8), (5, 14), (18, 7), (33, 26)])
@pytest.mark.parametrize(("padding", "padding_mode"), [(0, "zeros"), (1, "zeros"), (1, "reflect")])
def test_outputs_and_gradients_agree_with_float64(monkeypatch, chunk_bytes, size, padding, padding_mode):
    monkeypatch.setattr(winograd, "_CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(winograd, "_MINIMUM_CHUNK_TILES", 1)
    torch.manual_seed(0)
    x = torch.randn(2, 5, *size, requires_grad=True)
    weight, bias = torch.randn(7, 5, 3, 3, requires_grad=True), torch.randn(7, requires_grad=True)
    y = winograd_conv3x3(x, weight, bias, padding, padding_mode)
    expected, inputs = reference(x, weight, bias, padding, padding_mode)
    assert relative_error(y, expected) < TOLERANCE
    grad_y = torch.randn_like(y)
    actual_gradients = torch.autograd.grad(y, (x, weight, bias), grad_y)
    for actual, wanted in zip(actual_gradients, torch.autograd.grad(expected, inputs, grad_y.double()), strict=True):
        assert relative_error(actual, wanted) < TOLERANCE


def test_error_at_the_bottleneck_of_the_generator():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 256, 32, 32, requires_grad=True), torch.randn(256, 256, 3, 3, requires_grad=True)
    y = winograd_conv3x3(x, weight, None, 1, "reflect")
    expected, (x64, weight64, _) = reference(x, weight, None, 1, "reflect")
    grad_y = torch.randn_like(y)
    gradients = torch.autograd.grad(y, (x, weight), grad_y)
    wanted = torch.autograd.grad(expected, (x64, weight64), grad_y.double())
    errors = [relative_error(y, expected), *map(relative_error, gradients, wanted)]
    assert max(errors) < TOLERANCE


@pytest.mark.parametrize("needed", ["x", "weight", "bias"])
def test_only_the_gradients_asked_for_are_computed(needed):
    tensors = {"x": torch.randn(1, 2, 9, 9), "weight": torch.randn(3, 2, 3, 3), "bias": torch.randn(3)}
    tensors[needed].requires_grad_()
    y = winograd_conv3x3(**tensors, padding=1)
    expected = F.conv2d(**{"input": tensors["x"], "weight": tensors["weight"], "bias": tensors["bias"]}, padding=1)
    actual, wanted = (torch.autograd.grad(out.sum(), tensors[needed])[0] for out in (y, expected))
    torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-4)


def test_a_transposed_gradient_is_accepted():
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3)
    grad_y = torch.randn(1, 3, 6, 6).transpose(2, 3)
    actual = torch.autograd.grad(winograd_conv3x3(x, weight), x, grad_y)[0]
    torch.testing.assert_close(actual, torch.autograd.grad(F.conv2d(x, weight), x, grad_y)[0], atol=1e-4, rtol=1e-4)


def test_only_the_input_and_the_weight_are_kept_for_the_backward_pass():
    x, weight = torch.randn(1, 4, 16, 16, requires_grad=True), torch.randn(4, 4, 3, 3, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda t: t):
        winograd_conv3x3(x, weight, padding=1, padding_mode="reflect")
    assert {tensor.data_ptr() for tensor in kept} == {x.data_ptr(), weight.data_ptr()}


class Storages(TorchDispatchMode):
    """Addresses of the memory that results of operations lie in, from some number of bytes."""

    def __init__(self, least):
        super().__init__()
        self.least, self.addresses = least, set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() >= self.least:
            self.addresses.add(result.untyped_storage().data_ptr())
        return result


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_no_copy_of_a_large_picture_is_made(monkeypatch, padding_mode):
    monkeypatch.setattr(winograd, "_kept", threading.local())
    monkeypatch.setattr(winograd, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(winograd, "_MINIMUM_CHUNK_TILES", 1)
    x, weight = torch.randn(1, 4, 128, 64, requires_grad=True), torch.randn(4, 4, 3, 3, requires_grad=True)
    with Storages(least=x.nbytes) as held:
        y = winograd_conv3x3(x, weight, None, 1, padding_mode)
        grad_x, _ = torch.autograd.grad(y, (x, weight), torch.ones_like(y).detach())
    given = {x.data_ptr(), grad_x.data_ptr(), y.data_ptr()}
    assert len(held.addresses - given) == 1  # the gradient to the output


@pytest.mark.parametrize("chunk_bytes", [10 * 2**20, 1], ids=["one chunk", "row by row"])
def test_what_another_call_left_in_memory_is_not_read(monkeypatch, chunk_bytes):
    monkeypatch.setattr(winograd, "_CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(winograd, "_MINIMUM_CHUNK_TILES", 1)
    monkeypatch.setattr(winograd, "_kept", threading.local())
    x, weight = torch.randn(2, 3, 9, 14, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    outcomes = []
    for _ in range(2):
        y = winograd_conv3x3(x, weight, None, 1, "reflect")
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), (x, weight))])
        for memory in vars(winograd._kept).values():
            memory.fill_(torch.nan)
    assert all(map(torch.equal, *outcomes))


def test_memory_first_used_in_inference_mode_serves_training_too(monkeypatch):
    monkeypatch.setattr(winograd, "_kept", threading.local())
    x, weight = torch.randn(1, 2, 9, 9), torch.randn(3, 2, 3, 3, requires_grad=True)
    with torch.inference_mode():
        small = winograd_conv3x3(x, weight)
    large = winograd_conv3x3(torch.cat([x, x], dim=3), weight, padding=1)
    large.sum().backward()
    torch.testing.assert_close(small, F.conv2d(x, weight), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(large[..., :8, :8], F.conv2d(x, weight, padding=1)[..., :8, :8], atol=1e-4, rtol=1e-4)


def test_calls_at_the_same_time_do_not_disturb_each_other():
    torch.manual_seed(0)
    weight = torch.randn(64, 64, 3, 3)
    photos = [torch.randn(1, 64, 40, 40) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for actual, photo in zip(pool.map(partial(winograd_conv3x3, weight=weight), photos), photos, strict=True):
                torch.testing.assert_close(actual, F.conv2d(photo, weight), atol=2e-3, rtol=0)


def test_gradients_are_as_exact_when_asked_for_inside_autocast():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 5, 9, 14, requires_grad=True), torch.randn(7, 5, 3, 3, requires_grad=True)
    y = winograd_conv3x3(x, weight, None, 1, "reflect")
    grad_y = torch.randn_like(y)
    expected, (x64, weight64, _) = reference(x, weight, None, 1, "reflect")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradients = torch.autograd.grad(y, (x, weight), grad_y)
    for actual, wanted in zip(gradients, torch.autograd.grad(expected, (x64, weight64), grad_y.double()), strict=True):
        assert actual.dtype == torch.float32
        assert relative_error(actual, wanted) < TOLERANCE
