"""`lit-ghibli evaluate`: measure a checkpoint on held-out pictures, beside the untouched inputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lit_ghibli.checksums import sha256_of
from lit_ghibli.commands._hydra import command
from lit_ghibli.metrics import protocol
from lit_ghibli.recipes import instantiate_trusted
from lit_ghibli.reports.grids import labelled_grid
from lit_ghibli.reports.tables import markdown_table, write_csv, write_table

if TYPE_CHECKING:
    from lit_ghibli.metrics.suite import MetricSuite


@command("evaluate")
def evaluate(config: DictConfig) -> None:
    """Write ``metrics.csv``, ``.json``, ``.md``, ``per_picture.csv``, ``pictures.png`` and ``translated/``.

    Of a run whose best checkpoint is not its last one, the best is measured too; its pictures go to ``best/``.
    """
    from lit_ghibli import checkpoints  # here, so that --help answers at once

    untouched = instantiate(config.metrics, _convert_="object")  # first of all: it may lack a network's weights
    paths = _find_checkpoints(config.checkpoint or checkpoints.newest_run())
    name = "_".join(str(part) for part in (paths[0].stem, config.solver, config.steps) if part is not None)
    out = Path(config.out) if config.out else paths[0].parents[1] / "evaluation" / name
    rows = [_measure_checkpoint(paths[0], config, untouched, out, "output")]
    for best in paths[1:]:
        rows.append(_measure_checkpoint(best, config, None, out / best.stem, f"{best.stem} output"))
    rows.append(_row("untouched input", untouched, rows[0]))
    write_table(rows, out, "metrics")
    readable = markdown_table([shorten(row) for row in rows])
    (out / "metrics.md").write_text(readable, encoding="utf-8")
    print(readable)
    print(f"tables and pictures: {out}")


def _find_checkpoints(given: str | Path) -> list[Path]:
    """The checkpoint to measure; of a run's folder, the last one and, where it is another, the best one."""
    from lit_ghibli import checkpoints

    last = checkpoints.find(given)
    best = last.with_name("best.ckpt")
    if not Path(given).is_dir() or not best.is_file() or sha256_of(best) == sha256_of(last):
        return [last]
    return [last, best]


def _measure_checkpoint(
    path: Path, config: DictConfig, untouched: "MetricSuite | None", out: Path, title: str
) -> dict[str, Any]:
    """Write what single pictures show, and return the row of the table."""
    from lit_ghibli.inference.evaluation import TRAINED_SOLVER, measure
    from lit_ghibli.inference.load import load_translator

    trained, run = load_translator(path, config.device, tile=0)
    translators = {"output": trained.with_solver(config.solver, config.steps)}
    if translators["output"] is not trained:
        translators[TRAINED_SOLVER] = trained
    data = OmegaConf.merge(run["data"], config.data)
    datamodule = instantiate_trusted(OmegaConf.to_container(data, resolve=True))
    datamodule.setup("validate")
    suite = instantiate(config.metrics, _convert_="object").to(trained.device)  # where its networks compute
    if untouched is not None:
        untouched.to(trained.device)
    measured = measure(translators, datamodule, suite, untouched, config.num_images, out / "translated")
    if measured.per_picture:
        write_csv(measured.per_picture, out / "per_picture.csv")
    labelled_grid(measured.grid, max_side=256).save(out / "pictures.png")
    splits = datamodule.splits
    origin = {
        "images": len(splits.test_input),
        "checkpoint": str(path),
        "checkpoint_sha256": sha256_of(path)[:16],
        "split": "test, with training pictures as real ones" if splits.stands_in else "test",
    }
    row = {**_row(title, suite, origin), "seconds_per_picture": measured.seconds}
    if measured.solver:
        network = translators["output"].network
        row |= {"solver": network.solver, "nfe": network.nfe, **measured.solver}
    return row


def _row(title: str, suite: "MetricSuite", origin: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, their intervals as ``<metric>_low`` and ``_high``, and the protocol that they were taken by."""
    bounds = {
        f"{name}_{end}": value
        for name, interval in suite.intervals().items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    stamp = {**suite.protocol(), "split": origin["split"]}
    row = {"pictures": title, **suite.compute(), "images": origin["images"], "protocol": protocol.fingerprint(stamp)}
    origin = {name: origin[name] for name in ("checkpoint", "checkpoint_sha256")}
    return {**row, **origin, **bounds, **stamp}


def shorten(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for people: intervals beside their values, and of the protocol its hash alone."""
    left_out = {*protocol.COMPARED, "suite_version", "checkpoint_sha256"}
    left_out |= {f"{name}_{end}" for name in row for end in ("low", "high")}
    short = {name: value for name, value in row.items() if name not in left_out}
    for name in short:
        if f"{name}_low" in row:
            short[name] = f"{row[name]:.4g} [{row[f'{name}_low']:.4g}, {row[f'{name}_high']:.4g}]"
    return short


if __name__ == "__main__":
    evaluate()
