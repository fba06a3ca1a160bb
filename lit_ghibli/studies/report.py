"""The report of a study: a table, figures of effects, a grid of pictures, and a page of Markdown that shows them."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lit_ghibli.errors import say
from lit_ghibli.files import write_picture, write_text
from lit_ghibli.reports.effects import summarize_seeds
from lit_ghibli.reports.grids import labelled_grid
from lit_ghibli.reports.tables import Row, markdown_table, write_csv, write_table
from lit_ghibli.studies.cells import Source
from lit_ghibli.studies.ledger import Entry
from lit_ghibli.studies.steps import EVALUATION, read_rows
from lit_ghibli.studies.study import SEED, Study
from lit_ghibli.trust import instantiate_trusted

REPORT = "report"  # folder within the study's

_WIDEST = 1800  # pixels of a grid of pictures
_SIDES = 96, 256  # pixels that the longer side of one picture in it may have, at least and at most


def write_report(
    study: Study, source: Source, out: Path, typed: str, num_images: int, apart: Mapping[str, str]
) -> None:
    """Write ``report.md`` and what it shows into ``<out>/report``.

    Args:
        study: Whose results these are.
        source: Its cells, at least one of them done and not apart.
        out: The study's folder.
        typed: The command line.
        num_images: Rows in the grid of pictures.
        apart: Of :func:`~lit_ghibli.studies.stamps.cells_apart`; ``cells.csv`` alone has their numbers.
    """
    entries, folder = source.entries(), out / REPORT
    folder.mkdir(parents=True, exist_ok=True)
    measured = [entry for entry in entries if entry.state == "done"]
    done = [entry for entry in measured if entry.name not in apart]
    factors = list(done[0].levels)[:-1]  # the last one is the seed
    write_csv([{**_numbers(entry), **_costs(entry, apart)} for entry in measured], folder / "cells.csv")
    cells = [_numbers(entry) for entry in done]
    metrics = list(dict.fromkeys(itertools.chain.from_iterable(entry.metrics for entry in done)))
    table = summarize_seeds(cells, factors, metrics)
    if len(study.seeds) == 1:  # without what only several have
        table = [{name: row[name] for name in row if name != "seeds" and not name.endswith("_sd")} for row in table]
    write_table(table, folder, "table")
    figures = _figures(study, cells, factors, done, folder)
    if num_images and (rows := _pictures(done, out, num_images)):
        side = min(max(_WIDEST // len(rows[0]), _SIDES[0]), _SIDES[1])
        write_picture(labelled_grid([list(row.items()) for row in rows], max_side=side), folder / "pictures.png")
        figures.append("pictures.png")
    text = _markdown(study, entries, table, figures, typed, apart)
    write_text(folder / "report.md", text)
    print(f"\n{markdown_table(table)}")
    say(f"report: {folder / 'report.md'}")


def _numbers(entry: Entry) -> Row:
    """What a cell is, and what came of it."""
    return {**{key: _number(level) for key, level in entry.levels.items()}, **entry.metrics}


def _costs(entry: Entry, apart: Mapping[str, str]) -> Row:
    """What a cell took, where it is, and, where any is, why it is not in the table."""
    took = {f"{step}_seconds": seconds for step, seconds in entry.seconds.items()}
    return {**took, "folder": entry.folder, **({"left_out": apart.get(entry.name, "")} if apart else {})}


def _number(level: str) -> str | int | float:
    """A level as a number, where it is one."""
    for kind in (int, float):
        try:
            return kind(level)
        except ValueError:
            continue
    return level


def _figures(
    study: Study, cells: Sequence[Row], factors: Sequence[str], done: Sequence[Entry], folder: Path
) -> list[str]:
    """Draw what the factors do; names of the files."""
    from lit_ghibli.reports.figures import effects_figure, pairwise_figure  # matplotlib is slow to import

    varied = [factor for factor in factors if len({row[factor] for row in cells}) > 1]
    if not varied:
        return []
    metrics = list(study.metrics)
    reference = next((entry.reference for entry in done if entry.reference), {})
    files = effects_figure(cells, varied, metrics, folder / "effects", reference)
    if len(varied) > 1 and study.search is None:  # a map with one level for each trial says nothing
        for metric in metrics:
            files += pairwise_figure(cells, varied, metric, folder / f"pairs_{metric.replace('/', '_')}")
    return [file.name for file in files if file.suffix == ".png"]


def _pictures(done: Sequence[Entry], out: Path, count: int) -> list[dict[str, np.ndarray]]:
    """Rows of a grid: held-out inputs, what the cells of the first seed make of them, and targets where known."""
    from lit_ghibli.data.image_files import open_image  # here, so that --help answers at once

    first = [entry for entry in done if entry.levels[SEED] == done[0].levels[SEED]]
    folders = {title(entry): _translated(out / entry.folder) for entry in first}
    folders = {title: folder for title, folder in folders.items() if folder}
    if folders:
        return _translations(folders, first[0], out, count)
    results = {title(entry): sorted((out / entry.folder).glob("*.png")) for entry in first}
    # Of methods that paint one picture:
    row = {title: np.asarray(open_image(files[0])) for title, files in results.items() if files}
    return [row] if row else []


def _translations(folders: Mapping[str, Path], entry: Entry, out: Path, count: int) -> list[dict[str, np.ndarray]]:
    """Rows of translations between their inputs and their targets."""
    from lit_ghibli import checkpoints
    from lit_ghibli.images import to_pixels
    from lit_ghibli.inference.load import is_style
    from lit_ghibli.inference.measure import HeldOut, match_folders

    if entry.checkpoint:
        checkpoint = out / entry.checkpoint
    else:  # a cell that evaluates a checkpoint of somebody else's
        checkpoint = Path(read_rows(out / entry.folder, "evaluate", evaluated=True)[0]["checkpoint"])
    if is_style(checkpoint):  # which keeps no data
        return []
    run = checkpoints.load(checkpoint, mmap=True)[checkpoints.CONFIG_KEY]
    if "data" not in run:  # imported weights
        return []
    datamodule = instantiate_trusted(run["data"])
    datamodule.setup("validate")
    held_out = HeldOut(datamodule)
    subjects, _ = match_folders(folders, datamodule.splits.test_input.names, on_bad_file="skip")
    rows = []
    for name, photo, target in itertools.islice(held_out.inputs(), count):
        images = {"input": photo, **{each.name: each.picture(name, photo) for each in subjects}}
        images |= {} if target is None else {"target": target}
        rows.append({title: to_pixels(image) for title, image in images.items()})
    return rows


def _translated(folder: Path) -> Path | None:
    """Where a cell's translations are."""
    places = (folder / EVALUATION / "translated", folder / "translated")
    return next((place for place in places if place.is_dir()), None)


