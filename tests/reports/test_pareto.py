import numpy as np

from lit_ghibli.reports.pareto import pareto_front


def brute_force(points):
    """A point is on the front unless another one is no worse in both numbers and better in one of them."""

    def beats(a, b):
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    return [not any(beats(other, point) for other in points) for point in points]


def test_against_the_definition():
    random = np.random.default_rng(0)
    fronts = set()
    for count in range(1, 60):
        points = [tuple(pair) for pair in random.integers(0, 9, (count, 2)).tolist()]  # with many ties
        assert pareto_front(points) == brute_force(points)
        fronts.add(sum(pareto_front(points)))
    assert len(fronts) > 3, "fronts of many sizes were tried"


def test_hand_cases():
    assert pareto_front([]) == []
    assert pareto_front([(1, 1), (1, 1)]) == [True, True]
    assert pareto_front([(1, 3), (2, 2), (3, 1), (3, 3)]) == [True, True, True, False]
    assert pareto_front([(1, 1), (1, 2), (2, 1)]) == [True, False, False]
