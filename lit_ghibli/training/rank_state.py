"""What a run must remember besides its weights: image pools and random states, for each rank its own.

Lightning stores what rank 0 says and gives it to all ranks on loading; here every rank gets back its own.
"""

import logging
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule

from lit_ghibli.seeding import derive_seed, get_random_state, set_random_state
from lit_ghibli.training.image_pool import ImagePool

log = logging.getLogger(__name__)


def image_pools(module: LightningModule) -> dict[str, ImagePool]:
    """The image pools among a module's attributes, by attribute name."""
    return {name: value for name, value in sorted(vars(module).items()) if isinstance(value, ImagePool)}


def seed_pools(module: LightningModule) -> None:
    """Let the pools draw differently from each other and on every rank, from the run's seed on."""
    for number, pool in enumerate(image_pools(module).values()):
        pool.generator.manual_seed(derive_seed(torch.initial_seed(), module.global_rank, number))


def gather_ranks(value: Any) -> list[Any]:
    """``value`` of every rank, in rank order, on every rank; a list of one without DDP."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def collect(module: LightningModule) -> list[dict[str, Any]]:
    """State of every rank, in rank order; a collective call under DDP."""
    pools = {name: pool.state_dict() for name, pool in image_pools(module).items()}
    return gather_ranks({"pools": pools, "random": get_random_state()})


def restore(module: LightningModule, states: list[dict[str, Any]]) -> None:
    """Give this rank its state back; with another number of ranks than before, pools and draws start afresh."""
    if len(states) != module.trainer.world_size:
        log.warning(
            "the checkpoint is of %d processes and this run has %d: image pools and random draws start afresh",
            len(states),
            module.trainer.world_size,
        )
        return
    state = states[module.global_rank]
    for name, pool in image_pools(module).items():
        pool.load_state_dict(state["pools"][name])
    set_random_state(state["random"])
