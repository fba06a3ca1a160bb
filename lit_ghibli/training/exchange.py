"""How several processes share a training."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch.optim import Optimizer


class PhasewiseDDP(DDPStrategy):
    """Each optimiser's step follows the mean of all processes' gradients, exchanged once, of its own parameters.

    PyTorch's ``DistributedDataParallel`` exchanges in every backward pass the gradients of all networks; a GAN's phase
    has several of these passes and uses some of the networks. Networks are not wrapped therefore. The same parameters
    must have gradients in all processes: what a phase computes depends on the iteration alone. A method must optimise
    manually, as all here do: otherwise Lightning computes the gradients within the optimiser's step.
    """

    def configure_ddp(self) -> None:
        """Let all processes begin with the first one's weights."""
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            first = tensor.detach().contiguous()
            dist.broadcast(first, 0)
            tensor.detach().copy_(first)

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        """Exchange, then step; a gradient scaler sees what all processes have found."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            mean = torch.cat([gradient.flatten() for gradient in gradients]).div_(self.world_size)
            dist.all_reduce(mean)
            for gradient, part in zip(gradients, mean.split([each.numel() for each in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        return super().optimizer_step(optimizer, closure, model, **kwargs)
