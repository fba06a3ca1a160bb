"""The tables of an opinion study: means with intervals, pairs of methods, agreement of the raters.

Everything is computed from ``tables`` of shape ``(raters, aspects, sets, methods)``, the raters' `score_table`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lit_ghibli.opinion.page import RATINGS
from lit_ghibli.opinion.statistics import holm, krippendorff_alpha, sign_flip_test, t_interval
from lit_ghibli.reports.tables import Row

SIGNIFICANT = 0.05  # largest p-value, after Holm, that is called significant
ALL_ASPECTS = "mean of aspects"


def score_rows(tables: np.ndarray, key: Mapping[str, Any]) -> list[Row]:
    """Mean opinion score, or preference share, of each method on each aspect, with its 95 % interval over the raters.

    Intervals are Student's, cut off at the ends of the scale, and None of a single rater.
    """
    column = score_column(key)
    lowest, highest = (1.0, key["scale"]) if column == "mos" else (0.0, 1.0)
    rows = []
    for aspect, scores in _by_aspect(tables, key):
        for method, values in zip(key["methods"], scores.T, strict=True):
            ends = [None, None]
            if len(values) > 1:
                ends = [float(np.clip(end, lowest, highest)) for end in t_interval(values)]
            means = {column: float(values.mean()), f"{column}_low": ends[0], f"{column}_high": ends[1]}
            rows.append({"aspect": aspect, "method": method, **means, "raters": len(values), "sets": tables.shape[2]})
    return rows


def summary_rows(scores: Sequence[Row], key: Mapping[str, Any]) -> list[Row]:
    """One row for each method: its score on every aspect, and that over all aspects with its interval.

    Args:
        scores: As `score_rows` gives them.
        key: Of the study.
    """
    column = score_column(key)
    rows = []
    for method in key["methods"]:
        own = [row for row in scores if row["method"] == method]
        aspects = {row["aspect"]: row[column] for row in own[: len(key["aspects"])]} if len(own) > 1 else {}
        ends = (f"{column}_low", f"{column}_high")
        rows.append({"name": method, **aspects, **{name: own[-1][name] for name in (column, *ends)}})
    return rows


def score_column(key: Mapping[str, Any]) -> str:
    """What a score is called: ``mos``, a mean opinion score, or in best-of ``share``, of the choices."""
    return "mos" if key["mode"] == RATINGS else "share"


def pair_rows(tables: np.ndarray, key: Mapping[str, Any], seed: int) -> list[Row]:
    """Each two methods on each aspect, the better one first: difference and p-values of `sign_flip_test`.

    ``p_holm`` is adjusted for all pairs of one aspect.
    """
    rows = []
    for aspect, scores in _by_aspect(tables, key):
        better_first = [
            (first, second) if scores[:, first].mean() >= scores[:, second].mean() else (second, first)
            for first, second in itertools.combinations(range(len(key["methods"])), 2)
        ]
        differences = np.stack([scores[:, first] - scores[:, second] for first, second in better_first], axis=1)
        p_values = sign_flip_test(differences, seed)
        adjusted_values = holm(p_values)
        for pair, difference, p, adjusted in zip(better_first, differences.T, p_values, adjusted_values, strict=True):
            better, other = (key["methods"][number] for number in pair)
            rows.append(
                {
                    "aspect": aspect,
                    "better": better,
                    "other": other,
                    "difference": float(difference.mean()),
                    "p": float(p),
                    "p_holm": float(adjusted),
                    "significant": "yes" if adjusted <= SIGNIFICANT else "no",
                }
            )
    return rows


def agreement_rows(tables: np.ndarray, key: Mapping[str, Any]) -> list[Row]:
    """Krippendorff's alpha on each aspect, every picture a unit: of its ratings as ranks, or of chosen and not chosen.

    Choices are not compared as names of methods: raters who all prefer one method would seem to agree by chance.
    Alpha is None where there is nothing to compare: a single rater, or all answers equal.
    """
    level = "ordinal" if key["mode"] == RATINGS else "nominal"
    rows = []
    for number, aspect in enumerate(key["aspects"]):
        answers = tables[:, number].reshape(len(tables), -1)
        alpha = krippendorff_alpha(answers, level)
        rows.append({"aspect": aspect, "alpha": None if np.isnan(alpha) else alpha, "level": level})
        rows[-1] |= {"raters": len(answers), "pictures": answers.shape[1]}
    return rows


def _by_aspect(tables: np.ndarray, key: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Names, and each rater's mean over the sets ``(raters, methods)``; several aspects are averaged as well."""
    means = tables.mean(axis=2)
    aspects = [(aspect, means[:, number]) for number, aspect in enumerate(key["aspects"])]
    return [*aspects, (ALL_ASPECTS, means.mean(axis=1))] if len(aspects) > 1 else aspects
