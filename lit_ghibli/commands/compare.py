"""`lit-ghibli compare`: one page on any number of runs, checkpoints and folders of pictures."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lit_ghibli import __version__
from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands._hydra import command
from lit_ghibli.commands.evaluate import shorten
from lit_ghibli.commands.profile import check_settings, measure_apart
from lit_ghibli.errors import UserError
from lit_ghibli.inference.subjects import (
    TARGET,
    UNTOUCHED,
    Data,
    data_config,
    find_subjects,
    is_run,
    merged,
)
from lit_ghibli.metrics import protocol
from lit_ghibli.recipes import compose, instantiate_trusted, spell
from lit_ghibli.reports.page import NearestPair, Page, picture_side, render_page
from lit_ghibli.reports.tables import Row, latex_table, markdown_table, write_csv, write_table

if TYPE_CHECKING:
    from lit_ghibli.inference.comparison import HeldOut, Outcome, Subject
    from lit_ghibli.inference.nearest_training import Found

_COSTS = ("parameters_m", "seconds_", "peak_mib", "tflop", "nfe")  # of a profile: how columns begin
_NOT_PRINTED = (
    "images",
    "protocol",
    "source",
    "checkpoint_sha256",
)  # columns of the files that page and LaTeX leave out
_NEAREST = ("method", "name", "trained", "training", "bits", "levels")  # columns of nearest.csv
_SHOWN = 12  # nearest training pictures on the page


@dataclass
class Comparison:
    """What is compared on what.

    Attributes:
        paths: What was given, by its name.
        checkpoints: Files of those that are runs.
        trained_on: Data configurations of these.
        data: The one that held-out pictures are taken from.
        subjects: The untouched inputs, and all that was given, in its order.
        held_out: The pictures.
        skipped: What was wrong with folders.
    """

    paths: Mapping[str, Path]
    checkpoints: Mapping[str, Path]
    trained_on: Mapping[str, Data]
    data: Data
    subjects: Sequence["Subject"]
    held_out: "HeldOut"
    skipped: Sequence[str]


@command("compare")
def compare(config: DictConfig) -> None:
    """Write ``compare.html``, ``metrics.csv``, ``.json``, ``.md``, ``.tex``, ``costs.tex`` and ``nearest.csv``."""
    comparison = prepare(config)
    settings = _cost_settings(config, comparison.checkpoints)  # before anything that takes time
    outcomes, targets = _measure(config, comparison)
    metrics = list(dict.fromkeys(name for outcome in outcomes.values() for name in outcome.metrics))
    costs, conditions = _measure_costs(settings, comparison.checkpoints)
    found, reason = _search_training(config, comparison, outcomes)
    rows = _rows(comparison, outcomes, costs, _duplicates(found, config.duplicate_distance))
    protocol.check_one_protocol(rows)
    out = Path(config.out)
    write_table(rows, out, "metrics")
    readable = markdown_table([shorten(row) for row in rows])
    (out / "metrics.md").write_text(readable, encoding="utf-8")
    stamp = outcomes[UNTOUCHED].stamp
    printed = [{name: row[name] for name in row if name not in {*_NOT_PRINTED, *stamp}} for row in rows]
    _write_latex(printed, costs, out)
    if found:
        write_csv([dict(zip(_NEAREST, each, strict=False)) for each in found], out / "nearest.csv")
    page = Page(
        title=f"{len(comparison.paths)} {'methods' if len(comparison.paths) > 1 else 'method'} compared",
        lede=_lede(comparison),
        rows=printed,
        metrics=metrics,
        costs=list(next(iter(costs.values()), {})),
        plotted=_plotted(costs),
        besides={0},
        notes=_notes(comparison, config, stamp),
        protocol={"protocol": rows[0]["protocol"], **stamp},
        conditions=conditions,
        gallery=_gallery(outcomes, targets),
        nearest=_pairs(found, outcomes, config.duplicate_distance),
        verdict=_verdict(found, reason, config.duplicate_distance),
        footer=f"Made by lit-ghibli compare {__version__}. This file needs nothing besides itself.",
    )
    (out / "compare.html").write_text(render_page(page), encoding="utf-8")
    print(readable)
    print(f"page: {out / 'compare.html'}")


def prepare(config: DictConfig) -> Comparison:
    """Open everything that is compared, and the held-out pictures.

    Raises:
        UserError: Something cannot be used.
    """
    from lit_ghibli import checkpoints  # here, so that --help answers at once
    from lit_ghibli.inference.comparison import HeldOut, Run, Untouched, match_folders
    from lit_ghibli.inference.load import load_translator

    paths = find_subjects(config.subjects)
    files = {name: checkpoints.find(path) for name, path in paths.items() if is_run(path)}
    loaded = {name: load_translator(file, config.device, tile=0) for name, file in files.items()}
    trained_on = {name: run["data"] for name, (_, run) in loaded.items()}
    data = data_config(OmegaConf.to_container(config, resolve=True), next(iter(trained_on.values()), None))
    datamodule = instantiate_trusted(data)
    datamodule.setup("validate")
    inputs = datamodule.splits.test_input.names
    folders = {name: path for name, path in paths.items() if name not in files}
    given, skipped = match_folders(folders, inputs, on_bad_file=config.on_bad_file)
    ready = {folder.name: folder for folder in given} | {name: Run(name, each) for name, (each, _) in loaded.items()}
    without = {name for name in inputs if any(name not in folder.paths for folder in given)}
    subjects = [Untouched(UNTOUCHED), *(ready[name] for name in paths)]
    return Comparison(paths, files, trained_on, data, subjects, HeldOut(datamodule, without), skipped)


def _measure(config: DictConfig, comparison: Comparison) -> tuple[dict[str, "Outcome"], dict[str, Any]]:
    """What is known of each subject, and the targets, as far as they are shown."""
    from lit_ghibli.inference.comparison import measure_subject, target_pictures
    from lit_ghibli.inference.load import choose_device

    shown = max(min(config.num_images, len(comparison.held_out)), 0)
    side = picture_side(shown * (len(comparison.subjects) + 1))
    outcomes = {}
    for subject in comparison.subjects:
        suite = instantiate(config.metrics, _convert_="object").to(choose_device(config.device))
        outcomes[subject.name] = measure_subject(subject, comparison.held_out, suite, shown, side)
        outcomes[subject.name].stamp["split"] = comparison.held_out.split
    return outcomes, target_pictures(comparison.held_out, shown, side)


def _cost_settings(config: DictConfig, files: Mapping[str, Path]) -> Row:
    """How costs of runs are measured; empty where they are not.

    Raises:
        UserError: A value cannot be used.
    """
    from lit_ghibli.inference.load import choose_device

    if not (config.costs and files):
        return {}
    given = OmegaConf.to_container(config.profile, resolve=True)
    values = [f"{key}={spell(value)}" for key, value in given.items()]
    chosen = compose("profile", [*values, f"checkpoints={spell(list(map(str, files.values())))}"])
    check_settings(chosen)
    settings = {key: chosen[key] for key in ("size", "batch_size", "warm_up", "threads")}
    return {**settings, "repeats": list(chosen.repeats), "device": str(choose_device(config.device))}


def _measure_costs(settings: Row, files: Mapping[str, Path]) -> tuple[dict[str, Row], list[str]]:
    """Costs of each run, and a sentence on how they were measured."""
    if not settings:
        return {}, []
    rows = {name: measure_apart({"name": name, "checkpoint": str(file), **settings}) for name, file in files.items()}
    last = next(reversed(rows.values()))
    threads = f", {last['threads']} {'threads' if last['threads'] > 1 else 'thread'}" if last["threads"] else ""
    where = f"{last['device']}{threads}, torch {last['torch']}"
    how = (
        f"Costs are of one forward pass with {last['batch_size']} x {last['size']} x {last['size']} pixels on {where}."
    )
    kept = [name for name in last if name.startswith(_COSTS) and name != "tflop_per_s"]
    kept = [name for name in kept if any(row[name] is not None for row in rows.values())]
    return {name: {key: row[key] for key in kept} for name, row in rows.items()}, [how]


def _search_training(
    config: DictConfig, comparison: Comparison, outcomes: Mapping[str, "Outcome"]
) -> tuple[list["Found"], str]:
    """The nearest training picture of every input and output; without them, the reason.

    Inputs are looked for among what every run translates in training, outputs among the pictures of the style that
    their run was shown; folders count as trained on the first run's data.
    """
    from lit_ghibli.inference.nearest_training import search, training_pictures

    if not config.leakage:
        return [], ""
    found, opened = [], {}
    first = next(iter(comparison.trained_on.values()), comparison.data)
    for name, outcome in outcomes.items():
        data = comparison.trained_on.get(name, first)
        data = data if config.photos else merged(data, OmegaConf.to_container(config.data, resolve=True))
        key = json.dumps(data, sort_keys=True)
        trained = name if name in comparison.trained_on else next(iter(comparison.trained_on), "folders")
        try:
            if key not in opened:
                inputs, opened[key] = training_pictures(instantiate_trusted(data))
                found += search(UNTOUCHED, outcomes[UNTOUCHED].fingerprints, trained, inputs)
        except UserError as error:
            return [], f"Not checked, since training pictures cannot be read: {error}"
        if name != UNTOUCHED:
            found += search(name, outcome.fingerprints, trained, opened[key])
    return found, ""


def _duplicates(found: Sequence["Found"], distance: int) -> dict[str, int]:
    """How many pictures of each method are near-duplicates of a training picture."""
    near = {(each.method, each.name) for each in found if each.bits <= distance}
    return {method: sum(method == other for other, _ in near) for method in {each.method for each in found}}


def _rows(
    comparison: Comparison,
    outcomes: Mapping[str, "Outcome"],
    costs: Mapping[str, Row],
    duplicates: Mapping[str, int],
) -> list[Row]:
    """The table, the untouched inputs first."""
    resized = any(subject.resized for subject in comparison.subjects)
    none = dict.fromkeys(next(iter(costs.values()), {}))
    rows = []
    for subject in comparison.subjects:
        outcome = outcomes[subject.name]
        row = {"name": subject.name, **outcome.metrics, **costs.get(subject.name, none)}
        row |= {"near_duplicates": duplicates[subject.name]} if duplicates else {}
        row |= {"resized": subject.resized} if resized else {}
        row |= {"images": len(comparison.held_out), "protocol": protocol.fingerprint(outcome.stamp)}
        row |= _origin(comparison, subject.name)
        for name, bounds in outcome.intervals.items():
            row |= {f"{name}_low": bounds[0], f"{name}_high": bounds[1]}
        rows.append({**row, **outcome.stamp})
    return rows


def _origin(comparison: Comparison, name: str) -> Row:
    """Where the pictures of a subject come from."""
    file = comparison.checkpoints.get(name)
    source = file or comparison.paths.get(name, "-")
    return {"source": str(source), "checkpoint_sha256": sha256_of(file)[:16] if file else None}


def _write_latex(rows: Sequence[Row], costs: Mapping[str, Row], out: Path) -> None:
    """Two tables: ``metrics.tex`` and, where they are known, ``costs.tex``."""
    names = set(next(iter(costs.values()), {}))
    quality = [{name: value for name, value in row.items() if name not in names} for row in rows]
    (out / "metrics.tex").write_text(latex_table(quality, besides={0}), encoding="utf-8")
    if costs:
        table = [{"name": name, **row} for name, row in costs.items()]
        (out / "costs.tex").write_text(latex_table(table), encoding="utf-8")


def _plotted(costs: Mapping[str, Row]) -> list[str]:
    """Parameters, the mean time of the most passes, and memory."""
    names = list(next(iter(costs.values()), {}))
    seconds = [name for name in names if name.startswith("seconds_")]
    return [name for name in ("parameters_m", *seconds[-1:], "peak_mib") if name in names]


def _lede(comparison: Comparison) -> str:
    count = len(comparison.held_out)
    runs, folders = len(comparison.checkpoints), len(comparison.paths) - len(comparison.checkpoints)
    parts = [f"{number} {word}{'s' * (number > 1)}" for number, word in ((runs, "run"), (folders, "folder")) if number]
    return (
        f"{' and '.join(parts)}, measured by the same metrics on the same {count} held-out "
        f"picture{'s' * (count > 1)}, beside the untouched inputs as the mark to beat."
    )


def _notes(comparison: Comparison, config: DictConfig, stamp: Mapping[str, Any]) -> list[str]:
    """What a reader has to know of the numbers."""
    notes = [
        f"{subject.name}: {subject.resized} pictures had another size than their inputs and were resized."
        for subject in comparison.subjects
        if subject.resized
    ]
    if stamp.get("fid_biased"):
        notes.append(
            "A Fr\u00e9chet distance of so few pictures is biased upwards: compare it only with values of as many "
            "pictures, and look at the kernel distance."
        )
    if comparison.held_out.without:
        notes.append(f"{len(comparison.held_out.without)} inputs are left out, of which a folder has no picture.")
    if config.leakage:
        notes.append(
            f"Near-duplicates: pictures whose perceptual hash is at most {config.duplicate_distance} of 64 bits from "
            "that of a training picture; see below."
        )
    return notes


def _gallery(outcomes: Mapping[str, "Outcome"], targets: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Pictures by titles by inputs' names."""
    by_title = {"input" if name == UNTOUCHED else name: outcome.pictures for name, outcome in outcomes.items()}
    by_title |= {TARGET: targets} if targets else {}
    return {
        name: {title: pictures[name] for title, pictures in by_title.items()} for name in outcomes[UNTOUCHED].pictures
    }


