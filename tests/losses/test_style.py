import pytest
import torch

from lit_ghibli.losses.style import gram_matrix, guidance_channels, style_loss


def loop_gram(features):
    images, channels = features.shape[:2]
    maps = features.double().flatten(2).tolist()
    return torch.tensor(
        [
            [
                [sum(a * b for a, b in zip(maps[n][i], maps[n][j], strict=True)) for j in range(channels)]
                for i in range(channels)
            ]
            for n in range(images)
        ],
        dtype=torch.float64,
    )


def some_features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_channels_by_hand():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [1.0, 2.0]]]])
    expected = torch.tensor([[[30.0, 9.0], [9.0, 6.0]]])
    assert torch.equal(gram_matrix(features), expected)
    assert torch.equal(gram_matrix(features, normalize=True), expected / 8)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_agrees_with_a_loop_image_by_image(memory_format):
    features = some_features(3, 5, 4, 7)
    expected = loop_gram(features)
    laid_out = features.contiguous(memory_format=memory_format)
    torch.testing.assert_close(gram_matrix(laid_out).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gram_matrix(laid_out, True).double(), expected / (5 * 4 * 7), rtol=1e-5, atol=1e-6)


def test_float64_stays_exact():
    features = some_features(1, 3, 4, 4).double()
    torch.testing.assert_close(gram_matrix(features), loop_gram(features), rtol=1e-14, atol=1e-14)


def test_sums_beyond_float16_stay_finite_under_autocast():
    features = torch.full((1, 2, 32, 32), 10.0, dtype=torch.float16)  # 102,400 is more than float16 holds
    with torch.autocast("cpu", dtype=torch.float16):
        grams = gram_matrix(features)
    assert torch.equal(grams, torch.full((1, 2, 2), 102_400.0))


def test_where_the_features_are_does_not_matter():
    features = some_features(1, 4, 3, 5)
    moved = features.flatten(2)[..., torch.randperm(15, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(gram_matrix(moved.view_as(features)), gram_matrix(features))


def test_gram_matrices_of_regions_agree_with_a_loop():
    features, regions = some_features(1, 3, 4, 6).double(), torch.rand(2, 1, 8, 12, dtype=torch.float64)
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    for r in range(2):
        guide = [
            [sum(regions[r, 0, 2 * y + dy, 2 * x + dx].item() for dy in (0, 1) for dx in (0, 1)) / 4 for x in range(6)]
            for y in range(4)
        ]
        scale = 24 / sum(value**2 for row in guide for value in row)
        for i in range(3):
            for j in range(3):
                for y in range(4):
                    for x in range(6):
                        product = features[0, i, y, x] * features[0, j, y, x]
                        expected[r, i, j] += scale * guide[y][x] ** 2 * product
    grams = gram_matrix(guidance_channels(regions, (4, 6)) * features)
    torch.testing.assert_close(grams, expected, rtol=1e-12, atol=1e-12)


def test_a_region_that_is_the_whole_picture_has_its_gram_matrix():
    features = some_features(1, 3, 5, 7).double()
    guides = guidance_channels(torch.full((1, 1, 20, 30), 0.3, dtype=torch.float64), (5, 7))
    torch.testing.assert_close(gram_matrix(guides * features), gram_matrix(features))


def test_regions_count_by_their_share():
    ours, theirs = some_features(2, 3, 3), some_features(2, 3, 3, seed=1)
    shares = torch.tensor([0.9, 0.1])
    loss = style_loss({"a": ours}, {"a": theirs}, shares)["a"]
    squares = [(ours[r] - theirs[r]).square().mean() for r in range(2)]
    torch.testing.assert_close(loss, 0.9 * squares[0] + 0.1 * squares[1])
    torch.testing.assert_close(
        style_loss({"a": ours}, {"a": theirs}, torch.tensor([0.5, 0.5]))["a"],
        style_loss({"a": ours}, {"a": theirs})["a"],
    )


def test_loss_is_the_mean_square_of_each_layer():
    grams = {"deep": gram_matrix(some_features(2, 3, 4, 4)), "shallow": gram_matrix(some_features(2, 2, 8, 8))}
    targets = {
        "shallow": gram_matrix(some_features(2, 2, 5, 5, seed=1)),
        "deep": gram_matrix(some_features(1, 3, 6, 6, seed=2)),  # one style of both images
    }
    losses = style_loss(grams, targets)
    assert list(losses) == ["deep", "shallow"]
    for layer, loss in losses.items():
        squares = [
            (grams[layer][n, i, j].double() - targets[layer][n % len(targets[layer]), i, j].double()).item() ** 2
            for n in range(2)
            for i in range(grams[layer].shape[1])
            for j in range(grams[layer].shape[2])
        ]
        assert loss.item() == pytest.approx(sum(squares) / len(squares), rel=1e-5)


def test_loss_of_the_style_itself_is_zero_and_its_gradient_is_that_of_gatys():
    features = some_features(1, 3, 4, 5).double().requires_grad_()
    target = gram_matrix(some_features(1, 3, 4, 5, seed=1).double())
    assert style_loss({"a": gram_matrix(features)}, {"a": gram_matrix(features.detach())})["a"] == 0
    (gradient,) = torch.autograd.grad(style_loss({"a": gram_matrix(features)}, {"a": target})["a"], features)
    rows = features.detach().flatten(2)
    # Gatys et al. 2016, Eq. 6, for the mean over C * C entries: F^T (G - A), times 4 / C**2
    expected = (4 / 9 * (rows @ rows.mT - target).mT @ rows).view_as(features)
    torch.testing.assert_close(gradient, expected)


def test_layers_must_be_the_same():
    gram = gram_matrix(some_features(1, 2, 3, 3))
    with pytest.raises(ValueError, match=r"layers \['a'\] but targets of \['a', 'b'\]"):
        style_loss({"a": gram}, {"a": gram, "b": gram})


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 3, 3), (2, 2)])
def test_a_target_of_another_shape_is_not_broadcast(shape):
    gram = gram_matrix(some_features(3, 2, 3, 3))
    with pytest.raises(ValueError, match=r"a: grams \(3, 2, 2\) but targets"):
        style_loss({"a": gram}, {"a": torch.zeros(shape)})
