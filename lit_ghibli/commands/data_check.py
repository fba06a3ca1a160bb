"""`lit-ghibli data check`: look the folders of a training through before it starts."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.progress import track

from lit_ghibli.commands._hydra import command, expand_out, rewrite_arguments
from lit_ghibli.errors import UserError
from lit_ghibli.reports.contact_sheet import COLUMNS, Entry, contact_sheet, thumbnail
from lit_ghibli.reports.tables import markdown_table, write_csv, write_table

_VERDICTS = {
    "stops": "STOPS A TRAINING",
    "leaks": "LEAKS",
    "warning": "warning",
    "note": "note",
}
_LISTED = 5  # of one kind that are printed; all are in findings.csv
_DOUBLES = 4 * COLUMNS  # pairs of near-copies on the sheet
_UNLIKE = 2 * COLUMNS  # pairs of partners on the sheet
_BATCH = 1024  # pairs compared at once


@command("data check")
def data_check(config: DictConfig) -> None:
    """Write ``findings.csv``, ``files.csv``, ``summary.*`` and ``sheet.png``; exit with 1 if something is wrong."""
    from lit_ghibli.data.check import files as dataset_files  # here, so that --help answers at once
    from lit_ghibli.data.check import findings as check

    _check(config)
    if "root" not in config.data:
        print("these data are rendered, or none are needed: there are no folders to look through")
        return
    datamodule = instantiate(config.data, _convert_="object")
    source = datamodule.source
    folders, pairings = dataset_files.layout(source)
    listed, findings = check.find_files(folders, pairings)
    keep_grids = any(folder.halves for folder in folders) or bool(pairings)
    inspecting = dataset_files.inspect_files(listed, source.min_side, keep_grids=keep_grids)
    files = list(track(inspecting, "Looking through", len(listed), console=Console(stderr=True)))
    findings += check.find_bad(files, skipped=source.on_bad_file == "skip")
    findings += check.find_too_few(folders, files, datamodule.batch_size)
    findings += check.find_duplicates(files, config.duplicate_distance)
    findings += check.find_misfits(pairings, files, source)
    strangers, compared = check.find_strangers(pairings, files, likeness)
    findings += strangers + check.find_color_differences(files)
    findings.sort(key=lambda finding: list(_VERDICTS).index(finding.verdict))
    rows = [dataset_files.summarize(folder, files) for folder in folders]
    _write(Path(config.out), rows, findings, files)
    print(markdown_table(_without(rows, dataset_files.COLOR_COLUMNS)))
    print(markdown_table(_without(rows, set(rows[0]) - {"folder", *dataset_files.COLOR_COLUMNS})))
    print(_in_words(findings))
    if entries := [*_doubles(findings), *_unlike(compared), *_samples(folders, files, config.samples)]:
        title = f"{source.root}: {len(files):,} files, {len(findings):,} findings"
        contact_sheet(title, entries).save(Path(config.out) / "sheet.png")
    print(f"tables and sheet: {config.out}")
    if any(finding.verdict in ("stops", "leaks") for finding in findings):
        raise SystemExit(1)


def likeness(inputs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Structure consistency of reduced pictures ``(N, 32, 32)`` and others like them: ``(N,)`` in ``[0, 1]``."""
    import torch

    from lit_ghibli.images import from_uint8
    from lit_ghibli.metrics.structure import structure_consistency

    values = []
    for first in range(0, len(inputs), _BATCH):
        pair = (
            from_uint8(torch.from_numpy(grids[first : first + _BATCH])).unsqueeze(1).expand(-1, 3, -1, -1)
            for grids in (inputs, others)
        )
        values.append(structure_consistency(*pair).numpy())
    return np.concatenate(values)


