import math

import pytest
import torch
from torch.nn import functional as F

from lit_ghibli.losses.contrastive import hdce, patch_nce, relation_weights, semantic_relation_consistency

LOSSES = {
    "patch_nce": lambda queries, keys: patch_nce(queries, keys, 0.07),
    "src": semantic_relation_consistency,
    "hdce": lambda queries, keys: hdce(queries, keys, 10.0, 0.07),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def unit(*shape, seed=0, near=None):
    """Random vectors of length 1; with `near`, around those."""
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(vectors if near is None else near + 0.1 * vectors, dim=-1)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(values):
    exponentials = [math.exp(value) for value in values]
    return [exponential / sum(exponentials) for exponential in exponentials]


def loop_patch_nce(queries, keys, temperature):
    """Of one image, given as lists of vectors."""
    losses = []
    for i, query in enumerate(queries):
        logits = [dot(query, key) / temperature for key in keys]
        losses.append(-math.log(softmax(logits)[i]))
    return sum(losses) / len(losses)


def loop_src(queries, keys, _):
    total = 0.0
    for i in range(len(queries)):
        p = softmax([dot(queries[i], other) for other in queries])
        q = softmax([dot(keys[i], other) for other in keys])
        for a, b in zip(p, q, strict=True):
            m = (a + b) / 2
            total += (a * math.log(a / m) + b * math.log(b / m)) / 2
    return total


def loop_weights(keys, gamma):
    rows = []
    for i, key in enumerate(keys):
        others = [j for j in range(len(keys)) if j != i]
        shares = softmax([dot(key, keys[j]) / gamma for j in others])
        row = dict(zip(others, shares, strict=True))
        rows.append([row.get(j, 0.0) / max(shares) for j in range(len(keys))])
    return rows


def loop_hdce(queries, keys, temperature, gamma=10.0):
    weights, losses = loop_weights(keys, gamma), []
    for i, query in enumerate(queries):
        negatives = [math.exp(weights[i][j] * dot(query, keys[j]) / temperature) for j in range(len(keys)) if j != i]
        losses.append(math.log(sum(negatives)) - dot(query, keys[i]) / temperature)
    return sum(losses) / len(losses)


LOOPS = {"patch_nce": loop_patch_nce, "src": loop_src, "hdce": loop_hdce}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", LOSSES)
def test_agrees_with_loops_in_float64(name, dtype, tolerance):
    queries, keys = unit(3, 7, 5).to(dtype), unit(3, 7, 5, seed=1).to(dtype)
    images = zip(queries.double().tolist(), keys.double().tolist(), strict=True)
    expected = sum(LOOPS[name](q, k, 0.07) for q, k in images) / 3
    assert LOSSES[name](queries, keys).item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("gamma", [0.1, 10.0, 50.0])
def test_relation_weights_agree_with_loops(gamma):
    keys = unit(2, 6, 4)
    expected = torch.tensor([loop_weights(image, gamma) for image in keys.double().tolist()])
    weights = relation_weights(keys, gamma)
    torch.testing.assert_close(weights, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights.amax(dim=-1), torch.ones(2, 6))
    assert weights.diagonal(dim1=1, dim2=2).abs().max() == 0


def test_a_large_gamma_makes_all_negatives_equal():
    uniform = 1 - torch.eye(6).expand(2, 6, 6)
    torch.testing.assert_close(relation_weights(unit(2, 6, 4), 1e8), uniform)
    assert (relation_weights(unit(2, 6, 4), 1.0) - uniform).abs().max() > 0.1


@pytest.mark.parametrize("gamma", [10.0, 50.0])
def test_the_smallest_weight_is_that_of_opposite_vectors(gamma):
    keys = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]])
    assert relation_weights(keys, gamma)[0, 0, 2].item() == pytest.approx(math.exp(-2 / gamma))


@pytest.mark.parametrize("locations", [1, 2, 256])
def test_patch_nce_cannot_tell_the_same_vector_everywhere(locations):
    same = unit(2, 1, 8).expand(2, locations, 8)
    assert patch_nce(same, same, 0.07).item() == pytest.approx(math.log(locations), rel=1e-6)


def test_patch_nce_of_orthogonal_vectors_in_closed_form():
    basis = torch.eye(4)[None]
    assert patch_nce(basis, basis, 0.5).item() == pytest.approx(math.log(1 + 3 * math.exp(-2)))
    swapped = basis[:, [1, 0, 3, 2]]
    assert patch_nce(swapped, basis, 0.5).item() == pytest.approx(math.log(1 + 3 * math.exp(-2)) + 2)


def test_patch_nce_resolves_confident_matches():
    basis = torch.eye(4)[None]
    expected = math.log1p(3 * math.exp(-1 / 0.07))  # 2e-6, beside logits of 14
    assert patch_nce(basis, basis, 0.07).item() == pytest.approx(expected, abs=1.5e-7)


@pytest.mark.parametrize("locations", [2, 3, 64, 256])
def test_hdce_of_the_same_vector_everywhere_grows_with_the_negatives(locations):
    same = unit(2, 1, 8).expand(2, locations, 8)
    # All weights are 1, and the positive is not among the negatives.
    assert hdce(same, same, 50.0, 0.07).item() == pytest.approx(math.log(locations - 1), abs=2e-6)


def test_hdce_of_orthogonal_vectors_may_be_negative():
    basis = torch.eye(4)[None]
    assert hdce(basis, basis, 50.0, 0.07).item() == pytest.approx(math.log(3) - 1 / 0.07, rel=1e-6)


