"""The finish of a picture that a network has painted: flat fills, steps of lightness, and outlines once more.

A network that has learned the mean of many possible strokes leaves fills and outlines softer than its painter does, and
what is out of focus in a photograph has no edges that could be painted. Source of the steps: Winnemoeller, Olsen and
Gooch, Real-time video abstraction (2006), section 3.3; they fade where a picture is calm, so that skies get no bands.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_ghibli.painter.flow import flow, unrest
from lit_ghibli.painter.l0 import l0_smooth
from lit_ghibli.painter.oklab import from_oklab, to_oklab
from lit_ghibli.painter.painter import Outlines

_FLOW = 2.0  # pixels: sigma of the structure tensor
_CALM = 0.004  # change per pixel of what is left as it is
_FLATNESS, _GROWTH, _BETA_MAX = 0.005, 6.0, 1e4  # of the L0 smoothing: less than a painter's, and in fewer rounds
_STEPS = 10  # of lightness from black to white
_SHARPNESS = 8.0  # of their edges


@dataclass(frozen=True)
class Finish:
    """Finishes pictures.

    Attributes:
        outlines: Of the painter that the network has learned from; None draws none.
    """

    outlines: Outlines | None

    def __call__(self, pictures: Tensor) -> Tensor:
        """Finish (B, 3, H, W) in [0, 1], painted at the size of the outlines' pixels, each by itself."""
        return torch.cat([self._finish(picture) for picture in pictures.split(1)])

    def _finish(self, picture: Tensor) -> Tensor:
        forms = flow(picture, _FLOW)
        restless = unrest(forms, _CALM)
        picture = l0_smooth(picture, _FLATNESS * restless, _GROWTH, _BETA_MAX, 2 * _FLATNESS).clamp(0, 1)
        lab = to_oklab(picture)
        lightness = lab[:, :1].lerp(in_steps(lab[:, :1]), restless)
        if self.outlines is not None:
            lightness = self.outlines.darken(lightness, self.outlines.ink(picture, forms))
        return from_oklab(torch.cat([lightness, lab[:, 1:]], dim=1))


def in_steps(lightness: Tensor) -> Tensor:
    """Lightness from 0 to 1 in soft steps, each of which rises where a whole number of them is reached."""
    nearest = (lightness * _STEPS).round() / _STEPS
    return nearest + torch.tanh(_SHARPNESS * _STEPS * (lightness - nearest)) / (2 * _STEPS)
