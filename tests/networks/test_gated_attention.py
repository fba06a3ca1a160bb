import torch

from lit_ghibli.networks.gated_attention import GatedAttention
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.resnet import ResnetGenerator


def features(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_sagans_position_by_position():
    layer, x = GatedAttention(16).double(), features(2, 16, 3, 4)
    assert torch.equal(layer(x), x), "at the start it changes nothing"
    torch.nn.init.constant_(layer.gate, 0.7)
    query, key, value, out = (part.weight[:, :, 0, 0] for part in (layer.query, layer.key, layer.value, layer.out))
    assert query.shape == key.shape == value.shape == (2, 16)
    expected = x.clone()
    for image, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)).tolist():
        others = x[image].flatten(1)  # (C, H * W)
        asked = query @ x[image, :, row, column] + layer.query.bias
        scores = torch.stack([asked @ (key @ other + layer.key.bias) for other in others.T])
        shares = scores.exp() / scores.exp().sum()
        taken = sum(share * (value @ other + layer.value.bias) for share, other in zip(shares, others.T, strict=True))
        expected[image, :, row, column] += 0.7 * (out @ taken + layer.out.bias)
    torch.testing.assert_close(layer(x), expected)


def test_a_tile_sees_the_whole_picture_by_recorded_keys_and_values():
    layer, x = GatedAttention(8).double(), features(1, 8, 6, 6)
    torch.nn.init.constant_(layer.gate, 0.7)
    with record_statistics(layer) as statistics:
        whole = layer(x)
    with frozen_statistics(layer, statistics):
        torch.testing.assert_close(layer(x[..., 2:5, :3]), whole[..., 2:5, :3])


def test_generators_have_it_after_their_middle_block_where_asked_for():
    for make in (ResnetGenerator, OdeGenerator):
        torch.manual_seed(0)
        plain = make(base_channels=4, num_blocks=3)
        attending = make(base_channels=4, num_blocks=3, attention=True)
        added = sum(p.numel() for p in attending.parameters()) - sum(p.numel() for p in plain.parameters())
        assert added == 3 * (16 * 2 + 2) + 2 * 16 + 16 + 1
        attending.load_state_dict(plain.state_dict(), strict=False)
        photo = features(1, 3, 16, 16).float().tanh()
        torch.testing.assert_close(attending(photo), plain(photo))
        torch.nn.init.constant_(attending.attention.gate, 1.0)
        taps, others = (net(photo, features=True).features for net in (attending, plain))
        changed = {name for name in taps if not torch.equal(taps[name], others[name])}
        assert changed == {"bottleneck_middle"}
