"""What a run must remember besides its weights: image pools, running means and random states, for each rank its own.

Lightning stores what rank 0 says and gives it to all ranks on loading; here every rank gets back its own.
"""

import logging
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule

from lit_ghibli.seeding import derive_seed, get_random_state, set_random_state
from lit_ghibli.training.image_pool import ImagePool
from lit_ghibli.training.running_mean import RunningMean

log = logging.getLogger(__name__)


def memories(module: LightningModule) -> dict[str, ImagePool | RunningMean]:
    """What remembers earlier steps among a module's attributes, by attribute name."""
    return {name: value for name, value in sorted(vars(module).items()) if isinstance(value, ImagePool | RunningMean)}


def seed_pools(module: LightningModule) -> None:
    """Let the pools draw differently from each other and on every rank, from the run's seed on."""
    pools = [memory for memory in memories(module).values() if isinstance(memory, ImagePool)]
    for number, pool in enumerate(pools):
        pool.generator.manual_seed(derive_seed(torch.initial_seed(), module.global_rank, number))


def collect(module: LightningModule) -> list[dict[str, Any]]:
    """State of every rank, in rank order; a collective call under DDP."""
    memory = {name: memory.state_dict() for name, memory in memories(module).items()}
    own = {"memories": memory, "random": get_random_state()}
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, own)
    return states


def restore(module: LightningModule, states: list[dict[str, Any]]) -> None:
    """Give this rank its state back; with another number of ranks than before, pools and draws start afresh."""
    if len(states) != module.trainer.world_size:
        log.warning(
            "the checkpoint is of %d processes and this run has %d: pools, means and random draws start afresh",
            len(states),
            module.trainer.world_size,
        )
        return
    state = states[module.global_rank]
    for name, memory in memories(module).items():
        memory.load_state_dict(state.get("memories", state.get("pools"))[name])  # "pools": of the first version
    set_random_state(state["random"])
