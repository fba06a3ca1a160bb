"""Scores of single pictures, of which validation only shows means."""

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_ghibli.files import replacing
from lit_ghibli.images import to_unit
from lit_ghibli.metrics.structure import structure_consistency, style_strength
from lit_ghibli.metrics.suite import SMALLEST, MetricSuite
from lit_ghibli.reports.tables import write_csv


@torch.no_grad()
def sample_scores(suite: MetricSuite | None, photo: Tensor, picture: Tensor, target: Tensor | None) -> dict[str, float]:
    """What one picture keeps of its photograph, what it changes, and how near it is to its target.

    Args:
        suite: Names the scores against the target; those that need larger pictures are left out.
        photo: ``(1, 3, H, W)`` in ``[-1, 1]``, as are the others.
        picture: What a method makes of it.
        target: What it should be, if that is known.

    Returns:
        ``structure`` and ``style_strength``, see `lit_ghibli.metrics.structure`; with a target also ``ssim``,
        ``psnr`` and whatever else the suite has for pairs.
    """
    photo, picture = photo.float(), picture.float()
    scores = {"structure": structure_consistency(photo, picture), "style_strength": style_strength(photo, picture)}
    if suite is not None and target is not None:
        output, wanted = to_unit(picture), to_unit(target.float())
        fitting = [name for name in suite.pair_metrics if min(output.shape[-2:]) >= SMALLEST.get(name, 1)]
        scores |= {suite.titles[name]: suite.pair_metrics[name].score(output, wanted) for name in fitting}
    return {name: float(score) for name, score in scores.items()}


def continue_csv(path: str | Path, epoch: int, rows: list[dict[str, Any]]) -> None:
    """Add the rows of an epoch to a CSV file that has a column ``epoch``.

    Rows of this epoch and of later ones, which an interrupted run has left behind, are dropped. The file is replaced
    as a whole, so that a crash leaves the old one or the new one.
    """
    path = Path(path)
    before = []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            before = [row for row in csv.DictReader(file) if int(row["epoch"]) < epoch]
    with replacing(path) as partial:
        write_csv([*before, *({"epoch": epoch, **row} for row in rows)], partial)
