"""`lit-ghibli evaluate`: measure a checkpoint or a style on held-out pictures, beside the untouched inputs."""

import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import UserError, say
from lit_ghibli.files import write_picture
from lit_ghibli.inference.subjects import AS_TRAINED, INPUT, TARGET, UNTOUCHED
from lit_ghibli.recipes import build
from lit_ghibli.reports.grids import labelled_grid
from lit_ghibli.reports.tables import write_csv
from lit_ghibli.trust import instantiate_trusted

if TYPE_CHECKING:
    from lightning import LightningDataModule

    from lit_ghibli.metrics.suite import MetricSuite


@command("evaluate")
def evaluate(config: DictConfig) -> None:
    """Write ``metrics.csv``, ``.json``, ``.md``, ``per_picture.csv``, ``pictures.png`` and ``translated/``.

    Of a run whose best checkpoint is not its last one, the best is measured too; its pictures go to ``best/``.
    """
    from lit_ghibli import checkpoints  # here, so that --help answers at once
    from lit_ghibli.inference.hub import is_address
    from lit_ghibli.inference.load import open_model
    from lit_ghibli.inference.measure import HeldOut, Run, Subject, measure, write_measures

    suite = new_suite(config)  # first of all: it may lack a network's weights
    paths = _find_checkpoints(config.checkpoint or checkpoints.newest_run())
    models = [open_model(path, config.device, tile=0, weights=config.weights) for path in paths]
    of_run = models[0].data
    if of_run is None and "_target_" not in config.data:
        kind = "holds imported weights" if models[0].config else "is a style"
        raise UserError(
            f"{paths[0]} {kind}, with no held-out pictures of its own: give data=painted data.root=FOLDER of "
            "photographs, or other data"
        )
    stem = re.sub("[:,]", "_", paths[0].stem)  # of a style by pictures
    name = "_".join(str(part) for part in (stem, config.solver, config.steps, config.weights) if part is not None)
    apart = models[0].config is None or is_address(config.checkpoint or "")  # a style, or a file in the hub's cache
    beside = Path("outputs") if apart else paths[0].parents[1]
    datamodule = instantiate_trusted(merged(of_run, config.data), typed=config.data)
    reads = getattr(datamodule.source, "reads", [])  # scenes are rendered
    out = output_folder(config.out or beside / "evaluation" / name, reads)
    datamodule.setup("validate")
    runs = []
    for path, model in zip(paths, models, strict=True):
        trained = model.translator
        translator = trained.with_solver(config.solver, config.steps)
        title = "output" if path == paths[0] else f"{path.stem} output"
        runs.append(Run(title, translator, None if translator is trained else trained))
    held_out = HeldOut(datamodule)
    shown = {"num_images": config.num_images, "each": True}
    untouched = measure(Subject(UNTOUCHED), held_out, suite, **shown)
    targets = held_out.first(config.num_images, lambda _, target: target)
    rows = []
    for path, model, run in zip(paths, models, runs, strict=True):
        folder = out if path == paths[0] else out / path.stem
        outcome = measure(run, held_out, new_suite(config), **shown, folder=folder / "translated")
        columns = {INPUT: untouched.pictures, "output": outcome.pictures, TARGET: targets}
        beside: dict[str, Any] = {"seconds_per_picture": statistics.median(run.seconds)}
        if run.trained:
            network = run.translator.network
            apart = {f"solver_{name}": value for name, value in run.apart.compute().items()}
            beside |= {"solver": network.solver, "nfe": network.nfe, **apart}
            columns[AS_TRAINED] = held_out.first(config.num_images, lambda photo, _, run=run: run.as_trained(photo))
        scores = [
            {"name": name, **found, **_of_input(untouched.scores[name])} for name, found in outcome.scores.items()
        ]
        write_csv(scores, folder / "per_picture.csv")
        titles = [title for title in (INPUT, "output", AS_TRAINED, TARGET) if columns.get(title)]
        grid = [[(title, np.asarray(columns[title][name])) for title in titles] for name in untouched.pictures]
        write_picture(labelled_grid(grid, max_side=256), folder / "pictures.png")
        origin = {"checkpoint": model.name, "checkpoint_sha256": model.sha256[:16]}
        rows.append({**outcome.row({"pictures": run.name}, {}, origin), **beside})
    origin = {key: rows[0][key] for key in ("checkpoint", "checkpoint_sha256")}
    print(write_measures([*rows, untouched.row({"pictures": UNTOUCHED}, {}, origin)], out))
    say(f"tables and pictures: {out}")


def _of_input(scores: dict[str, float]) -> dict[str, float]:
    """The untouched photograph's scores against its target, beside those of a picture."""
    return {f"input_{name}": value for name, value in scores.items() if not name.startswith("content_")}


def new_suite(config: DictConfig) -> "MetricSuite":
    """The metrics that a command is told, empty, on its device, where their networks compute."""
    from lit_ghibli.inference.load import choose_device

    return build(config.metrics).to(choose_device(config.device))


def merged(data: Any, values: Any) -> dict[str, Any]:
    """A data module's configuration with some values replaced, or with all, where these are a data module's."""
    return OmegaConf.to_container(values if "_target_" in values else OmegaConf.merge(data, values), resolve=True)


def opened(data: dict[str, Any], typed: Any) -> "LightningDataModule":
    """The data module of a configuration, some of whose values were typed, set up for its held-out pictures."""
    datamodule = instantiate_trusted(data, typed=typed)
    datamodule.setup("validate")
    return datamodule


def _find_checkpoints(given: str | Path) -> list[Path]:
    """What to measure: a style or a checkpoint; of a run's folder, the last and, where it is another, the best one."""
    from lit_ghibli.inference.load import find_checkpoint, is_style

    if is_style(given):
        return [Path(given)]
    last = find_checkpoint(given)
    best = last.with_name("best.ckpt")
    if not Path(given).is_dir() or not best.is_file() or sha256_of(best) == sha256_of(last):
        return [last]
    return [last, best]


if __name__ == "__main__":
    evaluate()
