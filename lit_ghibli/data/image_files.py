"""Reading pictures: the one place that opens and judges image files."""

import contextlib
import functools
import hashlib
import io
import logging
import os
import re
import stat
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from lit_ghibli.checksums import sha256_of
from lit_ghibli.data.color_profiles import to_srgb
from lit_ghibli.data.color_spaces import color_codes, high_range, profile_of
from lit_ghibli.data.heif import HEIC_EXTENSIONS, NO_HEIC, is_heif, register_heif
from lit_ghibli.errors import UserError, one_line

WRITTEN = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif")
_HEIC_IS_READ = register_heif()
EXTENSIONS = (*WRITTEN, ".gif", ".ppm", ".pgm", ".pbm", ".pnm", *(HEIC_EXTENSIONS if _HEIC_IS_READ else ()))
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF", "PPM", *(("HEIF",) if _HEIC_IS_READ else ()))

T = TypeVar("T")
_Result = TypeVar("_Result")
OnBadFile = Literal["error", "skip"]

_LISTED = 20  # files named in a message that does not promise all
_LARGEST = 2_000_000_000  # bytes of a file; more than the largest picture that is decoded has uncompressed
_TWELVE_BITS = 16  # level of 255 at which 4095 of 65535 is read
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}  # all others are devices
_COLORS = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}  # what profiles of pictures of a mode convert; else RGB
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The filters of the warnings module belong to the whole process: two threads inside
# catch_warnings at once could leave it with each other's. Headers are short, so the lock costs nothing.
_warnings_lock = threading.Lock()
_logger = logging.getLogger(__name__)


class ImageFileError(UserError):
    """A file that cannot be used as a picture.

    Attributes:
        path: the file.
        reason: what is wrong with it, a phrase that follows the path.
    """

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives pickling between processes
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return one_line(f"{self.path} {self.reason}")


class UnsuitablePicture(UserError):
    """A picture that a step cannot use; the message is a phrase that follows the file's name."""


class FolderError(UserError):
    """A folder, or a list of files, from which no data set can be made."""


class Inspected(NamedTuple):
    """A picture, and what its file is like.

    Attributes:
        image: the picture as `open_image` gives it.
        format: Pillow's name of the format inside, such as ``JPEG``.
        mode: Pillow's name of how pixels are stored, such as ``RGB``, ``P`` or ``CMYK``.
        digest: SHA-256 of the file.
    """

    image: Image.Image
    format: str
    mode: str
    digest: str


def size_of(path: Path) -> int:
    """The size in bytes of a file that can be read as a picture's: one that is plain, neither empty nor endless.

    Raises:
        ImageFileError: it is missing, or of another kind, which would be waited for or read without end.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageFileError(path, f"cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise ImageFileError(path, f"is no plain file but a {_KINDS.get(stat.S_IFMT(status.st_mode), 'device')}")
    if status.st_size == 0:
        raise ImageFileError(path, "is empty (0 bytes)")
    if status.st_size > _LARGEST:
        raise ImageFileError(path, f"is too large for a picture ({status.st_size / 1e9:.1f} GB)")
    return status.st_size


def digest_of(path: Path) -> str:
    """SHA-256 of a picture's file.

    Raises:
        ImageFileError: it cannot be read, as of `size_of`.
    """
    size_of(path)
    try:
        return sha256_of(path)
    except OSError as error:
        raise ImageFileError(path, f"cannot be read ({error.strerror})") from error


def open_image(path: str | os.PathLike) -> Image.Image:
    """Open a picture as upright 8-bit RGB.

    Grey, palette, CMYK and 16-bit pictures are converted (65535 becomes 255; that no level is beyond those of 12 bits
    is logged), colors of other profiles and of other spaces become those of sRGB, transparency is laid on white, the
    EXIF orientation is applied. Of an animation and of the pages of a TIFF the first picture is read, which is logged
    once, and of a multi-picture JPEG, as some phones write it, the photograph.

    Raises:
        ImageFileError: the file is missing, no plain file, empty, truncated, of high dynamic range, too large
            to decode safely, or not of `FORMATS` inside, whatever its name says.
    """
    return _read(Path(path))[0]


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height by the head of a picture's file, not turned upright; None where nothing says them."""
    try:
        size_of(path)
        with Image.open(path) as image:
            return image.size
    except (ImageFileError, OSError, ValueError, Image.DecompressionBombError, SyntaxError):
        return None  # which decoding will say


