import numpy as np
import pytest
import scipy.stats
from helpers.opinions import made_key

from lit_ghibli.opinion.statistics import krippendorff_alpha
from lit_ghibli.opinion.tables import agreement_rows, pair_rows, score_rows, summary_rows

KEY = made_key("ratings", ["a", "b", "c"], 4)
TABLES = np.random.default_rng(0).integers(1, 6, (7, 2, 4, 3)).astype(float)  # raters, aspects, sets, methods


def test_scores_are_means_with_intervals_over_raters():
    rows = score_rows(TABLES, KEY)
    assert [(row["aspect"], row["method"]) for row in rows] == [
        (aspect, method) for aspect in ("style", "overall", "mean of aspects") for method in "abc"
    ]
    row = rows[4]  # overall, b
    of_raters = [np.mean([TABLES[rater, 1, number, 1] for number in range(4)]) for rater in range(7)]
    low, high = scipy.stats.t.interval(0.95, 6, np.mean(of_raters), scipy.stats.sem(of_raters))
    assert (row["mos"], row["mos_low"], row["mos_high"]) == pytest.approx((np.mean(of_raters), low, high))
    assert (row["raters"], row["sets"]) == (7, 4)
    assert rows[7]["mos"] == pytest.approx((rows[1]["mos"] + rows[4]["mos"]) / 2)


def test_summary_has_a_row_for_each_method():
    scores = score_rows(TABLES, KEY)
    row = summary_rows(scores, KEY)[1]
    assert list(row) == ["name", "style", "overall", "mos", "mos_low", "mos_high"]
    assert list(row.values()) == ["b", scores[1]["mos"], scores[4]["mos"], *(scores[7][k] for k in list(row)[3:])]
    alone = {**KEY, "aspects": ["style"], "mode": "best_of"}
    assert [list(row) for row in summary_rows(score_rows(TABLES[:, :1] / 5, alone), alone)] == [
        ["name", "share", "share_low", "share_high"]
    ] * 3


def test_intervals_end_where_the_scale_ends():
    top = np.full((2, 2, 4, 3), 5.0)
    top[0, :, :, 0] = 4.0
    assert [(row["mos_low"], row["mos_high"]) for row in score_rows(top, KEY)[:2]] == [(1.0, 5.0), (5.0, 5.0)]
    assert (score_rows(top[:1], KEY)[0]["mos_low"], score_rows(top[:1], KEY)[0]["mos_high"]) == (None, None)


def test_pairs_by_hand():
    tables = np.full((8, 2, 4, 3), 3.0)
    tables[:, 0, :, 2] = 4.0  # on style, all eight raters prefer c
    rows = pair_rows(tables, KEY, seed=0)
    style = {(row["better"], row["other"]): row for row in rows if row["aspect"] == "style"}
    assert style.keys() == {("a", "b"), ("c", "a"), ("c", "b")}
    assert style["c", "a"]["difference"] == 1.0
    assert (style["c", "a"]["p"], style["c", "a"]["p_holm"]) == (2 / 256, pytest.approx(3 * 2 / 256))
    assert [row["significant"] for row in style.values()] == ["no", "yes", "yes"]
    assert {row["p_holm"] for row in rows if row["aspect"] == "overall"} == {1.0}


def test_shares_of_choices():
    key = {**KEY, "mode": "best_of"}
    tables = np.zeros((5, 2, 4, 3))
    tables[..., 1] = 1.0  # all choose b everywhere, but for one rater on one set
    tables[0, :, 0] = [1.0, 0.0, 0.0]
    rows = score_rows(tables, key)
    assert [row["share"] for row in rows[:3]] == pytest.approx([1 / 20, 19 / 20, 0.0])
    assert all(0 <= row["share_low"] <= row["share"] <= row["share_high"] <= 1 for row in rows)


def test_agreement_of_choices():
    key = {**KEY, "mode": "best_of"}
    tables = np.zeros((5, 2, 4, 3))
    tables[..., 1] = 1.0  # all raters prefer one method everywhere, which no chance would do
    tables[:, 1] = np.eye(3)[np.random.default_rng(0).integers(0, 3, (5, 4))]
    style, overall = agreement_rows(tables, key)
    assert style == {"aspect": "style", "alpha": 1.0, "level": "nominal", "raters": 5, "pictures": 12}
    assert overall["alpha"] == krippendorff_alpha(tables[:, 1].reshape(5, 12), "nominal") < 0.3


def test_agreement_compares_raters_on_the_same_picture():
    same = np.broadcast_to(TABLES[:1], (5, 2, 4, 3))
    assert [(row["alpha"], row["level"], row["pictures"]) for row in agreement_rows(same, KEY)] == [
        (1.0, "ordinal", 12)
    ] * 2
    assert abs(agreement_rows(TABLES, KEY)[0]["alpha"]) < 0.3
    assert agreement_rows(TABLES[:1], KEY)[0]["alpha"] is None
