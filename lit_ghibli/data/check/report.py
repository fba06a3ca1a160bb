"""What was found in a data set, for people: tables, sentences, and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lit_ghibli.data.check.files import Folder, PictureFile
from lit_ghibli.data.check.findings import Finding
from lit_ghibli.data.image_files import open_image
from lit_ghibli.errors import one_line
from lit_ghibli.files import write_text
from lit_ghibli.reports.contact_sheet import COLUMNS, Entry, contact_sheet, thumbnail
from lit_ghibli.reports.tables import markdown_table, write_csv, write_table

VERDICTS = {"stops": "STOPS A TRAINING", "leaks": "LEAKS", "warning": "warning", "note": "note"}  # worst first

_LISTED = 5  # of one kind that are printed; all are in findings.csv
_DOUBLES = 4 * COLUMNS  # pairs of near-copies on the sheet
_UNLIKE = 2 * COLUMNS  # pairs of partners on the sheet

Compared = Sequence[tuple[PictureFile, PictureFile | None, float]]  # as of `find_strangers`


def write_tables(
    out: Path, rows: list[dict[str, Any]], findings: Sequence[Finding], files: Sequence[PictureFile]
) -> None:
    """``summary.*`` with the findings in words below it, ``findings.csv`` and ``files.csv``."""
    write_table(rows, out, "summary")
    write_text(out / "summary.md", f"{markdown_table(rows)}\n{in_words(findings)}\n")
    columns = ("verdict", "kind", "folder", "file", "other", "distance", "detail", "advice")
    found = [{column: getattr(finding, column) for column in columns} for finding in findings]
    for row in found:
        row["folder"] = row["folder"] and row["folder"].path
    write_csv(found or [dict.fromkeys(columns)], out / "findings.csv")
    write_csv([_row(file) for file in files] or [{"folder": None}], out / "files.csv")


def _row(file: PictureFile) -> dict[str, Any]:
    """One file's line in ``files.csv``."""
    width, height = file.size or (None, None)
    return {
        "folder": file.folder.path.name,
        "name": file.path.relative_to(file.folder.path).as_posix(),
        "width": width,
        "height": height,
        "format": file.format,
        "mode": file.mode,
        "hash": "" if file.hash is None else f"{file.hash:016x}",
        "sha256": file.digest,
        "problem": file.problem,
    }


def in_words(findings: Sequence[Finding]) -> str:
    """A line for each kind of finding with what to do, and the first of each below it."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.verdict, finding.kind), []).append(finding)
    lines = []
    for (verdict, kind), found in kinds.items():
        lines.append(f"{VERDICTS[verdict]}: {kind} ({len(found):,}). What to do: {found[0].advice}")
        lines += [f"    {one_line(finding.detail)}" for finding in found[:_LISTED]]
        lines += [f"    ... and {len(found) - _LISTED:,} more in findings.csv"] if len(found) > _LISTED else []
    if not any(finding.verdict in ("stops", "leaks") for finding in findings):
        lines.append("nothing here stops a training, and no held-out picture is trained on")
    return "\n".join(lines)


def draw_sheet(
    title: str,
    findings: Sequence[Finding],
    compared: Compared,
    folders: Sequence[Folder],
    files: Sequence[PictureFile],
    samples: int,
) -> Image.Image | None:
    """A contact sheet of near-copies, of the partners that look least alike, and of samples of each folder."""
    entries = [*_doubles(findings), *_unlike(compared), *_samples(folders, files, samples)]
    return contact_sheet(title, entries) if entries else None


def _doubles(findings: Sequence[Finding]) -> list[Entry]:
    """The nearest near-copies, leaks first; copies need no look."""
    doubles = [finding for finding in findings if finding.distance is not None]
    doubles.sort(key=lambda finding: (finding.verdict == "warning", finding.distance))
    return [
        _entry(finding.file, finding.other, f"{finding.kind}, {finding.distance} bits differ")
        for finding in doubles[:_DOUBLES]
    ]


def _unlike(compared: Compared) -> list[Entry]:
    """The partners that look least alike."""
    least = sorted(compared, key=lambda pair: pair[2])[:_UNLIKE]
    return [_entry(first.path, second and second.path, f"likeness {value:.2f}") for first, second, value in least]


def _samples(folders: Sequence[Folder], files: Sequence[PictureFile], count: int) -> list[Entry]:
    """Pictures of each folder at even distances, two in an entry."""
    entries = []
    for folder in folders:
        usable = [file.path for file in files if file.folder == folder and not file.problem]
        number = min(count, len(usable))
        chosen = [usable[place * len(usable) // number] for place in range(number)]
        entries += [_entry(*pair, "sample") for pair in zip(chosen[::2], [*chosen[1::2], None], strict=False)]
    return entries


def _entry(first: Path, second: Path | None, note: str) -> Entry:
    names = [f"{path.parent.name}/{path.name}" for path in (first, second) if path]
    left, right = (path and thumbnail(open_image(path)) for path in (first, second))
    return Entry(left, right, " | ".join(names), note)
