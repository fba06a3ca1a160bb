import math

import pytest
import torch
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks.attention import SelfAttention
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics


def attention(kind: str, channels: int = 4) -> SelfAttention:
    """With weights large enough that positions attend to different ones."""
    torch.manual_seed(0)
    layer = SelfAttention(channels, kind).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.8)
    return layer


def by_loops(layer: SelfAttention, features: torch.Tensor) -> torch.Tensor:
    """Position by position, from what the layer's own projections give."""
    result = features.clone()
    for image, x in enumerate(features):
        normalized = layer.norm(x[None])
        q, k, v = (part(normalized)[0].flatten(1).T for part in (layer.query, layer.key, layer.value))  # (P, C)
        positions, channels = q.shape
        rows = []
        for i in range(positions):
            if layer.kind == "full":
                weights = torch.stack([q[i] @ k[j] / math.sqrt(channels) for j in range(positions)]).exp()
                rows.append(sum(weights[j] * v[j] for j in range(positions)) / weights.sum())
            else:
                share = k.exp() / k.exp().sum(0)  # of a channel's key, over positions
                rows.append(sum((q[i] @ share[j]) * v[j] for j in range(positions)))
        attended = torch.stack(rows).T.view(1, channels, *x.shape[1:])
        result[image] += layer.out(attended)[0]
    return result


@pytest.mark.parametrize("kind", ["linear", "full"])
def test_it_is_that_of_the_papers(kind):
    layer, features = attention(kind), torch.randn(2, 4, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(features), by_loops(layer, features))


@pytest.mark.parametrize("kind", ["linear", "full"])
def test_a_part_sees_what_the_whole_showed(kind):
    network = nn.Sequential(nn.Identity(), attention(kind))
    features = torch.randn(1, 4, 6, 5, dtype=torch.float64)
    with record_statistics(network) as statistics:
        whole = network(features)
    with frozen_statistics(network, statistics):
        part = network(features[..., 2:4, 1:5])
    torch.testing.assert_close(part, whole[..., 2:4, 1:5], atol=1e-6, rtol=1e-6)
    assert (network(features[..., 2:4, 1:5]) - part).abs().max() > 0.05


def test_another_kind_is_refused():
    with pytest.raises(UserError, match="attention is 'sparse'; it must be 'linear' or 'full'"):
        SelfAttention(4, "sparse")
