import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from lit_ghibli.reports.pareto import Point, pareto_front, pareto_plot


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


POINTS = [Point("a<b>", 0, 1.0, 0.2), Point("b", 1, 2.0, 0.4), Point("c", 9, 4.0, 0.3)]


def marks(points, quality):
    """Class and centre of each mark by its name, out of parsed XML."""
    drawn = ET.fromstring(pareto_plot(points, "parameters_m", quality))
    found = {}
    for group in drawn.iter("g"):
        circle = group.find("circle")
        found[group.get("data-name")] = (group.get("class"), float(circle.get("cx")), float(circle.get("cy")))
    return found, drawn


def test_the_front_is_that_of_the_metrics_direction():
    higher, _ = marks(POINTS, "ssim")
    lower, _ = marks(POINTS, "swd")
    assert {name: kind for name, (kind, *_) in higher.items()} == {"a<b>": "c0 on-front", "b": "c1 on-front", "c": "c1"}
    assert {name: "on-front" in kind for name, (kind, *_) in lower.items()} == {"a<b>": True, "b": False, "c": False}


def test_places_are_proportional_and_up_is_more():
    found, _ = marks(POINTS, "ssim")
    (_, xa, ya), (_, xb, yb), (_, xc, yc) = (found[point.name] for point in POINTS)
    assert (xb - xa) * 2 == pytest.approx(xc - xb, abs=0.2)
    assert (ya - yc) == pytest.approx(yc - yb, abs=0.2)
    assert yb < ya


@pytest.mark.parametrize("points", [POINTS[:1], [Point("z", 0, 0.0, 0.0)], [Point("n", 0, 3.0, -2.0)] * 2])
def test_few_or_equal_points_stay_inside(points):
    found, drawn = marks(points, "psnr")
    _, _, width, height = map(float, drawn.get("viewBox").split())
    assert all(0 < x < width and 0 < y < height for _, x, y in found.values())


def test_labels_do_not_lie_upon_each_other():
    _, drawn = marks([Point(f"method {n}", n, 5.0, 0.5) for n in range(6)], "ssim")
    heights = sorted(float(group.find("text").get("y")) for group in drawn.iter("g"))
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 12
