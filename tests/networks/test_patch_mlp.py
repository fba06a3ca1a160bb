import math

import pytest
import torch

from lit_ghibli.networks.patch_mlp import PatchMlp, draw_locations

CHANNELS = {"pixels": 3, "deep": 6}


def some_features(images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"pixels": (3, 8, 10), "deep": (6, 2, 3)}
    return {tap: torch.randn(images, *size, generator=generator) for tap, size in sizes.items()}


def a_patch_mlp(dim=5, seed=0):
    torch.manual_seed(seed)
    return PatchMlp(CHANNELS, dim)


def by_hand(head, vector):
    """One vector through a head, in plain Python."""
    first, second = ((layer.weight.tolist(), layer.bias.tolist()) for layer in (head[0], head[2]))
    affine = [sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(*first, strict=True)]
    hidden = [max(value, 0.0) for value in affine]
    out = [sum(w * x for w, x in zip(row, hidden, strict=True)) + b for row, b in zip(*second, strict=True)]
    length = math.sqrt(sum(value**2 for value in out))
    return [value / length for value in out]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_agrees_with_a_loop_over_locations(memory_format):
    patch_mlp = a_patch_mlp().double()
    for parameter in patch_mlp.parameters():
        torch.nn.init.normal_(parameter)
    features = {tap: maps.double().contiguous(memory_format=memory_format) for tap, maps in some_features().items()}
    locations = {"pixels": torch.tensor([79, 0, 23]), "deep": torch.tensor([4, 1])}
    projected = patch_mlp(features, locations)
    assert list(projected) == list(CHANNELS)
    for tap, maps in features.items():
        width = maps.shape[3]
        rows = [
            [by_hand(patch_mlp.heads[tap], maps[n, :, at // width, at % width].tolist()) for at in locations[tap]]
            for n in range(2)
        ]
        torch.testing.assert_close(projected[tap], torch.tensor(rows, dtype=torch.float64))


def test_weights_start_narrow_and_vectors_long_enough():
    """Those of the darkest grey of 8 bits are still divided by their own length."""
    torch.manual_seed(0)
    for initialization, std in {"normal": 0.02, "xavier": 0.02 * (2 / 512) ** 0.5}.items():
        patch_mlp = PatchMlp({"pixels": 3, "deep": 256}, initialization=initialization)
        assert patch_mlp.heads["deep"][2].weight.std().item() == pytest.approx(std, rel=0.02)
        grey = {"pixels": torch.full((1, 3, 1, 1), 1 / 255), "deep": torch.ones(1, 256, 1, 1)}
        vectors = patch_mlp(grey, dict.fromkeys(grey, torch.tensor([0])))
        assert vectors["pixels"].norm().item() == pytest.approx(1, abs=1e-4)


def test_gradients_reach_the_chosen_locations_only_and_every_weight():
    patch_mlp, features = a_patch_mlp(), some_features()
    for maps in features.values():
        maps.requires_grad_()
    projected = patch_mlp(features, {"pixels": torch.tensor([3, 11]), "deep": torch.tensor([5])})
    sum((vectors**3).sum() for vectors in projected.values()).backward()
    for tap, chosen in {"pixels": [3, 11], "deep": [5]}.items():
        touched = features[tap].grad.abs().sum(dim=(0, 1)).flatten().nonzero().flatten()
        assert touched.tolist() == chosen
    assert all(parameter.grad.abs().max() > 0 for parameter in patch_mlp.parameters())


def test_parameters_are_there_from_the_start():
    channels = {"pixels": 3, "down1": 128, "down2": 256, "bottleneck_in": 256, "bottleneck_middle": 256}
    count = sum(parameter.numel() for parameter in PatchMlp(channels).parameters())
    assert count == sum(width * 256 + 256 + 256 * 256 + 256 for width in channels.values()) == 560_384


def test_weights_are_narrow_normals_without_bias():
    torch.manual_seed(0)
    patch_mlp = PatchMlp({"a": 256})
    for layer in (patch_mlp.heads["a"][0], patch_mlp.heads["a"][2]):
        assert layer.weight.mean().item() == pytest.approx(0.0, abs=3e-4)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert layer.bias.abs().max() == 0


def test_vectors_have_length_one_even_of_almost_grey_pixels():
    grey = torch.tensor([127.0, 128.0]).div(127.5).sub(1).expand(1, 3, 1, 2)  # the two levels of 8 bits around 0
    vectors = PatchMlp({"pixels": 3})({"pixels": grey}, {"pixels": torch.arange(2)})["pixels"]
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(1, 2))


def test_a_pixel_of_zeros_has_a_small_finite_gradient():
    torch.manual_seed(0)
    patch_mlp = PatchMlp({"pixels": 3})
    vectors = patch_mlp({"pixels": torch.zeros(1, 3, 1, 1)}, {"pixels": torch.tensor([0])})["pixels"]
    assert vectors.abs().max() == 0
    vectors.sum().backward()
    assert patch_mlp.heads["pixels"][2].bias.grad.abs().max() <= 1.1e4


def test_lengths_are_those_of_float32_under_autocast():
    patch_mlp, features = a_patch_mlp(dim=64), some_features()
    locations = draw_locations(features, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = patch_mlp(features, locations)["pixels"]
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 4), rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_patches", [1, 6, 50, 1000])
def test_locations_are_distinct_and_inside(num_patches):
    locations = draw_locations(some_features(), num_patches)
    for tap, size in {"pixels": 80, "deep": 6}.items():
        positions = locations[tap].tolist()
        assert len(positions) == len(set(positions)) == min(num_patches, size)
        assert 0 <= min(positions) <= max(positions) < size


def test_every_location_is_drawn_alike_often():
    torch.manual_seed(0)
    counts = torch.zeros(80)
    for _ in range(2000):
        counts[draw_locations(some_features(1), 20)["pixels"]] += 1
    # 500 expected of each, with a standard deviation of 19.4
    assert counts.min() > 500 - 5 * 19.4
    assert counts.max() < 500 + 5 * 19.4


def test_locations_come_from_the_global_generator_whatever_the_batch():
    draws = []
    for images in (1, 1, 4):
        torch.manual_seed(7)
        draws.append(draw_locations(some_features(images), 5))
    later = draw_locations(some_features(), 5)
    for tap in CHANNELS:
        assert torch.equal(draws[0][tap], draws[1][tap])
        assert torch.equal(draws[0][tap], draws[2][tap])
    assert not torch.equal(draws[0]["pixels"], later["pixels"])


def test_taps_must_be_those_of_the_heads():
    patch_mlp, features = a_patch_mlp(), some_features()
    locations = draw_locations(features, 4)
    with pytest.raises(ValueError, match=r"features of the taps \['pixels'\] but heads of \['deep', 'pixels'\]"):
        patch_mlp({"pixels": features["pixels"]}, locations)
    with pytest.raises(ValueError, match=r"features of the taps \['deep', 'extra', 'pixels'\]"):
        patch_mlp({**features, "extra": features["deep"]}, locations)
    with pytest.raises(ValueError, match=r"locations of the taps \['deep'\] but heads"):
        patch_mlp(features, {"deep": locations["deep"]})
