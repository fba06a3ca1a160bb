import math

import pytest
import torch

from lit_ghibli.training.image_pool import ImagePool


def numbered(*numbers: int) -> torch.Tensor:
    """Images that show their own number."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def shown(images: torch.Tensor) -> list[int]:
    assert images.shape[1:] == (3, 2, 2)
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].int().tolist()


def test_images_pass_through_until_the_pool_is_full():
    pool = ImagePool(5)
    assert [number for start in range(0, 4, 2) for number in shown(pool.query(numbered(start, start + 1)))] == [
        0,
        1,
        2,
        3,
    ]
    assert shown(pool.query(numbered(4))) == [4]
    assert len(pool.images) == 5
    for number in range(5, 100):
        pool.query(numbered(number))
        assert len(pool.images) == 5


def test_a_full_pool_exchanges_half_of_the_images_for_old_ones_of_all_places():
    size, draws = 10, 2_000
    pool = ImagePool(size, seed=3)
    pool.query(numbered(*range(size)))
    held = set(range(size))
    places = [0] * size
    kept = 0
    for number in range(size, size + draws):
        before = [shown(image[None])[0] for image in pool.images] if number % 2 == 0 else None
        (answer,) = shown(pool.query(numbered(number)))
        if answer == number:
            kept += 1
        else:
            assert answer in held, "neither the new image nor one of the pool's"
            held = held - {answer} | {number}
            if before:
                places[before.index(answer)] += 1
    # Five standard deviations of the binomial distribution.
    assert abs(kept - draws / 2) < 5 * math.sqrt(draws / 4)
    sampled = sum(places)
    assert all(abs(n - sampled / size) < 5 * math.sqrt(sampled / size * (1 - 1 / size)) for n in places)
    assert {shown(image[None])[0] for image in pool.images} == held


def test_every_image_of_a_batch_is_drawn_for_itself():
    pool = ImagePool(4)
    pool.query(numbered(0, 1, 2, 3))
    mixed = [sum(number < 4 for number in shown(pool.query(numbered(*range(10, 18))))) for _ in range(20)]
    assert len(set(mixed)) > 2


def test_size_zero_turns_the_pool_off():
    pool = ImagePool(0)
    images = numbered(1, 2, 3)
    for _ in range(20):
        assert shown(pool.query(images)) == [1, 2, 3]
    assert pool.images == []
    with pytest.raises(ValueError, match="-1"):
        ImagePool(-1)


@pytest.mark.parametrize("size", [0, 3])
def test_no_gradient_passes(size):
    images = torch.ones(2, 3, 2, 2, requires_grad=True)
    pool = ImagePool(size)
    for _ in range(5):
        assert not pool.query(images * 2).requires_grad
    assert not any(image.requires_grad for image in pool.images)


def test_what_is_held_does_not_change_with_the_callers_tensor():
    pool = ImagePool(1)
    images = numbered(7).clone()
    pool.query(images)
    images.zero_()
    assert shown(pool.images[0][None]) == [7]


def test_draws_come_from_the_seed_and_leave_the_global_generator_alone():
    def sequence(seed: int) -> list[int]:
        pool = ImagePool(4, seed)
        return [number for n in range(60) for number in shown(pool.query(numbered(n)))]

    state = torch.get_rng_state()
    first = sequence(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert sequence(1) == first != sequence(2)


@pytest.mark.parametrize("filled", [2, 30])
def test_a_restored_pool_goes_on_with_the_same_sequence(tmp_path, filled):
    pool = ImagePool(4, seed=5)
    for number in range(filled):
        pool.query(numbered(number))
    torch.save(pool.state_dict(), tmp_path / "pool")
    expected = [shown(pool.query(numbered(number))) for number in range(100, 160)]

    restored = ImagePool(4, seed=9)
    restored.query(numbered(77))
    restored.load_state_dict(torch.load(tmp_path / "pool", weights_only=True))
    assert [shown(restored.query(numbered(number))) for number in range(100, 160)] == expected


def test_a_smaller_pool_takes_what_it_can_hold():
    pool = ImagePool(6)
    pool.query(numbered(*range(6)))
    smaller = ImagePool(2)
    smaller.load_state_dict(pool.state_dict())
    answers = {number for n in range(10, 40) for number in shown(smaller.query(numbered(n)))}
    assert len(smaller.images) == 2
    assert not answers & {2, 3, 4, 5}
