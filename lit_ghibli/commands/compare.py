"""`lit-ghibli compare`: one page on any number of runs, checkpoints, styles and folders of pictures."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lit_ghibli import __version__
from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._idle import refuse_idle
from lit_ghibli.commands._output import output_folder
from lit_ghibli.commands.evaluate import merged, new_suite, opened
from lit_ghibli.commands.profile import check_settings, measure_apart
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import write_text
from lit_ghibli.inference.subjects import COMPARISON, INPUT, TARGET, UNTOUCHED, find_subjects, is_model, of_epochs
from lit_ghibli.metrics import protocol
from lit_ghibli.opinion.scores import read_scores
from lit_ghibli.overrides import spell
from lit_ghibli.recipes import compose
from lit_ghibli.reports.page import NearestPair, Page, picture_side, render_page
from lit_ghibli.reports.tables import Row, label, latex_table, write_csv
from lit_ghibli.trust import instantiate_trusted

if TYPE_CHECKING:
    from lit_ghibli.inference.measure import HeldOut, Outcome, Subject
    from lit_ghibli.inference.nearest_training import Found

_COSTS = ("parameters_m", "seconds_", "peak_mib", "tflop", "nfe")  # of a profile: how columns begin
_NOT_PRINTED = ("images", "protocol", "source", "checkpoint_sha256")  # of the files, which page and LaTeX leave out
_NEAREST = ("method", "name", "trained", "training", "bits", "levels")  # columns of nearest.csv
_SHOWN = 12  # nearest training pictures on the page

Data = dict[str, Any]  # configuration of a data module


@command("compare")
def compare(config: DictConfig) -> None:
    """Write ``compare.html``, ``metrics.*``, ``costs.tex``, ``nearest.csv`` and ``comparison.json``, what it was of."""
    from lit_ghibli.inference.importing import PROVENANCE, describe  # here, so that --help answers at once
    from lit_ghibli.inference.load import open_model
    from lit_ghibli.inference.measure import HeldOut, Run, Subject, match_folders, measure, write_measures

    out = output_folder(config.out)
    if not config.costs:
        refuse_idle("compare", config, ["profile"], "costs=true")
    if not config.leakage:
        refuse_idle("compare", config, ["duplicate_distance"], "leakage=true")
    paths = find_subjects(of_epochs(config.subjects, config.epochs))
    models = {name: open_model(path, config.device, tile=0) for name, path in paths.items() if is_model(path)}
    trained_on = {name: model.data for name, model in models.items() if model.data}
    imported = {name: model.config[PROVENANCE] for name, model in models.items() if PROVENANCE in (model.config or {})}
    data = data_config(config, next(iter(trained_on.values()), None))
    datamodule = opened(data, config.data)
    inputs = datamodule.splits.test_input.names
    folders = {name: path for name, path in paths.items() if name not in models}
    given, _ = match_folders(folders, inputs, on_bad_file=config.on_bad_file)
    ready = {folder.name: folder for folder in given}
    ready |= {name: Run(name, model.translator) for name, model in models.items()}
    subjects = [Subject(UNTOUCHED), *(ready[name] for name in paths)]
    held_out = HeldOut(datamodule, {name for name in inputs if any(name not in folder.paths for folder in given)})
    words = {name: model.name for name, model in models.items()}
    settings = _cost_settings(config, words)  # before anything that takes time
    opinions = read_scores(Path(config.mos)) if config.mos else None
    unknown = opinions.unknown(paths) if opinions else []

    shown = max(min(config.num_images, len(held_out)), 0)
    side = picture_side(shown * (len(subjects) + 1))
    outcomes = {each.name: measure(each, held_out, new_suite(config), num_images=shown, side=side) for each in subjects}
    for name, outcome in outcomes.items() if opinions else ():
        outcome.metrics[opinions.column] = opinions.values.get(name)
        outcome.intervals |= {opinions.column: opinions.intervals[name]} if name in opinions.intervals else {}
    targets = held_out.first(shown, lambda _, target: target, side)
    costs, conditions = _measure_costs(settings, words)
    searched = {name: outcome for name, outcome in outcomes.items() if name not in models or name in trained_on}
    found, reason = _search_training(config, trained_on, data, searched)
    near = {(each.method, each.name) for each in found if each.bits <= config.duplicate_distance}
    duplicates = Counter(method for method, _ in near)
    cost_names = list(next(iter(costs.values()), {}))
    rows = []
    for subject in subjects:
        beside = dict(costs.get(subject.name, dict.fromkeys(cost_names)))
        beside |= {"near_duplicates": duplicates[subject.name] if subject.name in searched else None} if found else {}
        beside |= {"resized": subject.resized} if any(each.resized for each in subjects) else {}
        model = models.get(subject.name)
        source = model.name if model else str(paths.get(subject.name, "-"))
        origin = {"source": source, "checkpoint_sha256": model.sha256[:16] if model else None}
        rows.append(outcomes[subject.name].row({"name": subject.name}, beside, origin))
    protocol.check_one_protocol(rows)

    readable = write_measures(rows, out)
    subjects_of = {name: str(path.absolute() if path.exists() else path) for name, path in paths.items()}
    of_data = data | ({"root": str(Path(data["root"]).expanduser().absolute())} if data.get("root") else {})
    write_text(out / COMPARISON, json.dumps({"subjects": subjects_of, "data": of_data}, indent=1) + "\n")
    stamp = outcomes[UNTOUCHED].stamp
    printed = [{name: row[name] for name in row if name not in {*_NOT_PRINTED, *stamp}} for row in rows]
    quality = [{name: value for name, value in row.items() if name not in cost_names} for row in printed]
    write_text(out / "metrics.tex", latex_table(quality, besides={0}))
    if costs:
        table = [{"name": name, **row} for name, row in costs.items()]
        write_text(out / "costs.tex", latex_table(table))
    if found:
        write_csv([dict(zip(_NEAREST, each, strict=False)) for each in found], out / "nearest.csv")
    styles = len(models) - len(trained_on) - len(imported)
    numbers = {"run": len(trained_on), "imported network": len(imported), "style": styles, "folder": len(folders)}
    origins = [f"{name}: {describe(provenance)}." for name, provenance in imported.items()]
    raters = [f"{label(opinions.column)}: what people thought, from {opinions.path}."] if opinions else []
    raters += [f"{opinions.path} also rates {', '.join(unknown)}: not compared."] if unknown else []
    most_passes = [name for name in cost_names if name.startswith("seconds_")][-1:]
    columns = {INPUT if name == UNTOUCHED else name: outcome.pictures for name, outcome in outcomes.items()}
    columns |= {TARGET: targets} if targets else {}
    page = Page(
        title=f"{len(paths)} {'methods' if len(paths) > 1 else 'method'} compared",
        lede=_lede(numbers, len(held_out)),
        rows=printed,
        metrics=list(dict.fromkeys(name for outcome in outcomes.values() for name in outcome.metrics)),
        costs=cost_names,
        plotted=[name for name in ("parameters_m", *most_passes, "peak_mib") if name in cost_names],
        besides={0},
        notes=[*origins, *raters, *_notes(config, subjects, held_out, stamp, searched=bool(found or reason))],
        protocol={"protocol": rows[0]["protocol"], **stamp},
        conditions=conditions,
        gallery={
            name: {title: pictures[name] for title, pictures in columns.items()}
            for name in outcomes[UNTOUCHED].pictures
        },
        nearest=_pairs(found, outcomes, config.duplicate_distance),
        verdict=_verdict(found, reason, config.duplicate_distance),
        footer=f"Made by lit-ghibli compare {__version__}. This file needs nothing besides itself.",
    )
    write_text(out / "compare.html", render_page(page))
    print(readable)
    say(*origins, *raters, f"page: {out / 'compare.html'}")


def data_config(config: DictConfig, of_run: Data | None) -> Data:
    """Where held-out pictures come from: the folders given, or the data of the first run.

    Raises:
        UserError: Neither is known, or the folders do not exist.
    """
    folders = OmegaConf.to_container(config.folders, resolve=True)
    given = {name: config[name] for name in ("photos", "targets") if config[name] is not None}
    for name, folder in given.items():
        if not Path(folder).is_dir():
            raise UserError(f"{name}={folder}: no such folder")
    if given and "_target_" in config.data:
        raise UserError(f"{next(iter(given))}= and data= are two ways to say which pictures are held out: give one")
    if len(given) == 1:
        raise UserError(f"{next(iter(given))} is given alone: give photos=FOLDER and targets=FOLDER together")
    if given:
        places = {name: str(Path(folder).absolute()) for name, folder in given.items()}
        folders |= {"root": ".", "test_photo": places["photos"], "test_anime": places["targets"]}
        return merged(folders, config.data)
    if of_run is None and not {"root", "_target_"} & set(config.data):
        raise UserError(
            "neither styles nor folders of pictures nor imported weights say which photographs are held out: give "
            "data=painted data.root=FOLDER of photographs, or photos=FOLDER and targets=FOLDER, or "
            f"data.root=FOLDER with {folders['test_photo']}/ and {folders['test_anime']}/ in it"
        )
    return merged(folders if of_run is None else of_run, config.data)


def _cost_settings(config: DictConfig, words: Mapping[str, str]) -> Row:
    """How costs of runs and styles are measured; empty where they are not.

    Raises:
        UserError: A value cannot be used.
    """
    from lit_ghibli.inference.load import choose_device

    if not (config.costs and words):
        return {}
    given = OmegaConf.to_container(config.profile, resolve=True)
    values = [f"{key}={spell(value)}" for key, value in given.items()]
    chosen = compose("profile", [*values, f"checkpoints={spell(list(words.values()))}"])
    check_settings(chosen)
    settings = {key: chosen[key] for key in ("size", "batch_size", "warm_up", "threads")}
    return {**settings, "repeats": list(chosen.repeats), "device": str(choose_device(config.device))}


def _measure_costs(settings: Row, words: Mapping[str, str]) -> tuple[dict[str, Row], list[str]]:
    """Costs of each run and style, and a sentence on how they were measured."""
    if not settings:
        return {}, []
    rows = {name: measure_apart({"name": name, "checkpoint": word, **settings}) for name, word in words.items()}
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
    config: DictConfig, trained_on: Mapping[str, Data], data: Data, outcomes: Mapping[str, "Outcome"]
) -> tuple[list["Found"], str]:
    """The nearest training picture of every input and output; without them, the reason.

    Inputs are looked for among what every run translates in training, outputs among the pictures of the style that
    their run was shown; folders count as trained on the first run's data. Of styles it is not known.
    """
    from lit_ghibli.inference.nearest_training import search, training_pictures

    if not config.leakage or outcomes.keys() == {UNTOUCHED}:
        return [], ""
    found, opened = [], {}
    first = next(iter(trained_on.values()), data)
    for name, outcome in outcomes.items():
        data = trained_on.get(name, first)
        data = data if config.photos or "_target_" in config.data else merged(data, config.data)
        key = json.dumps(data, sort_keys=True)
        trained = name if name in trained_on else next(iter(trained_on), "folders")
        try:
            if key not in opened:
                inputs, opened[key] = training_pictures(instantiate_trusted(data, typed=config.data))
                found += search(UNTOUCHED, outcomes[UNTOUCHED].signatures, trained, inputs)
        except UserError as error:
            return [], f"Not checked, since training pictures cannot be read: {error}"
        if name != UNTOUCHED:
            found += search(name, outcome.signatures, trained, opened[key])
    return found, ""


def _lede(numbers: Mapping[str, int], count: int) -> str:
    *parts, last = [f"{number} {word}{'s' * (number > 1)}" for word, number in numbers.items() if number]
    return (
        f"{', '.join(parts)}{' and ' * bool(parts)}{last}, measured by the same metrics on the same {count} held-out "
        f"picture{'s' * (count > 1)}, beside the untouched inputs as the mark to beat."
    )


def _notes(
    config: DictConfig,
    subjects: Sequence["Subject"],
    held_out: "HeldOut",
    stamp: Mapping[str, Any],
    *,
    searched: bool,
) -> list[str]:
    """What a reader has to know of the numbers."""
    notes = [
        f"{subject.name}: {subject.resized} pictures had another size than their inputs and were resized"
        f"{f', {subject.stretched} of them to another aspect' if subject.stretched else ''}."
        for subject in subjects
        if subject.resized
    ]
    if stamp.get("fid_biased"):
        notes.append(
            "A Fr\u00e9chet distance of so few pictures is biased upwards: compare it only with values of as many "
            "pictures, and look at the kernel distance."
        )
    if held_out.without:
        notes.append(f"{len(held_out.without)} inputs are left out, of which a folder has no picture.")
    if searched:
        notes.append(
            f"Near-duplicates: pictures whose perceptual hash is at most {config.duplicate_distance} of 64 bits from "
            "that of a training picture; see below."
        )
    return notes


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
