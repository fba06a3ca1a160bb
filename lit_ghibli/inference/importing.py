"""Published weights as a checkpoint of the suite, with a note of where they are from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_ghibli import checkpoints
from lit_ghibli.errors import UserError
from lit_ghibli.published.families import AUTO, import_published
from lit_ghibli.published.reading import sha256_of_weights

PROVENANCE = "provenance"  # part of an imported checkpoint's configuration
_METHOD = "lit_ghibli.methods.imported.Imported"


def import_weights(
    path: Path,
    out: Path,
    family: str = AUTO,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write published weights as the folder of a run: what takes a run to translate with takes it.

    Args:
        path: As for :func:`~lit_ghibli.published.families.import_published`.
        out: The folder.
        family: As for :func:`~lit_ghibli.published.families.import_published`.
        options: As for :func:`~lit_ghibli.published.families.import_published`.
        overwrite: Replace the checkpoint of a folder that has one.

    Returns:
        The provenance that the checkpoint holds, and the configuration of its generator.

    Raises:
        UserError: The weights cannot be used, or the folder has a checkpoint.
    """
    if is_own(path):
        raise UserError(f"{path}: a checkpoint of this suite already: load, stylize and the others take it as it is")
    target = out / "checkpoints" / "last.ckpt"
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already: choose another folder with out=, or add overwrite=true")
    published = import_published(path, family, options)
    provenance = {
        "file": path.name,
        "sha256": sha256_of_weights(path),
        "family": published.family.name,
        "title": published.family.title,
        "source": published.family.source,
        "licence": published.family.licence,
    }
    config = {"_target_": _METHOD, "generator": {"_partial_": True, **published.generator}}
    checkpoint = {
        "state_dict": {f"generator.{name}": value for name, value in published.weights.items()},
        checkpoints.CONFIG_KEY: {"method": config, PROVENANCE: provenance},
    }
    checkpoints.save(checkpoint, target)
    return provenance, published.generator


def is_own(path: Path) -> bool:
    """Whether this is a checkpoint of the suite, or the folder of a run."""
    try:
        checkpoints.load(checkpoints.find(path), mmap=True)
    except checkpoints.CheckpointError:
        return False
    return True


def describe(provenance: Mapping[str, Any]) -> str:
    """Where weights are from and under which terms, in a sentence."""
    title, source, file, licence = (provenance[key] for key in ("title", "source", "file", "licence"))
    return f"{title}, from {source} ({file}); licence: {licence}"
