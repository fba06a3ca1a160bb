"""Which of several methods no other one beats in both of two numbers."""

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point is on the front: no other one is lower in one number without being higher in the other.

    Equal points are on it together.

    Args:
        points: Two numbers each, of which lower is better.
    """
    on_front = [False] * len(points)
    lowest = math.inf  # second number of all points whose first is smaller than the current ones'
    order = sorted(range(len(points)), key=lambda index: points[index])
    position = 0
    while position < len(order):
        first, second = points[order[position]]
        for index in order[position:]:
            if points[index][0] != first:
                break
            on_front[index] = points[index][1] == second < lowest
            position += 1
        lowest = min(lowest, second)
    return on_front
