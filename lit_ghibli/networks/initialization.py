"""How the weights of the GAN networks start."""

from typing import Literal

from torch import Tensor, nn

Initialization = Literal["normal", "xavier"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def draw_weight(weight: Tensor, std: float, initialization: Initialization) -> None:
    """Draw a layer's weight, in place; see :func:`init_weights`.

    Raises:
        ValueError: on another initialisation.
    """
    if initialization == "normal":
        nn.init.normal_(weight, 0.0, std)
    elif initialization == "xavier":
        nn.init.xavier_normal_(weight, gain=std)
    else:
        raise ValueError(f"initialization is {initialization!r}; it must be 'normal' or 'xavier'")


def init_weights(module: nn.Module, std: float = 0.02, initialization: Initialization = "normal") -> nn.Module:
    """Draw the weights of all convolutions and affine norms inside a module from narrow normals, in place.

    Weights of (transposed) convolutions are drawn from N(0, std), or from Glorot and Bengio's normal of gain std; those
    of affine norms from N(1, std); the biases of both become 0. Draws come from the global torch generator, in the
    order of ``module.modules()``. Other layers are left alone.

    Args:
        module: the network, or one layer.
        std: standard deviation of the draws; for ``xavier`` the gain: 0.02 then gives 0.0004 to a 3x3 convolution from
            256 to 256 channels.
        initialization: of convolutions, ``normal`` or ``xavier``.

    Returns:
        The same module, so that a constructor can be wrapped in the call.

    Raises:
        ValueError: on another initialisation.

    Source: Radford et al. 2016, section 3; Zhu et al. 2017, section 4 and the released code. ``xavier``: Glorot and
    Bengio 2010; the released code of Park et al. 2020.
    """
    for layer in module.modules():
        if isinstance(layer, _CONVOLUTIONS):
            draw_weight(layer.weight, std, initialization)
        elif isinstance(layer, _NORMS) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
