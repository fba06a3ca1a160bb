"""What each factor of a study did to a metric, from one row per finished run.

A row holds the levels of the factors (strings or numbers) and the metrics (floats) by name. Rows that are equal in
all factors are the seeds of one cell. A metric that is absent was not measured; one that is NaN or infinite diverged.
Neither takes part in a mean, and what diverged is counted.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_ghibli.reports.tables import Row, is_number


@dataclass(frozen=True)
class Effect:
    """A metric at one level of a factor, or at one combination of levels.

    Attributes:
        level: The level; for two factors the pair of levels.
        mean: Marginal mean, of `main_effects`; None where there is no finite value, and where the cells that finished
            cannot tell this level from the levels of other factors.
        error: Standard error of ``mean`` from the spread between seeds alone; None where no cell has two seeds.
        count: Number of finite values.
        diverged: Number of values that are NaN or infinite.
    """

    level: Any
    mean: float | None
    error: float | None
    count: int
    diverged: int


def main_effects(rows: Sequence[Row], factor: str, metric: str, factors: Iterable[str]) -> list[Effect]:
    r"""Mean of a metric at each level of a factor, as if every level had met the same partners.

    In a full grid this is the mean over all other factors and seeds. Where cells are missing, because they crashed or
    were never asked for, that plain mean compares levels with different partners: the level that only met the easy
    ones seems good. These are therefore least-squares marginal means. The values of a cell are averaged over its seeds,
    and the cells, each counting once, are fitted by an additive model with one term for each factor,

        y(l, m, ...) = a_l + b_m + ... ,   least squares over the cells that there are,

    of which level ``l`` gets ``a_l + mean over m of b_m + ...``, every level of every other factor counting the same.
    In a full grid this equals the plain mean whether or not the factors interact. In one with gaps it relies on the
    additive model; and a cell that diverged is missing because it was bad, so that a mean beside a ``diverged``
    above zero flatters its level.

    The error is that of the seeds, ``error^2 = sum over cells of w^2 s^2 / n``, with the weight ``w`` that the cell has
    in the mean, its ``n`` seeds, and their variance ``s^2``: for a cell with one seed the pooled one of all cells.

    Args:
        rows: One per finished run.
        factor: The factor whose levels are compared.
        metric: The metric.
        factors: All factors of the study, without the seed.

    Returns:
        One effect per level, in order of first appearance.

    Source: Searle, Speed, Milliken 1980, Population marginal means in the linear model (The American Statistician).
    """
    effects = _effects(rows, (factor,), metric, factors)
    return [effects[level,] for level in levels(rows, factor)]


def pairwise_effects(
    rows: Sequence[Row], first: str, second: str, metric: str, factors: Iterable[str]
) -> list[list[Effect]]:
    """Mean of a metric at each combination of the levels of two factors, over all other factors and seeds.

    These are the marginal means of `main_effects` in which the pair stands for one factor, so that the two may
    interact in any way and only the other factors are taken to add up.

    Args:
        rows: One per finished run.
        first: The factor of the matrix' rows.
        second: The factor of its columns.
        metric: The metric.
        factors: All factors of the study, without the seed.

    Returns:
        A matrix of effects, levels in order of first appearance; a combination that no run has is there with mean None
        and count 0.
    """
    effects = _effects(rows, (first, second), metric, factors)
    return [
        [effects.get((a, b), Effect((a, b), None, None, 0, 0)) for b in levels(rows, second)]
        for a in levels(rows, first)
    ]


def summarize_seeds(
    rows: Sequence[Row], factors: Sequence[str], metrics: Sequence[str], seed: str = "seed"
) -> list[Row]:
    """One row per cell over its seeds, for `reports.tables.write_table`.

    Args:
        rows: One per finished run.
        factors: All factors of the study, without the seed.
        metrics: The metrics.
        seed: Name of the column that tells the runs of a cell apart.

    Returns:
        For each cell, in order of first appearance: the factors; for each metric ``<metric>`` and ``<metric>_sd``, mean
        and standard deviation over the seeds with a finite value, None for too few; ``seeds``, the number of seeds;
        and, where anything diverged at all, ``diverged``, the number of seeds in which some metric is NaN or infinite.

    Raises:
        ValueError: Two rows of a cell have the same seed.
    """
    cells: dict[tuple, list[Row]] = {}
    for row in rows:
        cells.setdefault(_levels_of(row, factors), []).append(row)
    table = []
    for cell, runs in cells.items():
        seeds = [run.get(seed) for run in runs]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"the cell {dict(zip(factors, cell, strict=True))} has several rows of one seed: {seeds}")
        row = dict(zip(factors, cell, strict=True))
        for metric in metrics:
            values = _finite(runs, metric)
            row |= {
                metric: statistics.fmean(values) if values else None,
                f"{metric}_sd": statistics.stdev(values) if values[1:] else None,
            }
        lost = sum(any(diverged(run, metric) for metric in metrics) for run in runs)
        table.append(row | {"seeds": len(runs), "diverged": lost})
    if not any(row["diverged"] for row in table):
        for row in table:
            del row["diverged"]
    return table


def levels(rows: Iterable[Row], factor: str) -> list[Any]:
    """The levels of a factor, in order of first appearance."""
    return list(dict.fromkeys(row.get(factor) for row in rows))


def diverged(row: Row, metric: str) -> bool:
    """Whether a run's metric is NaN or infinite, as against a metric that was not measured."""
    value = row.get(metric)
    return isinstance(value, float) and not math.isfinite(value)


