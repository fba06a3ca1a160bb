"""How the weights of the GAN networks start."""

from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def init_weights(module: nn.Module, std: float = 0.02) -> nn.Module:
    """Draw the weights of all convolutions and affine norms inside a module from narrow normals, in place.

    Weights of (transposed) convolutions are drawn from N(0, std), those of affine norms from N(1, std);
    the biases of both become 0. Draws come from the global torch generator, in the order of
    ``module.modules()``. Other layers are left alone.

    Args:
        module: the network, or one layer.
        std: standard deviation of the draws.

    Returns:
        The same module, so that a constructor can be wrapped in the call.

    Source: Radford et al. 2016, section 3; Zhu et al. 2017, section 4 and the released code.
    """
    for layer in module.modules():
        if isinstance(layer, _CONVOLUTIONS):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, _NORMS) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
