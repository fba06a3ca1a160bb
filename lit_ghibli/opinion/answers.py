"""Reading the answers of an opinion study, and telling which raters to count."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lit_ghibli.documents import DocumentError, conform, read_json
from lit_ghibli.errors import UserError
from lit_ghibli.opinion.page import RATINGS

_SET = {"id": str, "pictures": dict[str, str]}
_KEY = {
    "id": str,
    "mode": Literal["ratings", "best_of"],
    "aspects": list[str],
    "scale": int,
    "methods": list[str],
    "sets": list[_SET],
    "checks?": dict[str, int],
}
_SCREEN = {
    "kind": Literal["judged", "instructed", "repeated", "photograph"],
    "set": str,
    "candidates": list[str],
    "answers": dict[str, str | int],
    "expected?": str | int,
    "seconds": float,
}
_ANSWERS = {"rater": str, "device": str, "finished": str, "screens": list[_SCREEN]}

Judgements = dict[tuple[str, str], Any]  # by picture, or in best-of by set, and aspect


class AnswersError(UserError):
    """A file that holds no complete answers to this study."""


@dataclass
class Thresholds:
    """What makes a rater unreliable.

    Attributes:
        failed_checks: More failed attention checks than this.
        seconds: A median time per screen below this.
        same: One answer (in best-of, one place on the screen) in a larger share of all answers than this.
        disagreement: A repeated picture fails its check where its two ratings are further apart, on average over the
            aspects.
    """

    failed_checks: int
    seconds: float
    same: float
    disagreement: float


@dataclass
class Rater:
    """One person's answers, complete.

    Attributes:
        file: Where they come from.
        name: The random id.
        device: ``phone`` or ``desktop``.
        finished: Time, as in ISO 8601.
        judgements: Rating by picture and aspect; in best-of, chosen picture by set and aspect.
        seconds: Per screen, breaks included, so that only their median means something.
        places: Which option was chosen, counted from 1, in each answer that is no check.
        checks: Of each attention check, its kind and how far off the answer was: 0 or 1, or, for a repeated picture,
            the mean difference of the two ratings.
    """

    file: Path
    name: str
    device: str
    finished: str
    judgements: Judgements
    seconds: list[float]
    places: list[int]
    checks: list[tuple[str, float]] = field(default_factory=list)

    def failed_checks(self, disagreement: float) -> list[str]:
        """Kinds of the attention checks that were failed."""
        return [kind for kind, off in self.checks if off > (disagreement if kind == "repeated" else 0)]

    def faults(self, limits: Thresholds) -> list[str]:
        """Reasons not to count this rater; empty for a reliable one."""
        faults = []
        failed = Counter(self.failed_checks(limits.disagreement))
        if failed.total() > limits.failed_checks:
            kinds = ", ".join(f"{count} {kind}" for kind, count in failed.items())
            faults.append(f"failed {failed.total()} of {len(self.checks)} attention checks ({kinds})")
        if (median := float(np.median(self.seconds))) < limits.seconds:
            faults.append(f"too fast: {median:.1f} s per screen")
        place, count = Counter(self.places).most_common(1)[0]
        if count > limits.same * len(self.places):
            faults.append(f"constant: answer {place} in {count} of {len(self.places)}")
        return faults


def read_key(path: Path) -> dict[str, Any]:
    """The key that was written beside a rating page.

    Raises:
        UserError: The file is missing or no such key.
    """
    try:
        key = read_json(path, _KEY)
        pictures = [picture for image_set in key["sets"] for picture in image_set["pictures"]]
        for what, names in (
            ("aspects", key["aspects"]),
            ("sets", [image_set["id"] for image_set in key["sets"]]),
            ("pictures", pictures),
        ):
            if not names or len(set(names)) < len(names):
                raise DocumentError(f"{path}: its {what} are none, or one of them is there twice")
        for image_set in key["sets"]:
            if sorted(image_set["pictures"].values()) != sorted(key["methods"]):
                raise DocumentError(f"{path}: its set {image_set['id']} has not one picture of each method")
    except DocumentError as error:
        raise UserError(f"{error}: no key of a study; give the key.json that lies beside its rate.html") from error
    return key


def read_answers(path: Path, key: Mapping[str, Any]) -> Rater:
    """A rater's file.

    Raises:
        AnswersError: It is damaged, incomplete, or answers another study; the message says which, without the path.
    """
    try:
        found = read_json(path, dict)
    except DocumentError as error:
        raise AnswersError(f"damaged: {str(error).removeprefix(f'{path}: ')}") from error
    if "study" not in found:
        raise AnswersError("damaged: no answers of an opinion study")
    if found["study"] != key["id"]:
        raise AnswersError(f"of another study: {found['study']!r}, not {key['id']!r}")
    if not found.get("finished"):
        raise AnswersError("incomplete: it was not finished")
    try:
        screens = conform(found, _ANSWERS)["screens"]
        judgements, places = _judged([screen for screen in screens if screen["kind"] == "judged"], key)
        checks = [screen for screen in screens if screen["kind"] != "judged"]
        rater = Rater(
            path,
            found["rater"],
            found["device"],
            found["finished"],
            judgements,
            [_duration(screen) for screen in screens],
            places,
            [_check(screen, judgements, key) for screen in checks],
        )
    except KeyError as error:
        raise AnswersError(f"damaged: no answer to {error}") from error
    except ValueError as error:
        raise AnswersError(f"damaged: {error}") from error
    if key["mode"] == RATINGS:
        things = [picture for image_set in key["sets"] for picture in image_set["pictures"]]
    else:
        things = [image_set["id"] for image_set in key["sets"]]
    wanted = {(thing, aspect) for thing in things for aspect in key["aspects"]}
    if missing := wanted - judgements.keys():
        raise AnswersError(f"incomplete: {len(missing)} of {len(wanted)} answers are missing")
    if judgements.keys() - wanted:
        raise AnswersError("damaged: it judges pictures that the study does not have")
    met = Counter(screen["kind"] for screen in checks)
    for kind, count in key.get("checks", {}).items():  # which keys of earlier versions do not say
        if met[kind] != count:
            raise AnswersError(f"damaged: {met[kind]} attention checks of the kind '{kind}', where raters meet {count}")
    return rater


def find_doubles(raters: Sequence[Rater]) -> dict[Path, str]:
    """Of raters with equal ids, the files of all but the one that finished first, with the reason to leave them out."""
    first: dict[str, Rater] = {}
    doubles = {}
    for rater in sorted(raters, key=lambda rater: rater.finished):
        if rater.name in first:
            doubles[rater.file] = f"the same rater as {first[rater.name].file}, which was finished first"
        first.setdefault(rater.name, rater)
    return doubles


def score_table(rater: Rater, key: Mapping[str, Any]) -> np.ndarray:
    """What a rater gave, ``(aspects, sets, methods)``: ratings, or in best-of 1 for the chosen one and 0 for others."""
    table = np.empty((len(key["aspects"]), len(key["sets"]), len(key["methods"])))
    for row, image_set in enumerate(key["sets"]):
        for picture, method in image_set["pictures"].items():
            for number, aspect in enumerate(key["aspects"]):
                if key["mode"] == RATINGS:
                    value = rater.judgements[picture, aspect]
                else:
                    value = rater.judgements[image_set["id"], aspect] == picture
                table[number, row, key["methods"].index(method)] = value
    return table


def _judged(screens: Sequence[Mapping[str, Any]], key: Mapping[str, Any]) -> tuple[Judgements, list[int]]:
    """What was judged, and the place of each answer.

    Raises:
        ValueError: Something was twice, or an answer is none.
    """
    pictures = {image_set["id"]: set(image_set["pictures"]) for image_set in key["sets"]}
    judgements: Judgements = {}
    places = []
    for screen in screens:
        if key["mode"] == RATINGS and len(screen["candidates"]) != 1:
            raise ValueError(f"a screen rates {len(screen['candidates'])} pictures at once")
        if key["mode"] != RATINGS and set(screen["candidates"]) != pictures.get(screen["set"]):
            raise ValueError(f"a choice among other pictures than those of the set {screen['set']!r}")
        about = screen["candidates"][0] if key["mode"] == RATINGS else screen["set"]
        for aspect, value in screen["answers"].items():
            if (about, aspect) in judgements:
                raise ValueError(f"{about!r} is judged twice")
            judgements[about, aspect] = value
            places.append(_place(screen, value, key))
    return judgements, places


def _duration(screen: Mapping[str, Any]) -> float:
    if not (math.isfinite(screen["seconds"]) and screen["seconds"] >= 0):
        raise ValueError(f"a screen of {screen['seconds']} seconds")
    return float(screen["seconds"])


def _place(screen: Mapping[str, Any], value: Any, key: Mapping[str, Any]) -> int:
    """Which option an answer is, counted from 1.

    Raises:
        ValueError: It is none.
    """
    if key["mode"] != RATINGS:
        return screen["candidates"].index(value) + 1
    if value not in range(1, key["scale"] + 1):
        raise ValueError(f"rating {value!r} on a scale of 1 ... {key['scale']}")
    return value


def _check(screen: Mapping[str, Any], judgements: Judgements, key: Mapping[str, Any]) -> tuple[str, float]:
    if screen["kind"] == "repeated":
        if len(screen["candidates"]) != 1:
            raise ValueError(f"a repeated screen of {len(screen['candidates'])} pictures")
        picture = screen["candidates"][0]
        given = {aspect: _place(screen, screen["answers"][aspect], key) for aspect in key["aspects"]}
        off = [abs(value - judgements[picture, aspect]) for aspect, value in given.items()]
        return "repeated", float(np.mean(off))
    return screen["kind"], float(screen["answers"]["check"] != screen["expected"])