def has_gaps(rows: Sequence[Row], metric: str, factors: Sequence[str]) -> bool:
    """Whether some combination of the factors' levels has no finite value, so that marginal means are a model's."""
    filled = {_levels_of(row, factors) for row in rows if is_number(row.get(metric))}
    return len(filled) < math.prod(len(levels(rows, factor)) for factor in factors)


def _effects(rows: Sequence[Row], target: tuple[str, ...], metric: str, factors: Iterable[str]) -> dict[tuple, Effect]:
    """The effect at each combination of the target's levels that has a row."""
    means = _marginal_means(rows, target, metric, [name for name in factors if name not in target])
    effects = {}
    for key in dict.fromkeys(_levels_of(row, target) for row in rows):
        runs = [row for row in rows if _levels_of(row, target) == key]
        mean, error = means.get(key, (None, None))
        count, lost = len(_finite(runs, metric)), sum(diverged(run, metric) for run in runs)
        effects[key] = Effect(key if key[1:] else key[0], mean, error, count, lost)
    return effects


def _marginal_means(
    rows: Sequence[Row], target: Sequence[str], metric: str, others: Sequence[str]
) -> dict[tuple, tuple[float | None, float | None]]:
    """Marginal mean and its standard error over seeds, for each combination of the target's levels that has values."""
    cells: dict[tuple, list[float]] = {}
    for row in rows:
        if is_number(row.get(metric)):
            cells.setdefault((_levels_of(row, target), *_levels_of(row, others)), []).append(row[metric])
    if not cells:
        return {}
    keys = list(dict.fromkeys(cell[0] for cell in cells))
    # Indicators of each term's levels by cell, and what of them makes the marginal mean of each of the target's levels.
    blocks = []
    for column in zip(*cells, strict=True):
        kinds = list(dict.fromkeys(column))
        blocks.append(np.array([[float(kind == level) for kind in kinds] for level in column]))
    shares = [np.full((len(keys), block.shape[1]), 1 / block.shape[1]) for block in blocks[1:]]
    design, wanted = np.hstack(blocks), np.hstack([np.eye(len(keys)), *shares])
    weights = wanted @ np.linalg.pinv(design, rcond=1e-10)
    told_apart = np.abs(weights @ design - wanted).max(axis=1) < 1e-8
    means = weights @ [statistics.fmean(values) for values in cells.values()]
    # Variance of each cell's mean over its seeds: by its own, else by the pooled variance of all cells; 0 where no cell
    # has two seeds, which nobody reads.
    variances = [statistics.variance(values) if len(values) > 1 else None for values in cells.values()]
    freedom = sum(len(values) - 1 for values in cells.values())
    total = sum((len(values) - 1) * (own or 0.0) for values, own in zip(cells.values(), variances, strict=True))
    pooled = total / freedom if freedom else 0.0
    squares = [
        (pooled if own is None else own) / len(values) for values, own in zip(cells.values(), variances, strict=True)
    ]
    errors = np.sqrt(weights**2 @ np.array(squares))
    repeated = {cell[0] for cell, values in cells.items() if len(values) > 1}
    return {
        key: (float(mean), float(error) if key in repeated else None) if told else (None, None)
        for key, mean, error, told in zip(keys, means, errors, told_apart, strict=True)
    }


def _levels_of(row: Row, factors: Sequence[str]) -> tuple:
    return tuple(row.get(factor) for factor in factors)


def _finite(rows: Iterable[Row], metric: str) -> list[float]:
    return [row[metric] for row in rows if is_number(row.get(metric))]
