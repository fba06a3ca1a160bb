import math

import pytest
import torch

from lit_ghibli.errors import UserError
from lit_ghibli.networks.quantizer import VectorQuantizer, perplexity


def quantizer(num_codes: int = 6, dim: int = 3, **options) -> VectorQuantizer:
    torch.manual_seed(0)
    layer = VectorQuantizer(num_codes, dim, **options)
    torch.nn.init.normal_(layer.codebook)
    if layer.ema:
        layer.sums.copy_(layer.codebook.detach())
    return layer


def test_a_codebook_starts_in_a_small_cube():
    codebook = VectorQuantizer(50, 40).codebook
    assert 0.019 < codebook.abs().max() <= 1 / 50
    assert sum(parameter.numel() for parameter in VectorQuantizer(512, 512).parameters()) == 512 * 512


def test_each_position_becomes_the_nearest_code():
    layer, features = quantizer(), torch.randn(2, 3, 4, 5)
    quantized = layer(features)
    for n, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        distances = [math.dist(features[n, :, i, j].tolist(), code.tolist()) for code in layer.codebook]
        nearest = distances.index(min(distances))
        assert quantized.codes[n, i, j] == nearest
        assert torch.equal(quantized.nearest[n, :, i, j], layer.codebook[nearest])
    assert len(quantized.codes.unique()) > 3
    torch.testing.assert_close(quantized.straight_through, quantized.nearest)


def test_gradients_pass_the_rounding_to_the_features_and_reach_the_codebook_beside_it():
    layer, features = quantizer(), torch.randn(1, 3, 2, 2, requires_grad=True)
    factors = torch.randn(1, 3, 2, 2)
    quantized = layer(features)
    (quantized.straight_through * factors).sum().backward()
    torch.testing.assert_close(features.grad, factors)
    assert layer.codebook.grad is None
    (quantized.nearest * factors).sum().backward()
    expected = torch.zeros_like(layer.codebook)
    for i in range(2):
        for j in range(2):
            expected[quantized.codes[0, i, j]] += factors[0, :, i, j]
    torch.testing.assert_close(layer.codebook.grad, expected)


def test_codes_are_chosen_in_float32_under_autocast():
    layer, features = quantizer(num_codes=200), torch.randn(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = layer(features).codes
    assert torch.equal(under, layer(features).codes)


def test_moving_means_are_taken_in_float32_under_autocast():
    layer, same, features = quantizer(ema=0.9), quantizer(ema=0.9), torch.randn(1, 3, 8, 8)
    same.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer.observe(layer(features))
    same.observe(same(features))
    assert torch.equal(layer.sums, same.sums)


def test_perplexity_counts_equally_frequent_codes():
    assert perplexity(torch.tensor([3, 1, 3, 1]), 8).item() == pytest.approx(2)
    assert perplexity(torch.arange(8), 8).item() == pytest.approx(8)
    assert perplexity(torch.full((5,), 2), 8).item() == pytest.approx(1)
    assert perplexity(torch.tensor([0, 0, 0, 1]), 8).item() == pytest.approx(4 / 3**0.75)


def test_codes_in_use_are_those_chosen_lately():
    layer = VectorQuantizer(4, 1)
    layer.codebook.data = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert layer.in_use.item() == 0
    layer.observe(layer(torch.tensor([0.1, 2.2]).view(1, 1, 1, 2)))
    assert layer.idle.tolist() == [0, 101, 0, 101]
    assert layer.in_use.item() == 0.5
    for _ in range(99):
        layer.observe(layer(torch.tensor([0.1]).view(1, 1, 1, 1)), layer(torch.tensor([0.9]).view(1, 1, 1, 1)))
    assert layer.in_use.item() == 0.75
    layer.observe(layer(torch.tensor([0.1]).view(1, 1, 1, 1)))
    assert layer.in_use.item() == 0.5


def test_moving_means_are_those_of_the_paper():
    decay, layer = 0.9, quantizer(ema=0.9)
    assert not [parameter for parameter in layer.parameters() if parameter.requires_grad]
    layer.codebook.data[5] = layer.sums[5] = 100.0  # which nothing chooses: it stays where it is
    sizes, sums = [1.0] * 6, layer.sums.double().clone()
    expected = layer.codebook.detach().double().clone()
    for _ in range(90):
        quantized = layer(torch.randn(2, 3, 2, 3))
        layer.observe(quantized)
        vectors = quantized.features.permute(0, 2, 3, 1).reshape(-1, 3).double()
        for code in range(6):
            own = [vector for vector, chosen in zip(vectors, quantized.codes.flatten(), strict=True) if chosen == code]
            sizes[code] = decay * sizes[code] + (1 - decay) * len(own)
            sums[code] = decay * sums[code] + (1 - decay) * sum(own, torch.zeros(3))
            if sizes[code] > 1e-3:
                expected[code] = sums[code] / sizes[code]
        torch.testing.assert_close(layer.codebook.detach().double(), expected, atol=1e-4, rtol=1e-4)
    assert layer.codebook.isfinite().all()
    assert layer.sizes[5] < 1e-3


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_idle_codes_start_again_on_features(ema):
    layer = quantizer(ema=ema, restart_after=3)
    features = torch.randn(1, 3, 2, 2) + 4
    chosen = layer(features).codes
    layer.observe(layer(features))
    vectors = features.permute(0, 2, 3, 1).reshape(-1, 3)

    def on_features() -> list[bool]:
        return [bool((code == vectors).all(1).any()) for code in layer.codebook]

    new = [code for code in range(6) if code not in chosen]
    assert len(new) > 2
    assert all(on_features()[code] for code in new), "a new codebook is put on the first step's features"
    layer.idle.zero_()
    layer.codebook.data[4:] = -50.0
    if ema:
        layer.sums[4:] = -50 * layer.sizes[4:, None]
    for _ in range(2):
        layer.observe(layer(features))
    torch.testing.assert_close(layer.codebook[4:].detach(), torch.full((2, 3), -50.0))
    layer.observe(layer(features))
    assert on_features()[4:] == [True, True]
    assert layer.idle[4:].tolist() == [0, 0]


def test_a_checkpoint_and_the_random_state_say_what_follows():
    features = torch.randn(1, 3, 8, 8)
    layer, resumed = quantizer(ema=0.5, restart_after=2), VectorQuantizer(6, 3, ema=0.5, restart_after=2)
    layer.observe(layer(features))
    resumed.load_state_dict(layer.state_dict())
    for ours in (layer, resumed):
        torch.manual_seed(3)
        for number in range(4):
            ours.observe(ours(features + number))
    assert set(layer.state_dict()) == {"codebook", "idle", "sizes", "sums"}
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in layer.state_dict().items())


def test_a_decay_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"codebook_ema must be at least 0 and below 1; got 1"):
        VectorQuantizer(2, 2, ema=1.0)