def _pairs(found: Sequence["Found"], outcomes: Mapping[str, "Outcome"], distance: int) -> list[NearestPair]:
    """Near-duplicates, and the two nearest pairs of each method, of those whose pictures are on the page."""
    shown: list[Found] = []
    for each in sorted(found, key=lambda each: (each.bits, each.levels)):
        few = sum(each.method == other.method for other in shown) < 2
        if each.name in outcomes[each.method].pictures and (each.bits <= distance or few):
            shown.append(each)
    return [
        NearestPair(
            each.method,
            each.name,
            f"{each.training} of {each.trained}",
            each.bits,
            each.bits <= distance,
            (outcomes[each.method].pictures[each.name], each.picture),
        )
        for each in shown[:_SHOWN]
    ]


def _verdict(found: Sequence["Found"], reason: str, distance: int) -> tuple[str, bool] | None:
    """What the nearest training pictures say, and whether it is a warning; None where nobody asked."""
    if not found:
        return (reason, True) if reason else None
    near = {(each.method, each.name, each.trained) for each in found if each.bits <= distance}
    if near:
        counts = Counter((method, trained) for method, _, trained in near)
        whose = {method: "inputs" if method == UNTOUCHED else f"pictures of {method}" for method, _ in counts}
        lines = [
            f"{count} of the {whose[method]} repeat what {trained} was trained on"
            for (method, trained), count in sorted(counts.items())
        ]
        return f"{'; '.join(lines)}. The numbers may be too good.", True
    nearest = min(each.bits for each in found)
    return f"No near-duplicates: every training picture is at least {nearest} of 64 bits away.", False


if __name__ == "__main__":
    compare()
