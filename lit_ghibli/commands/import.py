"""`lit-ghibli import`: make a checkpoint of weights that others have published.

Its name is a word of Python's, so that it is found by that name alone, as the program finds it.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import say


@command("import")
def import_(config: DictConfig) -> None:
    """Write ``checkpoints/last.ckpt`` to ``out``, and say what it is and under which terms."""
    from lit_ghibli.inference.importing import describe, import_weights  # here, so that --help answers at once
    from lit_ghibli.published.families import AUTO

    out = output_folder(config.out)
    file = Path(config.file).expanduser()
    options = OmegaConf.to_container(config.generator, resolve=True)
    provenance, generator = import_weights(file, out, config.family or AUTO, options, config.overwrite)
    arguments = ", ".join(f"{key}={value}" for key, value in generator.items() if key != "_target_")
    say(describe(provenance), f"{generator['_target_'].rpartition('.')[2]}: {arguments}", f"checkpoint: {out}")


if __name__ == "__main__":
    import_()
