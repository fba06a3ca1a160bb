import itertools
import math
import random
import statistics

import pytest

from lit_ghibli.reports.effects import has_gaps, levels, main_effects, pairwise_effects, summarize_seeds
from lit_ghibli.reports.tables import write_table

A, B, C = ("low", "high", "mid"), (1, 5, 25), ("x", "y")
FACTORS = ["a", "b", "c"]


def grid(seeds=1, value=None):
    """A full grid of three factors with interactions, or with the values that a function of the levels gives."""
    draw = random.Random(3)
    return [
        {"a": a, "b": b, "c": c, "seed": seed, "swd": value(a, b, c) if value else draw.uniform(1, 2)}
        for a, b, c in itertools.product(A, B, C)
        for seed in range(seeds)
    ]


def additive(a, b, c):
    return 0.1 * A.index(a) ** 2 + 0.01 * b + 0.3 * C.index(c)


def mean_where(rows, **wanted):
    """The plain mean of the rows of some levels, by a loop."""
    total = count = 0
    for row in rows:
        if all(row[name] == level for name, level in wanted.items()):
            total, count = total + row["swd"], count + 1
    return total / count


def test_a_full_grid_gives_plain_means_whether_or_not_factors_interact():
    rows = grid(seeds=3)
    effects = main_effects(rows, "a", "swd", FACTORS)
    assert [effect.level for effect in effects] == list(A), "in order of first appearance"
    for effect in effects:
        assert effect.mean == pytest.approx(mean_where(rows, a=effect.level))
        assert (effect.count, effect.diverged) == (18, 0)


def test_pairs_of_a_full_grid_are_plain_means():
    rows = grid(seeds=2)
    matrix = pairwise_effects(rows, "b", "c", "swd", FACTORS)
    assert [[effect.level for effect in line] for line in matrix] == [[(b, c) for c in C] for b in B]
    for line in matrix:
        for effect in line:
            b, c = effect.level
            assert effect.mean == pytest.approx(mean_where(rows, b=b, c=c))
            assert effect.count == 6


def test_missing_cells_do_not_favour_the_level_that_only_met_easy_partners():
    full = grid(value=additive)
    gaps = [row for row in full if (row["a"], row["b"]) not in {("high", 25), ("low", 1)} and row is not full[3]]
    assert mean_where(gaps, a="high") != pytest.approx(mean_where(full, a="high")), "else this shows nothing"
    for factor in FACTORS:
        for effect in main_effects(gaps, factor, "swd", FACTORS):
            assert effect.mean == pytest.approx(mean_where(full, **{factor: effect.level}))
    for line in pairwise_effects(gaps, "a", "c", "swd", FACTORS):
        for effect in line:
            a, c = effect.level
            assert effect.mean == pytest.approx(mean_where(full, a=a, c=c))


def test_one_missing_cell_of_four_is_what_the_other_three_add_up_to():
    rows = [{"a": "p", "b": 0, "swd": 1.0}, {"a": "p", "b": 1, "swd": 4.0}, {"a": "q", "b": 0, "swd": 3.0}]
    missing = 3.0 + 4.0 - 1.0
    assert [effect.mean for effect in main_effects(rows, "a", "swd", ["a", "b"])] == pytest.approx(
        [2.5, (3.0 + missing) / 2]
    )
    (_, present), (_, absent) = pairwise_effects(rows, "a", "b", "swd", ["a", "b"])
    assert (present.mean, present.count) == (pytest.approx(4.0), 1)
    assert (absent.mean, absent.count, absent.level) == (None, 0, ("q", 1))


def test_marginal_means_agree_with_filling_the_gaps_until_nothing_changes():
    draw = random.Random(0)
    table = {(a, b): draw.gauss(0, 1) for a in range(4) for b in range(5)}
    gone = [(0, 0), (1, 4), (3, 2), (3, 3)]
    rows = [{"a": a, "b": b, "swd": value} for (a, b), value in table.items() if (a, b) not in gone]
    filled = {cell: (0.0 if cell in gone else value) for cell, value in table.items()}
    for _ in range(2000):
        overall = sum(filled.values()) / 20
        for a, b in gone:
            across = sum(filled[a, other] for other in range(5)) / 5
            down = sum(filled[other, b] for other in range(4)) / 4
            filled[a, b] = across + down - overall
    means = {effect.level: effect.mean for effect in main_effects(rows, "a", "swd", ["a", "b"])}
    assert means == pytest.approx({a: sum(filled[a, b] for b in range(5)) / 5 for a in range(4)})