def title(entry: Entry) -> str:
    """A cell without its seed: its levels, numbers with their factors where there are several."""
    levels = {factor: level for factor, level in entry.levels.items() if factor != SEED}
    if len(levels) == 1:
        return next(iter(levels.values()))
    named = [level if isinstance(_number(level), str) else f"{factor} {level}" for factor, level in levels.items()]
    return " ".join(named)


def _markdown(
    study: Study,
    entries: Sequence[Entry],
    table: Sequence[Row],
    figures: Sequence[str],
    typed: str,
    apart: Mapping[str, str],
) -> str:
    """The page."""
    from lit_ghibli.inference.load import choose_device  # here, so that --help answers at once
    from lit_ghibli.inference.profiling import machine

    where = machine(choose_device("auto"))
    cores = "" if where["threads"] is None else f", {os.cpu_count()} cores"
    seconds = sum(sum(entry.seconds.values()) for entry in entries)
    parts = [
        f"# {study.name}{study.preset and ', '}{study.preset}",
        study.question,
        f"```bash\n{typed}\n```",
        markdown_table(table).rstrip(),
        f"{len(entries)} cells, {seconds / 60:.0f} minutes in all, "
        f"on {where['device']}{cores}, torch {where['torch']}.",
        *(f"![{name}]({name})" for name in figures),
    ]
    for state in ("failed", "interrupted", "waiting"):
        if names := [entry.name for entry in entries if entry.state == state]:
            parts.append(f"{state.capitalize()}: " + "; ".join(names) + ".")
    parts += [f"Left out of the table: {name}: {why}." for name, why in apart.items()]
    return "\n\n".join(parts) + "\n"
