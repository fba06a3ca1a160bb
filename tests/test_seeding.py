import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from lit_ghibli.seeding import derive_seed, get_random_state, seeded, set_random_state


def test_seeds_of_different_numbers_differ():
    tuples = [(a, b, c) for a in range(12) for b in range(12) for c in range(12)]
    tuples += [(a, b) for a in range(12) for b in range(12)] + [(a,) for a in range(12)] + [()]
    tuples += [(5 + 2**32,), (2**32, 1), (1, 2**32), (-1,), (-1, 0)]
    seeds = {derive_seed(*numbers) for numbers in tuples}
    assert len(seeds) == len(tuples)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_for_every_kind_of_whole_number_and_in_every_process():
    assert (
        derive_seed(3, 7) == derive_seed(np.int64(3), True + 6) == 9193458642933312423
    )  # printf '[3, 7]' | b2sum -l 64


def test_bits_of_neighbouring_seeds_are_unrelated():
    seeds = [derive_seed(0, number) for number in range(2000)]
    flips = [(a ^ b).bit_count() for a, b in pairwise(seeds)]
    # 63 fair coins have mean 31.5 and deviation 3.97; the mean of 1999 of them stays within 5 x 0.089.
    assert np.mean(flips) == pytest.approx(31.5, abs=0.45)


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_seeded_repeats_inside_and_changes_nothing_outside(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPUs' generators are not ours"))
    torch.random.default_generator.manual_seed(1)
    expected = torch.rand(4)
    torch.random.default_generator.manual_seed(1)
    first = torch.rand(2)
    with seeded(1, 2):
        inside = torch.rand(3)
    with seeded(1, 2):
        assert torch.equal(torch.rand(3), inside)
    with pytest.raises(ZeroDivisionError), seeded(1, 2):
        raise ZeroDivisionError
    with seeded(2, 1):
        assert not torch.equal(torch.rand(3), inside)
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)


def test_all_generators_go_on_where_they_were_saved(tmp_path):
    np.random.standard_normal()  # leaves a cached second value, which belongs to the state  # noqa: NPY002
    torch.save(get_random_state(), tmp_path / "state")
    expected = [draws() for _ in range(3)], np.random.standard_normal()  # noqa: NPY002
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert ([draws() for _ in range(3)], np.random.standard_normal()) == expected  # noqa: NPY002


def test_a_state_of_a_gpu_run_loads_without_a_gpu(monkeypatch):
    state = get_random_state() | {"cuda": torch.zeros(16, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state: pytest.fail("there is no GPU"))
    set_random_state(state)
    assert torch.equal(torch.get_rng_state(), state["torch"])
