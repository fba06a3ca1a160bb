"""OKLab, a color space in which equal distances look alike. Source: Ottosson, A perceptual color space (2020)."""

import torch
from torch import Tensor

_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def to_oklab(picture: Tensor) -> Tensor:
    """An sRGB picture (B, 3, H, W) in [0, 1] as OKLab: lightness in [0, 1], a (green to red) and b (blue to yellow)."""
    linear = torch.where(picture > 0.04045, ((picture.clamp_min(0) + 0.055) / 1.055) ** 2.4, picture / 12.92)
    cones = _mix(linear, picture.new_tensor(_TO_CONES))
    return _mix(cones.clamp_min(0) ** (1 / 3), picture.new_tensor(_TO_LAB))


def from_oklab(lab: Tensor) -> Tensor:
    """OKLab (B, 3, H, W) as sRGB; colors outside of sRGB are cut to [0, 1]."""
    double = lab.new_tensor(_TO_LAB, dtype=torch.float64), lab.new_tensor(_TO_CONES, dtype=torch.float64)
    cones = _mix(lab, torch.linalg.inv(double[0]).to(lab.dtype)) ** 3
    linear = _mix(cones, torch.linalg.inv(double[1]).to(lab.dtype)).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def _mix(channels: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", matrix, channels)
