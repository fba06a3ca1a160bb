"""`lit-ghibli evaluate`: measure a checkpoint on held-out pictures, beside the untouched inputs."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command, instantiate_trusted, rewrite_arguments
from lit_ghibli.reports.grids import labelled_grid
from lit_ghibli.reports.tables import markdown_table, write_table


@command("evaluate")
def evaluate(config: DictConfig) -> None:
    """Write ``metrics.csv``, ``.json``, ``.md`` and ``pictures.png``."""
    from lit_ghibli import checkpoints  # here, so that --help answers at once
    from lit_ghibli.commands._translator import load_translator
    from lit_ghibli.inference.evaluation import measure

    checkpoint = checkpoints.find(config.checkpoint or checkpoints.newest_run())
    translator, run = load_translator(checkpoint, config.device, tile=0)
    data = OmegaConf.merge(run["data"], config.data)
    datamodule = instantiate_trusted(OmegaConf.to_container(data, resolve=True))
    datamodule.setup("validate")
    suites = {name: instantiate(config.metrics, _convert_="object") for name in ("output", "untouched input")}
    pictures = measure(translator, datamodule, *suites.values(), num_images=config.num_images)
    rows = [
        {
            "pictures": name,
            **suite.compute(),
            "images": len(datamodule.splits.test_input),
            "checkpoint": str(checkpoint),
        }
        for name, suite in suites.items()
    ]
    out = Path(config.out) if config.out else checkpoint.parents[1] / "evaluation" / checkpoint.stem
    write_table(rows, out, "metrics")
    labelled_grid(pictures, max_side=256).save(out / "pictures.png")
    print(markdown_table(rows))
    print(f"tables and pictures: {out}")


def allow_data_values(arguments: list[str]) -> list[str]:
    """Let ``data.root=DIR`` replace a value that only the checkpoint's configuration has."""
    return [f"++{argument}" if argument.startswith("data.") else argument for argument in arguments]


if __name__ == "__main__":
    rewrite_arguments(allow_data_values)
    evaluate()
