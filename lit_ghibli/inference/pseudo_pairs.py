"""A pseudo-paired set: photographs beside what a teacher makes of them, of which the good ones are selected.

In the folder of a set:

    records.jsonl    what is known of every photograph; only grows, so that a stopped run goes on where it was
    translated/      the teacher's pictures, also of photographs that are dropped later: a change of a threshold then
                     costs no translation
    pairA/ pairB/    photographs and pictures that are kept, the same files where the file system can link them
    manifest.csv     the verdict on every photograph
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from rich.progress import track
from torch import Tensor

from lit_ghibli.checkpoints import link
from lit_ghibli.data.image_files import FolderError, ImageFileError, bullets, open_image
from lit_ghibli.data.near_duplicates import find_near_duplicates, perceptual_hash
from lit_ghibli.data.sources import stem
from lit_ghibli.files import remove_partials, write_atomically, write_picture
from lit_ghibli.images import from_picture
from lit_ghibli.inference.pair_selection import KEPT, Thresholds, judge
from lit_ghibli.inference.picture_files import plan_outputs
from lit_ghibli.inference.records import Records
from lit_ghibli.metrics.structure import label_agreement, structure_consistency, style_strength

SCORES = ("structure", "style", "semantics")

T = TypeVar("T")
Photos = Mapping[str, Path]  # files by their name in the set: relative, with subfolders


def find_photos(photos: str | Path, out: Path) -> dict[str, Path]:
    """Photographs of a folder by their name in a set in ``out``, which both are checked to serve for.

    Raises:
        FolderError: There are none; two differ in their extension only; one folder lies inside the other in a way
            that photographs could be lost; ``out`` holds pairs that are none of a pseudo-paired set.
    """
    if out.resolve() in [Path(photos).resolve(), *Path(photos).resolve().parents]:
        raise FolderError(f"photos={photos} lies in out={out}, where pictures are removed: choose another out")
    foreign = [out / half for half in ("pairA", "pairB") if (out / half).exists()]
    if foreign and not (out / "records.jsonl").exists():
        raise FolderError(
            f"{foreign[0]} was not made by this command, which removes pictures there: choose another out"
        )
    plan = plan_outputs([photos], out, overwrite=True)
    found = {path.relative_to(out).as_posix(): photo for photo, path in plan.items()}
    counts = Counter(map(stem, found))
    alike = [name for name in found if counts[stem(name)] > 1]
    if alike:
        raise FolderError("photographs must differ in more than their extension; rename some of:", *bullets(alike))
    return found


def make_pairs(
    teacher: Callable[[Image.Image], Image.Image],
    photos: Photos,
    out: Path,
    records: Records,
    thresholds: Thresholds,
    segment: Callable[[Tensor], Tensor] | None = None,
) -> list[dict[str, Any]]:
    """Translate photographs, judge the pairs, and leave those that are kept in ``out``; goes on where it was.

    Duplicates are found first, and are never translated.

    Args:
        teacher: Turns an RGB picture into one of the same size.
        photos: What `find_photos` has found.
        out: Folder of the set.
        records: Of this set.
        thresholds: What a pair must reach.
        segment: With the attribute ``source``; turns images ``(1, 3, H, W)`` in ``[-1, 1]`` into label maps.

    Returns:
        For each photograph its ``name``, ``verdict`` (`KEPT`, or why it was dropped), ``detail`` and those of
        `SCORES` that it has.

    Raises:
        UserError: Photographs that are on record are missing or have changed.
    """
    _require_recorded(photos, records)
    for folder in {partial.parent for partial in out.rglob(".*.partial")}:
        remove_partials(folder)  # what a killed process was writing
    unreadable = _hash(photos, records)
    readable = [name for name in photos if name not in unreadable]
    originals = _find_repeated(readable, records, thresholds.duplicate_distance)
    single = {name: photos[name] for name in readable if name not in originals}
    _translate(teacher, single, records, out)
    if segment is not None:
        _compare_meaning(segment, single, records, out)
    dropped = {name: ("unreadable", reason) for name, reason in unreadable.items()}
    dropped |= {name: ("duplicate", f"of {original}") for name, original in originals.items()}
    names = SCORES if segment is not None else SCORES[:2]
    scores = {name: {score: records[name][score] for score in names} for name in single}
    rows = judge(photos, scores, dropped, thresholds)
    _place(rows, photos, out)
    _write_manifest(rows, out)
    return rows


def picture_path(out: Path, folder: str, name: str) -> Path:
    """Where a folder of a set has the picture that is made of a photograph."""
    return (out / folder / name).with_suffix(".png")


def _require_recorded(photos: Photos, records: Records) -> None:
    """Refuse another folder of photographs; new ones in the same folder are welcome."""

    def changed(name: str) -> bool:
        size = photos[name].stat().st_size
        return records[name].get("bytes", size) != size

    gone = [name for name in records if name not in photos or changed(name)]
    if gone:
        raise FolderError(
            f"the set was begun with other photographs, for {len(gone)} of {len(list(records))} on record are missing "
            f"or have changed: give the same ones to go on, or another folder with out=:",
            *bullets(gone),
        )


def _hash(photos: Photos, records: Records) -> dict[str, str]:
    """Record size and hash of new photographs; return what is wrong with those that cannot be read."""
    unreadable = {}
    missing = [name for name in photos if "hash" not in records[name]]
    for name in _progress(missing, "Comparing photographs"):
        try:
            image = open_image(photos[name])
        except ImageFileError as error:
            unreadable[name] = error.reason
        else:
            records.add(name, bytes=photos[name].stat().st_size, hash=f"{perceptual_hash(image):016x}")
    return unreadable


def _find_repeated(names: list[str], records: Records, distance: int | None) -> dict[str, str]:
    """The name of the original, by the name of its repetition."""
    if distance is None:
        return {}
    originals = find_near_duplicates([int(records[name]["hash"], 16) for name in names], distance)
    return {name: names[index] for name, index in zip(names, originals, strict=True) if index is not None}


def _translate(teacher: Callable[[Image.Image], Image.Image], photos: Photos, records: Records, out: Path) -> None:
    """Write and score the pictures that are missing."""
    missing = [
        name
        for name in photos
        if "structure" not in records[name] or not picture_path(out, "translated", name).exists()
    ]
    for name in _progress(missing, "Translating"):
        photo = open_image(photos[name])
        picture = teacher(photo)
        # Also after a power cut, since a record that follows says that the picture is there.
        write_picture(picture, picture_path(out, "translated", name))
        pair = from_picture(photo), from_picture(picture)
        records.add(name, structure=_score(structure_consistency(*pair)), style=_score(style_strength(*pair)))


def _compare_meaning(segment: Callable[[Tensor], Tensor], photos: Photos, records: Records, out: Path) -> None:
    """Score the label maps of photographs and pictures, where this network has not."""
    missing = [name for name in photos if records[name].get("segmentation") != segment.source]
    for name in _progress(missing, "Segmenting"):
        files = photos[name], picture_path(out, "translated", name)
        maps = [segment(from_picture(open_image(file))) for file in files]
        agreement = label_agreement(*maps, num_classes=segment.num_classes)
        records.add(name, semantics=_score(agreement), segmentation=segment.source)


def _progress(items: list[T], description: str) -> Iterable[T]:
    return track(items, description) if items else items  # no empty bar where nothing is left to do


def _score(values: Tensor) -> float:
    return round(values.item(), 4)


def _place(rows: list[dict[str, Any]], photos: Photos, out: Path) -> None:
    """Make pairA and pairB hold the pairs that are kept, and no other."""
    for row in rows:
        if row["verdict"] != KEPT:
            halves = (
                out / "pairA" / row["name"],
                *(picture_path(out, half, row["name"]) for half in ("pairA", "pairB")),
            )
            for path in halves:
                path.unlink(missing_ok=True)
    for row in _progress([row for row in rows if row["verdict"] == KEPT], "Writing pairs"):
        name = row["name"]
        as_is, converted, picture = (
            out / "pairA" / name,
            *(picture_path(out, half, name) for half in ("pairA", "pairB")),
        )
        if not (as_is.exists() or converted.exists()):
            photo = open_image(photos[name])
            if _is_stored_as(photo, photos[name]):
                as_is.parent.mkdir(parents=True, exist_ok=True)
                link(photos[name].resolve(), as_is)  # the picture, where the photograph is a symbolic link itself
            else:
                write_picture(photo, converted)
        if not picture.exists():
            picture.parent.mkdir(parents=True, exist_ok=True)
            link(picture_path(out, "translated", name), picture)


def _is_stored_as(photo: Image.Image, path: Path) -> bool:
    """Whether any reader of the file sees this picture: it is not turned, and not of another mode."""
    with Image.open(path) as stored:
        return stored.mode == "RGB" and stored.size == photo.size and stored.tobytes() == photo.tobytes()


def _write_manifest(rows: list[dict[str, Any]], out: Path) -> None:
    with write_atomically(out / "manifest.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, fieldnames=("name", "verdict", "detail", *SCORES))
        writer.writeheader()
        writer.writerows(rows)
