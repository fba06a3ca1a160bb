"""A trained run as a function on pictures."""

import copy

import torch
from PIL import Image
from torch import Tensor, nn

from lit_ghibli.errors import UserError
from lit_ghibli.images import from_picture, to_picture
from lit_ghibli.inference.tiling import translate_tiled
from lit_ghibli.networks.sizes import translate


class Translator:
    """Turns photographs of any size into pictures of the same size.

    Args:
        network: The generator that translates photographs.
        device: Where it runs.
        tile: Photographs with more than ``tile * tile`` pixels are translated in tiles of this side; 0 never.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu", tile: int = 1024) -> None:
        if tile < 0 or 0 < tile < 128:
            raise UserError(f"tile must be 0 (never) or at least 128 pixels; got {tile}")
        self.network = network.eval().to(device)
        self.device, self.tile = torch.device(device), tile

    def with_solver(self, solver: str | None, steps: int | None) -> "Translator":
        """A translator with the same weights whose ODE blocks are solved in another way.

        Args:
            solver: Its name; None keeps the training's.
            steps: Of that solver; None takes the number that the network has for it.

        Returns:
            A translator that shares this one's weights; this one itself where neither is given.

        Raises:
            UserError: The network has no ODE blocks, or knows no such solver.
        """
        if solver is None and steps is None:
            return self
        if not hasattr(self.network, "set_solver"):
            given = f"solver={solver} steps={steps}".replace("None", "null")
            raise UserError(
                f"{given}: this run's {type(self.network).__name__} has no ODE to solve: leave both out, or choose a "
                "run of a method with ODE blocks, such as method=nijigan"
            )
        weights = self.network.state_dict(keep_vars=True).values()
        network = copy.deepcopy(self.network, memo={id(tensor): tensor for tensor in weights})
        network.set_solver(solver or network.solver, steps)
        return Translator(network, self.device, self.tile)

    def __call__(self, photo: Image.Image) -> Image.Image:
        """Translate an RGB image."""
        return to_picture(self.translate(from_picture(photo, self.device)))

    def translate(self, photo: Tensor) -> Tensor:
        """Translate ``(1, 3, H, W)`` in ``[-1, 1]`` to the same shape and range."""
        if self.tile and photo.shape[-2] * photo.shape[-1] > self.tile**2:
            return translate_tiled(self.network, photo, self.tile)
        return translate(self.network, photo)
