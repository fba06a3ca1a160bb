"""The page on which people judge pictures without knowing whose they are: one file that works without internet.

Attention checks, their places drawn anew for every rater:

* *instructed*: a screen says which answer to choose. Those who do not read fail, and two of one rater ask for different
  answers, so that pressing one key throughout fails, too.
* *repeated* (ratings): a picture of the first half comes again in the last third. Those who press keys at random
  contradict themselves.
* *photograph* (best-of): the untouched photograph is among the candidates, and has to be found. Another choice between
  the same pictures would be no check: where two are about as good, honest raters change their minds.
"""

import base64
import io
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lit_ghibli.errors import UserError
from lit_ghibli.reports.templates import render

RATINGS, BEST_OF = "ratings", "best_of"
MODES = (RATINGS, BEST_OF)

_TEMPLATE = Path(__file__).parent / "templates" / "rating_page.html.j2"


@dataclass
class ImageSet:
    """A photograph and what each method makes of it.

    Attributes:
        name: By which the researcher knows it; it stays out of the page.
        photograph: As `embed` gives it.
        pictures: By method, likewise.
    """

    name: str
    photograph: str
    pictures: Mapping[str, str]


@dataclass
class Checks:
    """How many attention checks a rater meets: ``repeated`` ones in ratings, ``photograph`` ones in best-of."""

    instructed: int
    repeated: int
    photograph: int

    def __post_init__(self) -> None:
        for name, count in asdict(self).items():
            if not isinstance(count, int) or count < 0:
                raise UserError(f"checks.{name} must be a whole number of at least 0; got {count!r}")


@dataclass
class Wording:
    """Everything that raters read.

    Attributes:
        lang: Of the texts, as in HTML: ``en``.
        title: Of the page.
        instructions: Paragraphs of the first screen.
        aspects: Question by aspect.
        labels: Of the ratings, the worst first; as many as the scale has steps.
        texts: Words on buttons and the like.
    """

    lang: str
    title: str
    instructions: Sequence[str]
    aspects: Mapping[str, str]
    labels: Sequence[str]
    texts: Mapping[str, str]


@dataclass
class Study:
    """What to hand out, and what to keep.

    Attributes:
        page: HTML for the raters.
        key: What each anonymous id stands for, as plain values for JSON.
    """

    page: str
    key: dict[str, Any]


def make_study(sets: Sequence[ImageSet], mode: str, wording: Wording, checks: Checks) -> Study:
    """Make the page and its key; the ids are random, so that neither the page nor the answers give a method away.

    Args:
        sets: Every one with the same methods.
        mode: `RATINGS`: each picture gets one on each aspect; `BEST_OF`: in each set the best is chosen on each aspect.
        wording: Everything that raters read.
        checks: How many attention checks there are.

    Raises:
        UserError: Too few methods or aspects, labels that keys cannot reach, or a text that names a method.
    """
    methods = list(sets[0].pictures)
    _check(mode, methods, wording)
    embedded, known, shown = {}, [], []
    for image_set in sets:
        photograph, *ids = (secrets.token_hex(6) for _ in range(1 + len(methods)))
        embedded |= {photograph: image_set.photograph, **dict(zip(ids, image_set.pictures.values(), strict=True))}
        shown.append({"id": secrets.token_hex(4), "photograph": photograph, "pictures": sorted(ids)})
        known.append({**shown[-1], "input": image_set.name, "pictures": dict(zip(ids, methods, strict=True))})
    common = {"id": secrets.token_hex(6), "mode": mode}
    study = {**common, "checks": asdict(checks), **asdict(wording), "sets": shown}
    study["pictures"] = {identity: embedded[identity] for identity in sorted(embedded)}
    key = {**common, "aspects": list(wording.aspects), "scale": len(wording.labels), "methods": methods, "sets": known}
    key["checks"] = _met(checks, mode, len(sets) * len(methods))
    return Study(str(render(_TEMPLATE, wording=wording, study=study)), key)


def _met(checks: Checks, mode: str, pictures: int) -> dict[str, int]:
    """How many checks of each kind every rater meets, of whom the page repeats pictures of the first half alone."""
    if mode == RATINGS:
        return {"instructed": checks.instructed, "repeated": min(checks.repeated, (pictures + 1) // 2)}
    return {"instructed": checks.instructed, "photograph": checks.photograph}


def embed(image: Image.Image, side: int, quality: int) -> str:
    """A picture as a data URL: a JPEG of at most ``side`` pixels per side, colors at full resolution, no metadata."""
    reduced = image.convert("RGB")
    reduced.info = {}  # a comment of the file would be written again
    reduced.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    reduced.save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _check(mode: str, methods: Sequence[str], wording: Wording) -> None:
    if not methods or (mode == BEST_OF and len(methods) < 2):
        raise UserError(f"mode {mode} needs more methods than {len(methods)}: methods={{NAME: FOLDER, ...}}")
    if not 2 <= len(wording.labels) <= 9:
        raise UserError(f"labels must be 2 to 9, one for each step of the scale; got {len(wording.labels)}")
    if not wording.aspects:
        raise UserError("aspects must hold at least one question")
    read = "\n".join([wording.title, *wording.instructions, *wording.aspects.values(), *wording.labels])
    for method in methods:
        if re.search(rf"(?<!\w){re.escape(method)}(?!\w)", read, re.IGNORECASE):
            raise UserError(f"the title, instructions, aspects or labels name '{method}', which raters must not know")
