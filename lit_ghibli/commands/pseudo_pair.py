"""`lit-ghibli pseudo-pair`: photographs beside what a run or a style makes of them, the good pairs selected."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._idle import IN_TILES, refuse_idle, refuse_idle_words
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import write_picture
from lit_ghibli.recipes import build
from lit_ghibli.reports.contact_sheet import Entry, contact_sheet, thumbnail
from lit_ghibli.reports.tables import markdown_table

_SHOWN = 24  # pairs on a sheet
_QUANTILES = {"lowest": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "highest": 1.0}


@command("pseudo-pair")
def pseudo_pair(config: DictConfig) -> None:
    """Make the pseudo-paired set ``out`` from ``photos``, or go on with it."""
    from lit_ghibli.inference.load import open_model  # here, so that --help answers at once
    from lit_ghibli.inference.pair_selection import Thresholds
    from lit_ghibli.inference.pseudo_pairs import find_photos, make_pairs
    from lit_ghibli.inference.records import Records
    from lit_ghibli.inference.styles import PAINTER
    from lit_ghibli.inference.subjects import is_by_pictures

    thresholds = Thresholds(**{name: config[name] for name in Thresholds.__dataclass_fields__})
    out = output_folder(config.out)
    photos = find_photos(Path(config.photos).expanduser(), out)
    teacher = open_model(config.teacher, config.device, config.tile, build(config.painter))
    translator = teacher.translator
    if config.teacher != PAINTER:
        refuse_idle_words(r"painter\b", "teacher=painter")
    if not is_by_pictures(str(config.teacher)) and translator.tile != config.tile:
        refuse_idle("pseudo-pair", config, ["tile"], IN_TILES)
    segment = None
    if config.segmentation is None:
        refuse_idle("pseudo-pair", config, ["min_semantics"], "segmentation=NETWORK")
    if config.segmentation is not None:
        from lit_ghibli.networks.segmentation import Segmentation

        segment = Segmentation(config.segmentation).to(translator.device)
    whose = "" if teacher.config else f"{teacher.name} "
    records = Records(out / "records.jsonl", teacher=f"{whose}sha256:{teacher.sha256}", tile=config.tile)
    say(f"{len(photos)} photographs with {teacher.name} on {translator.device}")
    rows = make_pairs(translator, photos, out, records, thresholds, segment)
    _draw_sheets(rows, photos, out)
    _print_summary(rows, out)


def _print_summary(rows: list[dict[str, Any]], out: Path) -> None:
    """Print how the scores are distributed, by which thresholds are chosen, and what became of the photographs.

    Raises:
        UserError: No pair is left.
    """
    from lit_ghibli.inference.pair_selection import KEPT
    from lit_ghibli.inference.pseudo_pairs import SCORES

    table = []
    for score in SCORES:
        if values := [row[score] for row in rows if score in row]:
            table.append({"score": score, **{name: float(np.quantile(values, q)) for name, q in _QUANTILES.items()}})
    if table:
        print(markdown_table(table))
    counts = Counter(row["verdict"] for row in rows)
    kept, dropped = counts.pop(KEPT, 0), counts.total()
    reasons = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    summary = f"{kept} of {len(rows)} pairs kept, {dropped} dropped{f': {reasons}' if reasons else ''}"
    if not kept:
        raise UserError(f"{summary}; see {out / 'manifest.csv'} and dropped.png, then train longer or ask for less")
    say(summary, f"pairA, pairB, manifest.csv and sheets of both: {out}")


def _draw_sheets(rows: list[dict[str, Any]], photos: dict[str, Path], out: Path) -> None:
    """Draw ``kept.png`` and ``dropped.png``; a sheet without pairs is removed."""
    from lit_ghibli.inference.pair_selection import KEPT

    kept = sorted((row for row in rows if row["verdict"] == KEPT), key=lambda row: -row["structure"])
    dropped = [row for row in rows if row["verdict"] != KEPT]
    shown = {"kept": _spread(kept), "dropped": _of_every_verdict(dropped)}
    titles = {
        "kept": f"{len(kept)} of {len(rows)} pairs kept: photograph and picture, from the best structure to the least",
        "dropped": f"{len(dropped)} of {len(rows)} pairs dropped: photograph and picture, or the photograph it repeats",
    }
    for name, chosen in shown.items():
        if chosen:
            write_picture(
                contact_sheet(titles[name], [_entry(row, photos, out) for row in chosen]), out / f"{name}.png"
            )
        else:
            (out / f"{name}.png").unlink(missing_ok=True)


def _spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `_SHOWN` rows, evenly spaced, the first and the last among them."""
    numbers = np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).round().astype(int)
    return [rows[number] for number in numbers]


def _of_every_verdict(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `_SHOWN` rows, as many of each verdict as there are, as far as possible; by verdict."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["verdict"], []).append(row)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    chosen = [row for row in in_turn if row is not None][:_SHOWN]
    return sorted(chosen, key=lambda row: list(groups).index(row["verdict"]))


def _entry(row: dict[str, Any], photos: dict[str, Path], out: Path) -> Entry:
    from lit_ghibli.data.image_files import open_image
    from lit_ghibli.inference.pair_selection import KEPT
    from lit_ghibli.inference.pseudo_pairs import SCORES, picture_path

    if row["verdict"] == "unreadable":
        return Entry(None, None, row["name"], f"unreadable: {row['detail']}")
    if row["verdict"] == "duplicate":
        beside = photos[row["detail"].removeprefix("of ")]
    else:
        beside = picture_path(out, "translated", row["name"])
    left, right = (thumbnail(open_image(path)) for path in (photos[row["name"]], beside))
    scores = ", ".join(f"{score} {row[score]:.3g}" for score in SCORES if score in row)
    note = scores if row["verdict"] == KEPT else f"{row['verdict']} {row['detail']}"
    return Entry(left, right, row["name"], note)


if __name__ == "__main__":
    pseudo_pair()
