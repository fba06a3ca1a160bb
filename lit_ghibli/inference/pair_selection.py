"""Which pairs of a pseudo-paired set are kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lit_ghibli.errors import UserError

KEPT = "kept"


@dataclass(frozen=True)
class Thresholds:
    """What a pair must reach to be kept; None asks for nothing.

    Attributes:
        duplicate_distance: Bits of 64 in which the perceptual hashes of two photographs must differ by more.
        min_structure: 0 ... 1; see `structure_consistency`.
        min_semantics: 0 ... 1; see `label_agreement`. Of no effect on pairs that were not segmented.
        min_style: Mean color difference, delta E; see `style_strength`.
        max_style: Likewise.
        keep: Of the pairs that reach all this, those with the best structure: a share (0.5) or a number (5000).
    """

    duplicate_distance: int | None
    min_structure: float | None
    min_semantics: float | None
    min_style: float | None
    max_style: float | None
    keep: float | int | None

    def __post_init__(self) -> None:
        if self.duplicate_distance is not None and self.duplicate_distance not in range(32):
            raise UserError(f"duplicate_distance must be 0 ... 31 bits, or null; got {self.duplicate_distance!r}")
        for name in ("min_structure", "min_semantics", "min_style", "max_style"):
            value, highest = getattr(self, name), 1 if name in ("min_structure", "min_semantics") else float("inf")
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= highest):
                raise UserError(
                    f"{name} must be a number, at least 0{' and at most 1' * (highest == 1)}; got {value!r}"
                )
        whole = isinstance(self.keep, int) and self.keep >= 1
        if self.keep is not None and not whole and not (isinstance(self.keep, float) and 0 < self.keep < 1):
            raise UserError(f"keep must be a share between 0 and 1, a number of pairs, or null; got {self.keep!r}")

    def objection(self, scores: Mapping[str, float]) -> tuple[str, str] | None:
        """The first score that is not reached, and by how much; None where the pair is good."""
        for name in ("structure", "semantics", "style"):
            if name in scores and (least := getattr(self, f"min_{name}")) is not None and scores[name] < least:
                return name, f"{scores[name]:.4g} is below {least:g}"
        if self.max_style is not None and scores["style"] > self.max_style:
            return "style", f"{scores['style']:.4g} is above {self.max_style:g}"
        return None


def judge(
    names: Iterable[str],
    scores: Mapping[str, Mapping[str, float]],
    dropped: Mapping[str, tuple[str, str]],
    limits: Thresholds,
) -> list[dict[str, Any]]:
    """The verdict on every photograph, as `make_pairs` returns it, in the order of ``names``.

    Args:
        names: All photographs.
        scores: Of those that were translated.
        dropped: Verdict and detail of all others.
        limits: What scores must reach.
    """
    verdicts = dict(dropped)
    for name, reached in scores.items():
        verdicts[name] = limits.objection(reached) or (KEPT, "")
    good = sorted((name for name in scores if verdicts[name][0] == KEPT), key=lambda name: -scores[name]["structure"])
    if limits.keep is not None:
        most = limits.keep if isinstance(limits.keep, int) else max(round(limits.keep * len(good)), 1)
        for place, name in enumerate(good[most:], start=most + 1):
            verdicts[name] = ("rank", f"{place} of {len(good)} by structure")
    return [
        {"name": name, "verdict": verdicts[name][0], "detail": verdicts[name][1], **scores.get(name, {})}
        for name in names
    ]
