"""What generators share: the sizes they take, photographs flattened before, and how values become a picture."""

from torch import Tensor

from lit_ghibli.networks.flattening import Flatten
from lit_ghibli.networks.outputs import Output, OutputLayer
from lit_ghibli.networks.sizes import SizedNetwork


class Generator(SizedNetwork):
    """A network that translates photographs, or paints over them.

    All but ``output='tanh'`` are deviations, which the named recipes leave off.

    Args:
        output: ``tanh``; ``residual``, to paint over the photograph and start from it; or ``luminance``, in its own
            colors. The latter two for equal numbers of channels only; see ``lit_ghibli.networks.outputs``.
        smoothing: of what is painted over the photograph, in pixels; 0 paints pixel by pixel.
        outlines: that it may draw over the photograph, their width in pixels, see ``Ink``; 0 for none.
        flatten: of photographs before they are translated, see ``Flatten``; 0 leaves them as they are.
        in_channels: channels of the photograph.
        out_channels: channels of the picture.

    Attributes:
        context: an output pixel depends on inputs at most this far away, in pixels, but for the statistics of norms
            over the whole picture, and for ``flatten``.
    """

    context: int

    def __init__(
        self,
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
        in_channels: int = 3,
        out_channels: int = 3,
    ) -> None:
        super().__init__()
        self.flatten = Flatten(flatten)
        self.output = OutputLayer(output, in_channels, out_channels, smoothing, outlines)

    def forward(self, photos: Tensor) -> Tensor:
        """Translate photographs.

        Args:
            photos: ``(N, in_channels, H, W)`` in ``[-1, 1]``; H and W multiples of ``size_multiple``, at least
                ``minimum_size``.

        Returns:
            Pictures ``(N, out_channels, H, W)``, in ``[-1, 1]`` for tanh.

        Raises:
            UserError: on a height or width that is too small or no multiple of ``size_multiple``.
        """
        self.check_size(*photos.shape[-2:])
        photos = self.flatten(photos)
        return self.output(self._values(photos), photos)

    def _values(self, photos: Tensor) -> Tensor:
        """What the last convolution gives, ``(N, output.channels, H, W)``."""
        raise NotImplementedError
