from collections import Counter

import pytest
import torch
from torch.utils.data import Dataset

from lit_ghibli.data.sampling import EpochSampler, Position, ResumableLoader, walk


class Positions(Dataset):
    """Gives back what it is asked for."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, position: Position) -> torch.Tensor:
        return torch.tensor(position)


def loader(num_workers: int = 0, seed: int = 0, batch_size: int = 4, drop_last: bool = True) -> ResumableLoader:
    sampler = EpochSampler(23, seed)
    return ResumableLoader(
        Positions(), sampler=sampler, batch_size=batch_size, num_workers=num_workers, drop_last=drop_last
    )


def epoch(ours: ResumableLoader, number: int) -> list[list[list[int]]]:
    ours.sampler.set_epoch(number)
    return [batch.tolist() for batch in ours]


def order(sampler: EpochSampler, number: int) -> list[int]:
    sampler.set_epoch(number)
    positions = list(sampler)
    assert all(position.epoch == number for position in positions)
    return [position.index for position in positions]


def test_every_epoch_is_a_fresh_permutation():
    sampler = EpochSampler(50, seed=3)
    orders = [order(sampler, number) for number in range(20)]
    assert all(sorted(indices) == list(range(50)) for indices in orders)
    assert len({tuple(indices) for indices in orders}) == 20
    # Of 50 positions, one is expected to stay in place from one permutation to the next; ten would be no shuffle.
    assert sum(a == b for a, b in zip(orders[0], orders[1], strict=True)) < 10


def test_order_depends_on_seed_and_epoch_alone():
    first = order(EpochSampler(30, seed=1), 4)
    torch.rand(7)
    used = EpochSampler(30, seed=1)
    order(used, 2)
    assert order(used, 4) == first
    assert order(EpochSampler(30, seed=2), 4) != first


@pytest.mark.parametrize(("length", "world_size"), [(12, 3), (23, 4), (5, 2), (3, 4)])
def test_ranks_share_out_without_overlap_and_do_the_same_number_of_steps(length, world_size):
    ranks = [EpochSampler(length, 0, rank, world_size) for rank in range(world_size)]
    for number in range(3):
        shares = [order(sampler, number) for sampler in ranks]
        assert (
            [len(share) for share in shares]
            == [len(sampler) for sampler in ranks]
            == [length // world_size] * world_size
        )
        given = [index for share in shares for index in share]
        assert len(set(given)) == len(given)
        # Together they are the order of one process, taken in turns.
        turns = [index for step in zip(*shares, strict=True) for index in step]
        assert turns == order(EpochSampler(length, 0), number)[: len(turns)]


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_loader_resumed_in_the_middle_gives_exactly_the_rest(drop_last):
    straight = loader(drop_last=drop_last)
    whole, following = epoch(straight, 2), epoch(straight, 3)
    assert len(whole) == len(straight) == (5 if drop_last else 6)
    for given in range(len(whole)):
        broken_off = loader(drop_last=drop_last)
        broken_off.sampler.set_epoch(2)
        batches = iter(broken_off)
        for _ in range(given):
            next(batches)
        resumed = loader(drop_last=drop_last)
        resumed.load_state_dict(broken_off.state_dict())
        assert epoch(resumed, 2) == whole[given:]
        assert epoch(resumed, 3) == following, "only the first epoch is cut"


def test_an_epoch_that_is_over_is_not_resumed():
    finished = loader()
    epoch(finished, 0)
    resumed = loader()
    resumed.load_state_dict(finished.state_dict())
    assert epoch(resumed, 1) == epoch(loader(), 1)


def test_state_counts_batches_across_a_resume():
    resumed = loader()
    resumed.load_state_dict({"batches_given": 2})
    batches = iter(resumed)
    assert next(batches) is not None
    assert resumed.state_dict() == {"batches_given": 3}


def test_a_run_with_workers_goes_on_without_them():
    whole = epoch(loader(), 1)
    with_workers = loader(num_workers=2)
    with_workers.sampler.set_epoch(1)
    batches = iter(with_workers)
    assert [next(batches).tolist() for _ in range(2)] == whole[:2]
    state = with_workers.state_dict()  # workers have read ahead, which does not count
    del batches
    resumed = loader(num_workers=0)
    resumed.load_state_dict(state)
    assert epoch(resumed, 1) == whole[2:]


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_a_walk_meets_all_elements_equally_often_wherever_it_stops(count):
    met = Counter()
    for taken in range(50):
        assert all(met[element] in (taken // count, -(-taken // count)) for element in range(count))
        met[walk(taken, count, seed=3)] += 1
    assert set(met) == set(range(count))


def test_a_walk_goes_on_in_a_fresh_order_and_reaches_all_of_them():
    orders = Counter(tuple(walk(3 * cycle + place, 3, seed=0) for place in range(3)) for cycle in range(600))
    # Six orders of three elements, each binomial with n = 600 and p = 1/6: five standard deviations.
    assert len(orders) == 6
    assert all(abs(times - 100) < 5 * (600 * 5 / 36) ** 0.5 for times in orders.values())


def test_a_walk_depends_on_position_and_seed_alone():
    positions = [7, 300, 0, 41, 299, 41]
    state = torch.get_rng_state()
    first = [walk(position, 20, seed=1) for position in positions]
    torch.rand(3)
    for other in range(200):
        walk(20 * other, 20, seed=9)  # pushes remembered permutations out
    assert [walk(position, 20, seed=1) for position in reversed(positions)] == first[::-1]
    assert [walk(position, 20, seed=2) for position in positions] != first
    torch.set_rng_state(state)
    walk(900, 33, seed=5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("world_size", "samples"), [(1, 4), (1, 23), (1, 60), (2, 5), (3, 20)])
def test_epochs_of_another_length_walk_through_the_same_passes(world_size, samples):
    """Whatever the length of an epoch and the number of ranks, each pass is the permutation of its number."""
    ranks = [EpochSampler(23, 0, rank, world_size, samples) for rank in range(world_size)]
    taken, epochs = [], 60
    for number in range(epochs):
        for sampler in ranks:
            sampler.set_epoch(number)
        shares = [list(sampler) for sampler in ranks]
        assert [len(share) for share in shares] == [len(sampler) for sampler in ranks] == [samples] * world_size
        taken += [position for together in zip(*shares, strict=True) for position in together]
    assert len(set(taken)) == len(taken), "no crop is drawn twice alike"
    assert [position.epoch for position in taken] == [number // 23 for number in range(len(taken))]
    for number in range(len(taken) // 23):
        assert sorted(position.index for position in taken[23 * number : 23 * (number + 1)]) == list(range(23))


def test_a_loader_of_such_epochs_resumed_in_the_middle_gives_exactly_the_rest():
    def make() -> ResumableLoader:
        return ResumableLoader(Positions(), sampler=EpochSampler(23, 0, samples=36), batch_size=4, drop_last=True)

    straight = [epoch(make(), number) for number in range(2)]
    assert [len(batches) for batches in straight] == [9, 9]
    ours = make()
    ours.sampler.set_epoch(1)
    batches = iter(ours)
    given = [next(batches).tolist() for _ in range(5)]
    resumed = make()
    resumed.load_state_dict(ours.state_dict())
    assert given + epoch(resumed, 1) == straight[1]
