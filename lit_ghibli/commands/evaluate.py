"""`lit-ghibli evaluate`: measure a checkpoint on held-out pictures, beside the untouched photographs."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from torch import Tensor

from lit_ghibli import checkpoints
from lit_ghibli.commands._hydra import command, instantiate_trusted, rewrite_arguments
from lit_ghibli.commands._translator import load_translator
from lit_ghibli.images import to_uint8
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.reports.grids import labelled_grid
from lit_ghibli.reports.tables import markdown_table, write_table


@command("evaluate")
def evaluate(config: DictConfig) -> None:
    """Write ``metrics.csv``, ``.json``, ``.md`` and ``pictures.png``."""
    checkpoint = checkpoints.find(config.checkpoint or checkpoints.newest_run())
    translator, run = load_translator(checkpoint, config.device, tile=0)
    datamodule = instantiate_trusted(run["data"] | OmegaConf.to_container(config.data, resolve=True))
    datamodule.setup("validate")
    suites = {name: instantiate(config.metrics, _convert_="object") for name in ("translated", "untouched photo")}
    pictures = measure(translator, datamodule, suites, config.num_images)
    rows = [
        {
            "pictures": name,
            **suite.compute(),
            "images": len(datamodule.splits.test_photo),
            "checkpoint": str(checkpoint),
        }
        for name, suite in suites.items()
    ]
    out = Path(config.out) if config.out else checkpoint.parents[1] / "evaluation" / checkpoint.stem
    write_table(rows, out, "metrics")
    labelled_grid(pictures, max_side=256).save(out / "pictures.png")
    print(markdown_table(rows))
    print(f"tables and pictures: {out}")


def measure(
    translator: Translator, datamodule: Any, suites: dict[str, MetricSuite], num_images: int
) -> list[dict[str, Any]]:
    """Feed the two suites with all held-out pictures; return the first ``num_images`` as rows of a grid."""
    photos, animes = datamodule.val_dataloader()
    rows: list[dict[str, Any]] = []
    for batch in track(photos, description="Translating"):
        batch = datamodule.on_after_batch_transfer(batch, 0)
        images = {"photo": batch["photo"], "translated": translator.translate(batch["photo"].to(translator.device))}
        if "anime" in batch:
            images["target"] = batch["anime"]
        for name, fake in zip(suites, (images["translated"].cpu(), images["photo"]), strict=True):
            suites[name].update_fake(fake)
            if "anime" in batch:
                suites[name].update_pair(fake, batch["anime"])
        if len(rows) < num_images:
            rows.append({title: _pixels(image) for title, image in images.items()})
    for batch in animes:
        for suite in suites.values():
            suite.update_real(datamodule.on_after_batch_transfer(batch, 1)["anime"])
    return rows


def _pixels(images: Tensor) -> Any:
    return to_uint8(images[0]).permute(1, 2, 0).cpu().numpy()


def allow_data_values(arguments: list[str]) -> list[str]:
    """Let ``data.root=DIR`` replace a value that only the checkpoint's configuration has."""
    return [f"++{argument}" if argument.startswith("data.") else argument for argument in arguments]


if __name__ == "__main__":
    rewrite_arguments(allow_data_values)
    evaluate()