def test_a_cell_counts_once_however_many_seeds_it_has():
    rows = [{"a": 0, "b": 0, "seed": seed, "swd": value} for seed, value in enumerate([1.0, 2.0, 3.0, 6.0])]
    rows += [{"a": 0, "b": 1, "swd": 10.0}, {"a": 1, "b": 0, "swd": 0.0}, {"a": 1, "b": 1, "swd": 4.0}]
    first, second = main_effects(rows, "a", "swd", ["a", "b"])
    assert first.mean == pytest.approx((3.0 + 10.0) / 2)
    variance = statistics.variance([1.0, 2.0, 3.0, 6.0])  # the only one, hence also the pooled one
    assert first.error == pytest.approx(math.sqrt((variance / 4 + variance) / 4))
    assert second.error is None, "no cell of this level has two seeds"


def test_the_error_is_that_of_seeds_and_not_of_other_factors():
    rows = grid(seeds=3, value=additive)
    assert all(effect.error == pytest.approx(0.0, abs=1e-12) for effect in main_effects(rows, "b", "swd", FACTORS))
    rows = grid(seeds=3)
    for effect in main_effects(rows, "b", "swd", FACTORS):
        squares = [
            statistics.variance([row["swd"] for row in rows if (row["a"], row["b"], row["c"]) == (a, effect.level, c)])
            / 3
            for a in A
            for c in C
        ]
        assert effect.error == pytest.approx(math.sqrt(sum(squares)) / 6)
    assert all(effect.error is None for effect in main_effects(grid(), "b", "swd", FACTORS))


def test_levels_that_always_went_together_have_no_means_of_their_own():
    rows = [{"a": name, "b": name, "swd": float(place)} for place, name in enumerate("xyz")]
    assert [(effect.mean, effect.count) for effect in main_effects(rows, "a", "swd", ["a", "b"])] == [(None, 1)] * 3
    assert [effect.mean for effect in main_effects(rows, "a", "swd", ["a"])] == pytest.approx([0.0, 1.0, 2.0])


def test_what_diverged_is_counted_and_what_was_not_measured_is_not():
    rows = [
        {"a": 0, "swd": 1.0},
        {"a": 0, "swd": math.nan},
        {"a": 0, "swd": -math.inf},
        {"a": 0},
        {"a": 0, "swd": None},
        {"a": 1, "swd": math.inf},
    ]
    first, second = main_effects(rows, "a", "swd", ["a"])
    assert (first.mean, first.count, first.diverged) == (1.0, 1, 2)
    assert (second.mean, second.error, second.count, second.diverged) == (None, None, 0, 1)
    assert main_effects(rows[-1:], "a", "swd", ["a"])[0].mean is None


def test_gaps_are_combinations_without_a_finite_value():
    rows = grid(seeds=2)
    assert not has_gaps(rows, "swd", FACTORS)
    assert has_gaps(
        [{**row, "swd": math.nan} if row["a"] == "mid" and row["b"] == 5 else row for row in rows], "swd", FACTORS
    )
    assert not has_gaps([{**row, "swd": math.nan} if row["seed"] else row for row in rows], "swd", FACTORS)
    assert levels(rows, "b") == [1, 5, 25]


def test_seeds_become_one_row_for_a_table(tmp_path):
    rows = [
        {"cell": "full", "seed": 0, "swd": 1.0, "ssim": 0.5},
        {"cell": "none", "seed": 0, "swd": 4.0, "ssim": 0.25},
        {"cell": "full", "seed": 1, "swd": 3.0, "ssim": math.nan},
    ]
    table = summarize_seeds(rows, ["cell"], ["swd", "ssim"])
    full = {"cell": "full", "swd": 2.0, "swd_sd": math.sqrt(2), "ssim": 0.5, "ssim_sd": None, "seeds": 2, "diverged": 1}
    none = {"cell": "none", "swd": 4.0, "swd_sd": None, "ssim": 0.25, "ssim_sd": None, "seeds": 1, "diverged": 0}
    assert table == [full, none]
    assert list(table[0]) == ["cell", "swd", "swd_sd", "ssim", "ssim_sd", "seeds", "diverged"]
    assert "diverged" not in summarize_seeds(rows, ["cell"], ["swd"])[0]
    write_table(table, tmp_path, "seeds")
    assert "| full | 2 | 1.414 | 0.5 | - | 2 | 1 |" in (tmp_path / "seeds.md").read_text()


def test_a_seed_that_comes_twice_is_an_error():
    with pytest.raises(ValueError, match=r"'cell': 'full'.*\[7, 7\]"):
        summarize_seeds([{"cell": "full", "seed": 7, "swd": 1.0}] * 2, ["cell"], ["swd"])
