"""Planning and judging an opinion study, with raters whose bias and noise are known."""

import numpy as np
import pytest
from helpers.opinions import answers, made_key, write

from lit_ghibli.opinion.answers import Thresholds, read_answers
from lit_ghibli.opinion.planning import Spread, power, simulated_ratings
from lit_ghibli.opinion.tables import pair_rows, score_rows

SPREAD = Spread(bias=0.5, taste=0.3, picture=0.5, noise=0.9)
NONE = Spread(bias=0.0, taste=0.0, picture=0.0, noise=0.0)


def test_ratings_have_the_means_and_spreads_that_were_asked_for():
    means = np.array([3.3, 3.0])
    small = Spread(bias=0.4, taste=0.2, picture=0.0, noise=0.5)  # so that hardly a rating is cut off
    ratings = simulated_ratings(np.random.default_rng(0), 1, 20_000, 4, means, small)[0]
    np.testing.assert_allclose(ratings.mean(axis=(0, 1)), means, atol=0.02)
    noise = 0.5**2 + 1 / 12  # and rounding
    scores = ratings.mean(axis=1)
    assert scores[:, 0].var() == pytest.approx(0.4**2 + 0.2**2 + noise / 4, rel=0.05)
    assert (scores[:, 0] - scores[:, 1]).var() == pytest.approx(2 * (0.2**2 + noise / 4), rel=0.05)


@pytest.mark.parametrize("raters", [8, 25])
def test_intervals_cover_the_mean_of_all_raters_in_95_of_100_studies(raters):
    means, studies = np.array([3.4, 2.7, 1.6]), 1500
    draw = simulated_ratings(np.random.default_rng(1), 1, 200_000, 6, means, SPREAD)[0].mean(axis=(0, 1))
    key = {"mode": "ratings", "scale": 5, "methods": ["a", "b", "c"], "aspects": ["overall"]}
    covered = []
    for study in simulated_ratings(np.random.default_rng(1), studies, raters, 6, means, SPREAD):  # of the same pictures
        rows = score_rows(study[:, None], key)
        covered.append([row["mos_low"] <= mean <= row["mos_high"] for row, mean in zip(rows, draw, strict=True)])
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_power_counts_the_pairs_that_one_study_after_the_other_finds():
    ratings = simulated_ratings(np.random.default_rng(3), 60, 12, 5, np.array([3.6, 3.0, 3.0]), SPREAD)
    key = {"mode": "ratings", "scale": 5, "methods": ["a", "b", "c"], "aspects": ["overall"]}
    rows = [row for study in ratings for row in pair_rows(study[:, None], key, seed=3) if row["better"] == "a"]
    by_hand = sum(row["significant"] == "yes" for row in rows) / (2 * 60)
    assert 0.2 < by_hand < 0.9
    assert power(12, 5, 3, 0.6, SPREAD, 60, seed=3) == pytest.approx(by_hand)


def test_nothing_is_found_where_nothing_is_and_everything_where_raters_agree():
    assert power(10, 5, 2, 0.0, SPREAD) == pytest.approx(0.025, abs=0.02)  # of the one side that counts
    assert power(8, 1, 3, 1.0, NONE, studies=10) == 1.0


def test_more_raters_or_pictures_find_more_and_more_methods_less():
    middle = power(12, 10, 4, 0.5, SPREAD, 100)
    assert power(18, 10, 4, 0.5, SPREAD, 100) > middle > power(12, 5, 4, 0.5, SPREAD, 100)
    assert power(12, 10, 2, 0.5, SPREAD, 100) > middle


def test_raters_who_answer_by_lot_are_mostly_found(tmp_path):
    key, rng = made_key("ratings", ["a", "b", "c"], 5), np.random.default_rng(0)
    limits = Thresholds(failed_checks=1, seconds=2.0, same=0.95, disagreement=1.0)
    found = 0
    for number in range(200):
        by_lot = answers(key, str(number), lambda *_: int(rng.integers(1, 6)), wrong=rng.binomial(2, 0.8))
        repeated = by_lot["screens"][-1]
        repeated["answers"] = {aspect: int(rng.integers(1, 6)) for aspect in repeated["answers"]}
        found += bool(read_answers(write(tmp_path, "x.json", by_lot), key).faults(limits))
    # 0.64 fail both instructed screens; of those who fail one, 0.32, the repeated picture finds some
    assert found / 200 > 0.7
