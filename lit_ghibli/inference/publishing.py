"""What of a run is published: the networks that translate, and the part of its configuration that builds them."""

from pathlib import Path
from typing import Any

from lit_ghibli import checkpoints
from lit_ghibli.inference.finite import check_weights
from lit_ghibli.inference.importing import PROVENANCE
from lit_ghibli.inference.load import BACK, read_network
from lit_ghibli.trust import trusted_class


def write_published(path: Path, target: Path) -> None:
    """Write the translating networks of a checkpoint as one file that a checkpoint's place takes.

    Args:
        path: Of the checkpoint.
        target: A ``.safetensors`` file. Its configuration is the method's and, of imported weights, their provenance;
            of paths the last part is left, since the others may say who somebody is.

    Raises:
        UserError: The checkpoint cannot be read, has no network that translates, or weights that are not finite.
    """
    name, network, config = read_network(path)
    networks = {name: network}
    if hasattr(trusted_class(config["method"]), "reverse_translator"):
        name, network, _ = read_network(path, BACK)
        networks[name] = network
    state = {
        f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()
    }
    check_weights(state, str(path))
    kept = {key: config[key] for key in ("method", PROVENANCE) if key in config}
    checkpoints.save_published(state, _without_folders(kept), target)


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(child) for child in value]
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value
