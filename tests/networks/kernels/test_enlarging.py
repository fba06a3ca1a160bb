import pytest
import torch
import torch.nn.functional as F

from lit_ghibli.networks.kernels.enlarging import convolve_enlarged


@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_the_definition_and_its_gradients(with_bias):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 7, 9, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True) if with_bias else None
    enlarged = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = F.conv2d(F.pad(enlarged, (1, 1, 1, 1), mode="reflect"), weight, bias)
    found = convolve_enlarged(x, weight, bias)
    torch.testing.assert_close(found, expected)
    inputs = [tensor for tensor in (x, weight, bias) if tensor is not None]
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )
