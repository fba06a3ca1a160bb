from pathlib import Path

import numpy as np
import pytest
from helpers.opinions import made_key

from lit_ghibli.errors import UserError
from lit_ghibli.opinion.scores import read_scores
from lit_ghibli.opinion.tables import score_rows, summary_rows
from lit_ghibli.reports.tables import write_table

KEY = made_key("ratings", ["a", "b", "c"], 4)


def written(folder: Path, raters: int = 7, key=KEY) -> list[dict]:
    """Tables as `mos score` writes them."""
    ratings = np.random.default_rng(0).integers(1, 6, (raters, len(key["aspects"]), 4, 3)).astype(float)
    rows = score_rows(ratings / (1 if key["mode"] == "ratings" else 5), key)
    write_table(rows, folder, "scores")
    write_table(summary_rows(rows, key), folder, "summary")
    return rows


@pytest.mark.parametrize("file", ["", "scores.json", "summary.json"])
def test_scores_are_those_over_all_aspects(tmp_path, file):
    rows = written(tmp_path)[-3:]
    scores = read_scores(tmp_path / file)
    assert scores.column == "mos"
    assert scores.values == {row["method"]: row["mos"] for row in rows}
    assert scores.intervals == {row["method"]: (row["mos_low"], row["mos_high"]) for row in rows}


def test_a_single_aspect_and_rater_and_shares_of_choices(tmp_path):
    rows = written(tmp_path, raters=1, key={**KEY, "mode": "best_of", "aspects": ["style"]})
    scores = read_scores(tmp_path)
    assert (scores.column, scores.intervals) == ("share", {})
    assert scores.values == {row["method"]: row["share"] for row in rows}


def test_methods_that_are_not_compared_are_told(tmp_path):
    written(tmp_path)
    scores = read_scores(tmp_path)
    assert scores.unknown(["c", "a", "d"]) == ["b"]
    with pytest.raises(UserError, match=r"scores.json rates a, b, c, none of which is compared: .* a:PATH"):
        scores.unknown(["d"])


@pytest.mark.parametrize(
    "text", ["", "[[1", "[]", "{}", '{"a": 1}', "[1]", '[{"method": "a"}]', '[{"method": "a", "mos": null}]']
)
def test_what_holds_no_scores_is_refused(tmp_path, text):
    file = tmp_path / "file.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"file.json: .*no opinion scores: give scores.json of lit-ghibli mos score"):
        read_scores(file)
    with pytest.raises(UserError, match=r"nowhere.json: cannot be read .*no opinion scores"):
        read_scores(tmp_path / "nowhere.json")