def _write(out: Path, rows: list[dict[str, Any]], findings: Sequence[Any], files: Sequence[Any]) -> None:
    """All tables; the findings in words go below the summary, too."""
    write_table(rows, out, "summary")
    with open(out / "summary.md", "a", encoding="utf-8") as file:
        file.write(f"\n{_in_words(findings)}\n")
    columns = ("verdict", "kind", "folder", "file", "other", "distance", "detail", "advice")
    found = [{column: getattr(finding, column) for column in columns} for finding in findings]
    for row in found:
        row["folder"] = row["folder"] and row["folder"].path
    write_csv(found or [dict.fromkeys(columns)], out / "findings.csv")
    write_csv([_row(file) for file in files] or [{"folder": None}], out / "files.csv")


def _without(rows: Sequence[dict[str, Any]], columns: Collection[str]) -> list[dict[str, Any]]:
    """Some columns of a table that is too wide for a terminal."""
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def _row(file: Any) -> dict[str, Any]:
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


def _in_words(findings: Sequence[Any]) -> str:
    """A line for each kind of finding with what to do, and the first of each below it."""
    kinds: dict[tuple[str, str], list[Any]] = {}
    for finding in findings:
        kinds.setdefault((finding.verdict, finding.kind), []).append(finding)
    lines = []
    for (verdict, kind), found in kinds.items():
        lines.append(f"{_VERDICTS[verdict]}: {kind} ({len(found):,}). What to do: {found[0].advice}")
        lines += [f"    {finding.detail}" for finding in found[:_LISTED]]
        lines += [f"    ... and {len(found) - _LISTED:,} more in findings.csv"] if len(found) > _LISTED else []
    if not any(finding.verdict in ("stops", "leaks") for finding in findings):
        lines.append("nothing here stops a training, and no held-out picture is trained on")
    return "\n".join(lines)


def _doubles(findings: Sequence[Any]) -> list[Entry]:
    """The nearest near-copies, leaks first; copies need no look."""
    doubles = [finding for finding in findings if finding.distance is not None]
    doubles.sort(key=lambda finding: (finding.verdict == "warning", finding.distance))
    return [
        Entry(
            _picture(finding.file),
            _picture(finding.other),
            *_names(finding.file, finding.other, f"{finding.kind}, {finding.distance} bits differ"),
        )
        for finding in doubles[:_DOUBLES]
    ]


def _unlike(compared: Sequence[tuple[Any, Any, float]]) -> list[Entry]:
    """The partners that look least alike."""
    entries = []
    for first, second, value in sorted(compared, key=lambda pair: pair[2])[:_UNLIKE]:
        left, right = (_picture(first.path), _picture(second.path)) if second else (_picture(first.path), None)
        entries.append(Entry(left, right, *_names(first.path, second and second.path, f"likeness {value:.2f}")))
    return entries


def _samples(folders: Sequence[Any], files: Sequence[Any], count: int) -> list[Entry]:
    """Pictures of each folder at even distances, two in an entry."""
    entries = []
    for folder in folders:
        usable = [file.path for file in files if file.folder == folder and not file.problem]
        number = min(count, len(usable))
        chosen = [usable[place * len(usable) // number] for place in range(number)]
        for left, right in zip(chosen[::2], [*chosen[1::2], None], strict=False):
            entries.append(Entry(_picture(left), right and _picture(right), *_names(left, right, "sample")))
    return entries


def _names(first: Path, second: Path | None, note: str) -> tuple[str, str]:
    """Two lines below a pair of pictures."""
    names = [f"{path.parent.name}/{path.name}" for path in (first, second) if path]
    return " | ".join(names), note


def _picture(path: Path) -> Image.Image:
    from lit_ghibli.data.image_files import open_image

    return thumbnail(open_image(path))


def _check(config: DictConfig) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        UserError: Naming the value.
    """
    if not isinstance(config.duplicate_distance, int) or not 0 <= config.duplicate_distance <= 32:
        raise UserError(f"duplicate_distance must be 0 to 32 bits of 64; got {config.duplicate_distance!r}")
    if not isinstance(config.samples, int) or config.samples < 0:
        raise UserError(f"samples must be a whole number of at least 0; got {config.samples!r}")


if __name__ == "__main__":
    rewrite_arguments(expand_out)
    data_check()
