"""A generator that somebody else has trained and published."""

from collections.abc import Callable

from lightning import LightningModule
from torch import nn


class Imported(LightningModule):
    """What a checkpoint of imported weights is of: it translates photographs, and has no training.

    Args:
        generator: Makes the generator.
    """

    def __init__(self, generator: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.generator = generator()

    def translator(self) -> nn.Module:
        """The network that turns a photograph into a picture."""
        return self.generator
