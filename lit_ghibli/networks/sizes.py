"""Which heights and widths a generator takes."""

from lit_ghibli.errors import UserError


def check_size(name: str, size: tuple[int, int], multiple: int, minimum: int, otherwise: str = "") -> None:
    """Refuse a size that a generator does not take.

    Args:
        name: of the generator.
        size: height and width, in pixels.
        multiple: both must be multiples of it.
        minimum: and at least so large.
        otherwise: another remedy than a fitting crop, such as `` or method.generator.depth=7``.

    Raises:
        UserError: saying which crops would fit.
    """
    height, width = size
    if height % multiple == 0 and width % multiple == 0 and min(size) >= minimum:
        return
    fitting = max(min(size) // multiple * multiple, minimum)
    raise UserError(
        f"{name} received images of {height}x{width} (height x width); both must be multiples of {multiple}, at least "
        f"{minimum}: set data.crop_size={fitting}{otherwise}, or pad the images and crop the results"
    )
