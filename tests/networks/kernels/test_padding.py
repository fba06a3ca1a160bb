import pytest
import torch
from torch.nn import functional as F

from lit_ghibli.networks.kernels.padding import reflection_pad


@pytest.mark.parametrize("padding", [(3, 3, 3, 3), (0, 1, 0, 1), (2, 0, 1, 3)])
def test_values_and_gradients_are_pytorchs(padding):
    torch.manual_seed(0)
    ours = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    padded, expected = reflection_pad(ours * 1, padding), F.pad(theirs, padding, mode="reflect")
    assert torch.equal(padded, expected)
    weight = torch.randn_like(padded)
    (padded * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_nothing_is_kept_for_the_backward_pass():
    features, kept = torch.randn(1, 2, 5, 5, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        reflection_pad(features, (1, 1, 1, 1))
    assert not kept


def test_padding_compiles_and_needs_no_gradient():
    features = torch.randn(1, 2, 5, 5)
    expected = F.pad(features, (1, 1, 1, 1), mode="reflect")
    assert torch.equal(reflection_pad(features, (1, 1, 1, 1)), expected)
    compiled = torch.compile(reflection_pad, backend="eager", fullgraph=True)
    assert torch.equal(compiled(features.requires_grad_(), (1, 1, 1, 1)), expected)
