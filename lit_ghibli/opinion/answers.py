"""Reading the answers of an opinion study, and telling which raters to count."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lit_ghibli.errors import UserError
from lit_ghibli.opinion.page import RATINGS

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
        key = _read_json(path)
    except AnswersError as error:
        raise UserError(f"{path}: {error}") from error
    if not {"id", "mode", "aspects", "scale", "methods", "sets"} <= key.keys():
        raise UserError(f"{path} is no key of a study: give the key.json that lies beside its rate.html")
    return key


def read_answers(path: Path, key: Mapping[str, Any]) -> Rater:
    """A rater's file.

    Raises:
        AnswersError: It is damaged, incomplete, or answers another study; the message says which, without the path.
    """
    found = _read_json(path)
    if "study" not in found:
        raise AnswersError("damaged: no answers of an opinion study")
    if found["study"] != key["id"]:
        raise AnswersError(f"of another study: {found['study']}, not {key['id']}")
    if not found.get("finished"):
        raise AnswersError("incomplete: it was not finished")
    try:
        screens = found["screens"]
        judgements: Judgements = {}
        places = []
        for screen in screens:
            if screen["kind"] == "judged":
                about = screen["candidates"][0] if key["mode"] == RATINGS else screen["set"]
                judgements |= {(about, aspect): value for aspect, value in screen["answers"].items()}
                places += [_place(screen, value, key) for value in screen["answers"].values()]
        rater = Rater(
            path,
            str(found["rater"]),
            str(found["device"]),
            str(found["finished"]),
            judgements,
            [float(screen["seconds"]) for screen in screens],
            places,
            [_check(screen, judgements, key) for screen in screens if screen["kind"] != "judged"],
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise AnswersError(f"damaged: {type(error).__name__} {error}") from error
    if key["mode"] == RATINGS:
        things = [picture for image_set in key["sets"] for picture in image_set["pictures"]]
    else:
        things = [image_set["id"] for image_set in key["sets"]]
    wanted = {(thing, aspect) for thing in things for aspect in key["aspects"]}
    if missing := wanted - judgements.keys():
        raise AnswersError(f"incomplete: {len(missing)} of {len(wanted)} answers are missing")
    if judgements.keys() - wanted:
        raise AnswersError("damaged: it judges pictures that the study does not have")
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnswersError(f"cannot be read ({error.strerror})") from error
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise AnswersError(f"damaged: no JSON ({error})") from error
    if not isinstance(found, dict):
        raise AnswersError("damaged: a JSON file of something else")
    return found


def _place(screen: Mapping[str, Any], value: Any, key: Mapping[str, Any]) -> int:
    """Which option an answer is, counted from 1.

    Raises:
        ValueError: It is none.
    """
    if key["mode"] != RATINGS:
        return screen["candidates"].index(value) + 1
    if value not in range(1, key["scale"] + 1):
        raise ValueError(f"rating {value!r} on a scale of 1 ... {key['scale']}")
    return int(value)


def _check(screen: Mapping[str, Any], judgements: Judgements, key: Mapping[str, Any]) -> tuple[str, float]:
    if screen["kind"] == "repeated":
        (picture,) = screen["candidates"]
        off = [abs(screen["answers"][aspect] - judgements[picture, aspect]) for aspect in key["aspects"]]
        return "repeated", float(np.mean(off))
    return screen["kind"], float(screen["answers"]["check"] != screen["expected"])