def test_hdce_weights_similarities_rather_than_exponentials():
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    queries = torch.tensor([[[0.6, 0.8], [0.6, 0.8], [0.6, 0.8]]])
    # Key 0 is nearest to key 1 (cosine 0, weight 1); key 2 has the cosine -1 to it.
    first = math.log(math.exp(0.8 / 0.5) + math.exp(math.exp(-1 / 2) * -0.6 / 0.5)) - 0.6 / 0.5
    second = math.log(math.exp(0.6 / 0.5) + math.exp(-0.6 / 0.5)) - 0.8 / 0.5
    third = math.log(math.exp(math.exp(-1 / 2) * 0.6 / 0.5) + math.exp(0.8 / 0.5)) + 0.6 / 0.5
    assert hdce(queries, keys, 2.0, 0.5).item() == pytest.approx((first + second + third) / 3, rel=1e-6)


def test_src_is_zero_for_the_same_features_and_so_is_its_gradient():
    keys = unit(2, 64, 16)
    queries = keys.clone().requires_grad_()
    loss = semantic_relation_consistency(queries, keys)
    (gradient,) = torch.autograd.grad(loss, queries)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient.abs().max().item() == pytest.approx(0, abs=1e-6)


def test_src_compares_relations_not_features():
    queries = unit(2, 16, 8)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))[0]
    assert semantic_relation_consistency(queries, queries @ rotation).item() == pytest.approx(0, abs=1e-5)
    assert semantic_relation_consistency(queries, unit(2, 16, 8, seed=1)) > 0.1


def test_src_stays_within_its_bounds():
    same = unit(1, 1, 8).expand(1, 128, 8)
    split = same * torch.ones(128, 1).index_fill(0, torch.arange(64), -1)
    loss = semantic_relation_consistency(split, same).item()
    # Relations of 1 to half of the locations and of -1 to the others, against equal ones.
    p, q = [math.exp(s) / (64 * (math.e + 1 / math.e)) for s in (1, -1)], 1 / 128
    rows = sum(64 * (x * math.log(2 * x / (x + q)) + q * math.log(2 * q / (x + q))) / 2 for x in p)
    assert loss == pytest.approx(128 * rows, rel=1e-5)
    assert 0 < loss < 128 * math.log(2)


def test_src_is_accurate_in_float32_for_small_differences():
    queries = unit(1, 256, 64)
    keys = unit(1, 256, 64, seed=1, near=queries)
    loss = semantic_relation_consistency(queries, keys).item()
    exact = semantic_relation_consistency(queries.double(), keys.double()).item()
    assert loss == pytest.approx(exact, rel=1e-3)


@every_loss
def test_only_queries_have_gradients_and_these_are_right(loss):
    queries, keys = unit(2, 5, 4).double().requires_grad_(), unit(2, 5, 4, seed=1).double().requires_grad_()
    loss(queries, keys).backward()
    assert keys.grad is None
    assert (queries.grad.abs().amax(dim=-1) > 0).all()
    assert torch.autograd.gradcheck(lambda q: loss(q, keys.detach()), queries)


def test_relation_weights_have_no_gradient():
    assert not relation_weights(unit(1, 4, 3).requires_grad_(), 10.0).requires_grad


@every_loss
def test_images_know_nothing_of_one_another(loss):
    queries, keys = unit(4, 9, 6).double().requires_grad_(), unit(4, 9, 6, seed=1).double()
    together = loss(queries, keys)
    (gradient,) = torch.autograd.grad(together, queries)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(loss(queries[order], keys[order]), together)
    halves = [queries[:2].detach().requires_grad_(), queries[2:].detach().requires_grad_()]
    apart = [loss(half, part) for half, part in zip(halves, (keys[:2], keys[2:]), strict=True)]
    torch.testing.assert_close(sum(apart) / 2, together)
    gradients = [torch.autograd.grad(part / 2, half)[0] for part, half in zip(apart, halves, strict=True)]
    torch.testing.assert_close(torch.cat(gradients), gradient)


@every_loss
def test_the_order_of_locations_does_not_matter(loss):
    queries, keys = unit(2, 9, 6).double(), unit(2, 9, 6, seed=1).double()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(queries[:, order], keys[:, order]), loss(queries, keys))


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_inputs_are_computed_in_float32_also_under_autocast(loss, dtype):
    queries, keys = unit(2, 32, 16).to(dtype).requires_grad_(), unit(2, 32, 16, seed=1).to(dtype)
    exact = loss(queries.detach().double(), keys.double())
    with torch.autocast("cpu", dtype=dtype):
        narrow, wide = loss(queries, keys), loss(queries.detach().float(), keys.float())
    narrow.backward()
    assert narrow.dtype == wide.dtype == torch.float32
    assert narrow.item() == wide.item() == pytest.approx(exact.item(), rel=1e-5)
    assert queries.grad.dtype == dtype
    assert queries.grad.isfinite().all()


def test_one_location_has_no_negatives():
    one = unit(2, 1, 4)
    with pytest.raises(ValueError, match=r"\(2, 1, 4\) hold one location .* at least 2 are needed"):
        hdce(one, one, 50.0, 0.07)
    with pytest.raises(ValueError, match="at least 2 are needed"):
        relation_weights(one, 50.0)
    assert semantic_relation_consistency(one, one) == 0


@every_loss
@pytest.mark.parametrize(("queries", "keys"), [((2, 3, 4), (1, 3, 4)), ((1, 3, 4), (1, 2, 4)), ((3, 4), (3, 4))])
def test_other_shapes_are_refused_rather_than_broadcast(loss, queries, keys):
    with pytest.raises(ValueError, match="both must have one shape"):
        loss(torch.zeros(queries), torch.zeros(keys))
