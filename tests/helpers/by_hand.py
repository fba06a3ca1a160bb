"""Calling a method's training_step without a training loop, and looking at its gradients."""

from functools import partial

import torch
from lightning import LightningModule, Trainer


def connect(method: LightningModule) -> LightningModule:
    """Give a method what its training_step asks of a trainer: optimisers, and a place for logged values."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(method)
    method.trainer = trainer
    trainer.strategy.setup_optimizers(trainer)
    method.log_dict = lambda *values, **options: None  # there is no loop that would collect them
    return method


def loops(iterations: int) -> dict:
    """What a checkpoint says of the training loop after so many iterations."""
    return {"fit_loop": {"epoch_loop.batch_progress": {"total": {"ready": iterations}}}}


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gradients by parameter, of those that have one."""
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def spy_on_gradients(method: LightningModule) -> list[dict[str, dict[str, torch.Tensor]]]:
    """A list that gets, at each optimiser's step, the gradients of all networks that have some."""
    steps = []

    def spy(*arguments, step, **options):
        found = {
            name: {key: value.clone() for key, value in gradients(network).items()}
            for name, network in method.networks().items()
        }
        steps.append({name: values for name, values in found.items() if values})
        return step(*arguments, **options)

    for optimizer in method.trainer.optimizers:
        optimizer.step = partial(spy, step=optimizer.step)
    return steps