def file_kind(path: str | os.PathLike) -> str:
    """The extension, such as ``jpeg``, that a picture has which is made of a readable one's content."""
    with Image.open(path) as image:
        kind = image.format.lower()
    return {"mpo": "jpeg", "heif": "jpeg"}.get(kind, kind if f".{kind}" in WRITTEN else "png")


def inspect_image(path: str | os.PathLike) -> Inspected:
    """Open a picture as `open_image` does, and say what its file is like; the file is read once.

    Raises:
        ImageFileError: as from `open_image`.
    """
    path = Path(path)
    size_of(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageFileError(path, f"cannot be read ({error.strerror})") from error
    return Inspected(*_read(path, io.BytesIO(content)), hashlib.sha256(content).hexdigest())


def decode_all(
    paths: Iterable[Path],
    convert: Callable[[Image.Image], T],
    *,
    on_bad_file: OnBadFile,
    min_images: int = 1,
) -> Iterator[tuple[Path, T]]:
    """Yield ``(path, convert(image))`` for every good picture in order, decoding each file once.

    Files are decoded in threads, a few ahead of what is consumed. All files are gone through before bad
    ones are reported, so that one run names them all.

    Args:
        paths: files to open with `open_image`.
        convert: called in several threads at once; what it refuses with `UnsuitablePicture` is a bad file.
        on_bad_file: ``"error"`` ends with an error that lists the bad files, ``"skip"`` logs the list.
        min_images: fewest good pictures to accept.

    Raises:
        FolderError: after the last file, where there are bad files or too few good ones.
    """
    if on_bad_file not in ("error", "skip"):
        raise ValueError(f"on_bad_file must be 'error' or 'skip', got {on_bad_file!r}")

    def decode(path: Path) -> tuple[Path, T] | ImageFileError:
        try:
            return path, convert(open_image(path))
        except ImageFileError as error:
            return error
        except UnsuitablePicture as error:
            return ImageFileError(path, str(error))

    bad: list[ImageFileError] = []
    good = 0
    for result in map_in_threads(decode, paths):
        if isinstance(result, ImageFileError):
            bad.append(result)
        else:
            good += 1
            yield result
    if bad:
        counts = f"{len(bad)} of {good + len(bad)} images cannot be used"
        listed = bullets([str(error) for error in bad], at_most=len(bad))
        if on_bad_file == "error":
            raise FolderError(f"{counts}; repair or remove them, or set data.on_bad_file=skip:", *listed)
        _logger.warning("\n".join([f"{counts} and are skipped:", *listed]))
    require_images(good, min_images, of=good + len(bad))


def map_in_threads(function: Callable[[T], _Result], items: Iterable[T]) -> Iterator[_Result]:
    """Yield ``function(item)`` in order, computed in threads a few items ahead of the consumer."""
    workers = min(os.cpu_count() or 1, 32)  # each holds a full-size picture in memory
    with ThreadPoolExecutor(workers) as pool:
        pending: deque = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def require_images(good: int, min_images: int, *, of: int) -> None:
    """Raise `FolderError` where ``good`` usable pictures out of ``of`` are fewer than ``min_images``."""
    if good < min_images:
        raise FolderError(f"too few images: {good} of {of} can be used, but at least {min_images} are needed")


def _read(path: Path, content: io.BytesIO | None = None) -> tuple[Image.Image, str, str]:
    """The picture of a file, whose content may be in memory already, and its format and mode before conversion."""
    try:
        with _open(path, content) as image:
            deep = _has_16_bits(image)
            rgb, kind, mode = upright_rgb(image), image.format, image.mode
        if deep and max(high for _, high in rgb.getextrema()) <= _TWELVE_BITS:
            _log_twelve_bits(path.parent)
    except ImageFileError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged data
        raise ImageFileError(path, f"is truncated or damaged ({error})") from error
    return rgb, kind, mode


def _open(path: Path, content: io.BytesIO | None) -> Image.Image:
    """Read the header of a picture and refuse what must not be decoded."""
    size_of(path)
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(content or path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise ImageFileError(
            path,
            f"is too large to decode safely ({pixels / 1e6:.1f} megapixels of at most "
            f"{Image.MAX_IMAGE_PIXELS / 1e6:.1f}): make it smaller; stylize also takes max_megapixels=",
        ) from error
    except UnidentifiedImageError as error:
        reason = "is not an image: its content is of no known format or damaged"
        if not _HEIC_IS_READ and is_heif(content.getvalue() if content else path.read_bytes()):
            reason = f"is a HEIC picture inside; {NO_HEIC}"
        raise ImageFileError(path, reason) from error
    except OSError as error:
        if error.errno is None:  # the decoder's word, not the operating system's
            raise
        raise ImageFileError(path, f"cannot be read ({error.strerror})") from error
    reason = _refusal(image)
    if reason:
        image.close()
        raise ImageFileError(path, reason)
    if _has_further(image):
        _log_first_only(path.parent)
    return image


def _refusal(image: Image.Image) -> str | None:
    if image.format not in (*FORMATS, "MPO"):  # the last: several JPEG pictures, of which the first is the photograph
        return f"is of the format {image.format} inside; what is read is {', '.join(FORMATS)}"
    if image.mode in ("F", "LAB") or (image.format, image.mode) == ("TIFF", "I"):
        return f"has pixels of kind {image.mode}, without a scale that is known; save it as RGB of 8 or 16 bits"
    if curve := high_range(color_codes(image)):
        return f"is of high dynamic range ({curve}), which prints and sRGB do not have; save it as sRGB"
    return None


def _has_further(image: Image.Image) -> bool:
    """Whether pictures follow the first, but for those that telephones hide behind a photograph."""
    with contextlib.suppress(Exception):  # a damaged one that is not read anyway is no reason to lose the first
        return image.format != "MPO" and getattr(image, "is_animated", False)
    return False


def _has_16_bits(image: Image.Image) -> bool:
    """Whether a picture that is not loaded yet is stored so, whatever Pillow makes of it."""
    return bool(image.tile) and ";16" in str(image.tile[0].args)  # how Pillow calls the layout


@functools.cache
def _log_twelve_bits(folder: Path) -> None:
    _logger.warning(
        "%s has pictures of 16 bits whose levels end at 4095, as those of 12 bits do: they are read as almost black; "
        "save them with levels up to 65535",
        folder,
    )


@functools.cache  # of a folder of animations, one line says enough
def _log_first_only(folder: Path) -> None:
    _logger.warning("%s has animations or files of several pages, of which the first picture is read", folder)


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation; unreadable EXIF data is no reason to lose the picture."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:
            return 1


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as upright 8-bit RGB; see :func:`open_image`."""
    codes = color_codes(image)
    image.load()  # before its EXIF data, since that turns a TIFF
    orientation = _orientation(image)
    profile = profile_of(image, codes)
    alpha = _opacity(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        levels = np.asarray(image).astype(np.float32) / 257.0
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    mode = _COLORS.get(image.mode, "RGB")
    rgb = to_srgb((image.convert("RGBA") if alpha else image).convert(mode), profile)
    if alpha:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    rgb = _turned(rgb, orientation)
    rgb.info = {}  # with the EXIF data, by which it would be turned once more
    return rgb


def upright_alpha(image: Image.Image) -> Image.Image | None:
    """How opaque the pixels of `upright_rgb` are, of mode ``L``; None where the picture is of a kind without that."""
    image.load()
    alpha = _opacity(image)
    return alpha and _turned(alpha, _orientation(image))


def _opacity(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    key = image.info.get("transparency")  # the color that is not seen, if pixels have no opacity of their own
    if image.mode.startswith("I"):
        return Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))
    if isinstance(key, tuple) and max(key) > 255:  # of 16 bits, of which Pillow decodes the upper eight
        image.info["transparency"] = tuple(level >> 8 for level in key)
    return image.convert("RGBA").getchannel("A")


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def bullets(lines: Sequence[str], at_most: int = _LISTED) -> list[str]:
    """Lines of an indented list, cut after ``at_most`` of them."""
    more = [f"... and {len(lines) - at_most} more"] if len(lines) > at_most else []
    return [f"  {one_line(line)}" for line in [*lines[:at_most], *more]]
