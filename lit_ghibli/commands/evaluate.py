"""`lit-ghibli evaluate`: measure a checkpoint on held-out pictures, beside the untouched inputs."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command, instantiate_trusted, rewrite_arguments
from lit_ghibli.reports.grids import labelled_grid
from lit_ghibli.reports.tables import markdown_table, write_csv, write_table


@command("evaluate")
def evaluate(config: DictConfig) -> None:
    """Write ``metrics.csv``, ``.json``, ``.md``, ``per_picture.csv``, ``pictures.png`` and ``translated/``."""
    from lit_ghibli import checkpoints  # here, so that --help answers at once
    from lit_ghibli.commands._translator import load_translator
    from lit_ghibli.inference.evaluation import TRAINED_SOLVER, measure

    checkpoint = checkpoints.find(config.checkpoint or checkpoints.newest_run())
    trained, run = load_translator(checkpoint, config.device, tile=0)
    translators = {"output": trained.with_solver(config.solver, config.steps)}
    if translators["output"] is not trained:
        translators[TRAINED_SOLVER] = trained
    data = OmegaConf.merge(run["data"], config.data)
    datamodule = instantiate_trusted(OmegaConf.to_container(data, resolve=True))
    datamodule.setup("validate")
    suites = {name: instantiate(config.metrics, _convert_="object") for name in ("output", "untouched input")}
    name = "_".join(str(part) for part in (checkpoint.stem, config.solver, config.steps) if part is not None)
    out = Path(config.out) if config.out else checkpoint.parents[1] / "evaluation" / name
    measured = measure(translators, datamodule, *suites.values(), config.num_images, out / "translated")
    common = {"images": len(datamodule.splits.test_input), "checkpoint": str(checkpoint)}
    rows = [{"pictures": name, **suite.compute(), **common} for name, suite in suites.items()]
    if measured.solver:
        network = translators["output"].network
        rows[0] |= {"solver": network.solver, "evaluations": network.evaluations, **measured.solver}
    write_table(rows, out, "metrics")
    if measured.per_picture:
        write_csv(measured.per_picture, out / "per_picture.csv")
    labelled_grid(measured.grid, max_side=256).save(out / "pictures.png")
    print(markdown_table(rows))
    print(f"tables and pictures: {out}")


def allow_data_values(arguments: list[str]) -> list[str]:
    """Let ``data.root=DIR`` replace a value that only the checkpoint's configuration has."""
    return [f"++{argument}" if argument.startswith("data.") else argument for argument in arguments]


if __name__ == "__main__":
    rewrite_arguments(allow_data_values)
    evaluate()
