"""Which pictures `nst` paints, and the sheet that shows them."""

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lit_ghibli.data.image_files import FolderError, bullets, open_image
from lit_ghibli.data.image_folders import is_below, list_images
from lit_ghibli.errors import UserError
from lit_ghibli.files import check_plain, explain
from lit_ghibli.reports.grids import Cell

BY_NAME = "names"  # of `pairs`: the pictures of two folders that are named alike

Pair = tuple[Path, tuple[Path, ...]]  # a content and the styles that are blended for it


class Job(NamedTuple):
    """One picture to paint, with these values of what can be one column each."""

    content: Path
    styles: tuple[Path, ...]
    values: Mapping[str, float | None]
    name: str


def plan(
    inputs: Sequence[str], pairs: str | None, out: Path, columns: Mapping[str, Sequence[float | None]]
) -> list[Job]:
    """What to paint.

    Args:
        inputs: The first is the content, the others are styles; files are blended, a folder's are not.
        pairs: None for every content in every style; or `BY_NAME`, or a CSV file with the pairs, in place of inputs.
        out: Where pictures go.
        columns: Values of which each makes a picture of every pair.

    Raises:
        UserError: An input is missing, a style folder stands beside other styles, pictures have no partner, or two
            would have one name.
    """
    if pairs in (None, BY_NAME):
        chosen = _inputs(inputs, out, by_name=pairs is not None)
    elif inputs:
        raise UserError(f"pairs={pairs} says which pictures: leave out {' '.join(inputs)}, or pairs")
    else:
        chosen = _listed(Path(pairs).expanduser())
    if not chosen:
        raise UserError(f"{' '.join(inputs)}: no pictures but those in --out {out}, where what is painted goes")
    swept = _swept(columns.values(), columns)
    jobs = []
    for content, styles in chosen:
        for values in itertools.product(*columns.values()):
            of_job = dict(zip(columns, values, strict=True))
            suffix = "".join(f"_{key}{_number(of_job[key])}" for key in swept)
            jobs.append(Job(content, styles, of_job, f"{content.stem}_{_title(styles)}{suffix}"))
    names = [job.name for job in jobs]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"several pictures would be written to {out / twins[0]}.png: rename files or values given twice"
        )
    return jobs


def sheet_rows(jobs: Sequence[Job], out: Path, in_pairs: bool) -> list[list[Cell]]:
    """Rows of the contact sheet: contents by styles; of chosen pairs, or several values, pairs by their pictures."""
    rows: dict[Any, list[Cell]] = {}
    swept = _swept([{job.values[key] for job in jobs} for key in jobs[0].values], jobs[0].values)
    in_pairs = in_pairs or bool(swept)
    if not in_pairs:
        styles = [(_title(blend), _read(*blend)) for blend in dict.fromkeys(job.styles for job in jobs)]
        rows["styles"] = [("content", np.full_like(styles[0][1], 255)), *styles]
    for job in jobs:
        painted = _read(out / f"{job.name}.png")
        if in_pairs:
            row = rows.setdefault(job[:2], [("content", _read(job.content)), ("style", _read(*job.styles))])
            row.append((", ".join(f"{key} {_number(job.values[key])}" for key in swept) or "result", painted))
        else:
            row = rows.setdefault(job.content, [("content", _read(job.content))])
            row.append((_title(job.styles), painted))
    return list(rows.values())


def _inputs(inputs: Sequence[str], out: Path, by_name: bool) -> list[Pair]:
    if len(inputs) < 2:
        raise UserError("give a content and a style: lit-ghibli nst photo.jpg painting.jpg --out out/")
    first, *rest = paths = [Path(path) for path in inputs]
    _check_existing(paths)
    if by_name:
        if len(paths) != 2 or not all(path.is_dir() for path in paths):
            raise UserError(f"pairs={BY_NAME} takes a folder of contents and one of styles; got {' '.join(inputs)}")
        from lit_ghibli.data.pair_sources import partners  # here, so that --help answers at once
        from lit_ghibli.data.sources import Files

        pairs, alone = partners(*(Files(folder, _files(folder, out)) for folder in paths))
        if alone:
            raise FolderError(
                f"{len(alone)} pictures without a partner; rename or remove them, or list pairs in a file, "
                "pairs=pairs.csv:",
                *bullets(alone),
            )
        return [(content, (style,)) for content, style in pairs]
    if any(path.is_dir() for path in rest) and len(rest) > 1:
        raise UserError(f"styles are one folder or files, which are blended; got {' '.join(map(str, rest))}")
    blends = [(style,) for style in _files(rest[0], out)] if rest[0].is_dir() else [tuple(rest)]
    return [(content, blend) for content in (_files(first, out) if first.is_dir() else [first]) for blend in blends]


def _listed(table: Path) -> list[Pair]:
    """The pairs of a CSV file with columns ``content`` and ``style``, whose paths begin at its folder."""
    try:
        check_plain(table)
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"pairs: {explain(error)}; give a CSV file, or {BY_NAME}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"pairs: {table} is no CSV file in UTF-8: {error}") from error
    if not rows or not all(row.get("content") and row.get("style") for row in rows):
        raise UserError(f"{table}: each line needs a content and a style, below a first line 'content,style'")
    pairs = [tuple(table.parent / Path(row[key]).expanduser() for key in ("content", "style")) for row in rows]
    _check_existing(itertools.chain(*pairs))
    if folders := [str(path) for path in itertools.chain(*pairs) if path.is_dir()]:
        raise UserError(f"{table} lists pictures, and no folders: {', '.join(folders)}")
    return [(content, (style,)) for content, style in pairs]


def _check_existing(paths: Iterable[Path]) -> None:
    if missing := [str(path) for path in paths if not path.exists()]:
        raise FolderError(f"no such file or folder: {', '.join(missing)}")


def _files(folder: Path, out: Path) -> list[Path]:
    """The pictures of a folder, those of earlier calls excepted."""
    return [path for path in list_images(folder) if not is_below(path, out)]


def _swept(values: Iterable[Sequence | set], keys: Iterable[str]) -> list[str]:
    return [key for key, of_key in zip(keys, values, strict=True) if len(of_key) > 1]


def _number(value: float | None) -> str:
    return "as given" if value is None else f"{value:g}"


def _title(styles: Sequence[Path]) -> str:
    return "+".join(style.stem for style in styles)


def _read(*paths: Path) -> np.ndarray:
    """A picture, or several of one height side by side."""
    pictures = [open_image(path) for path in paths]
    height = min(picture.height for picture in pictures)
    sizes = [(max(1, round(picture.width * height / picture.height)), height) for picture in pictures]
    resized = [picture.resize(size, Image.Resampling.LANCZOS) for picture, size in zip(pictures, sizes, strict=True)]
    return np.hstack([np.asarray(picture) for picture in resized])
