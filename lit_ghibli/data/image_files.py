"""Reading pictures: the one place that finds, opens and judges the image files of a folder."""

import hashlib
import io
import logging
import os
import re
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from lit_ghibli.checksums import sha256_of
from lit_ghibli.data.transforms import UnsuitablePicture
from lit_ghibli.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

T = TypeVar("T")
_Result = TypeVar("_Result")
OnBadFile = Literal["error", "skip"]

_LISTED = 20  # bad files named in one message
_CLUTTER = ("__macosx", "thumbs.db")  # what operating systems leave behind, in lower case
UPRIGHT = {
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
        return f"{self.path} {self.reason}"


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


def list_images(folder: str | os.PathLike) -> list[Path]:
    """List the image files of a folder and its subfolders, in natural order of their relative paths.

    Files are chosen by extension (`EXTENSIONS`, in any case). Hidden files and folders and what
    operating systems leave behind are passed over; symbolic links are followed.

    Raises:
        FolderError: the folder is missing, is no folder, or holds no image.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FolderError(f"image folder {folder} does not exist (absolute path: {folder.absolute()})")
    if not folder.is_dir():
        raise FolderError(f"image folder {folder} is a file, not a folder; name the folder that holds it")
    files = list(_walk(folder))
    images = [file for file in files if file.suffix.lower() in EXTENSIONS]
    if not images:
        others = count_others(folder)
        found = ", ".join(f"{count} {kind} file{'s'[: count > 1]}" for kind, count in others.most_common(5))
        raise FolderError(
            f"image folder {folder} holds no images: found {found or 'no files at all'}; "
            f"files that are read end in {', '.join(EXTENSIONS)}"
        )
    return sorted(images, key=lambda file: _natural_key(file.relative_to(folder)))


def count_others(folder: str | os.PathLike) -> Counter[str]:
    """How many files `list_images` passes over for their extension, by extension."""
    suffixes = (file.suffix.lower() for file in _walk(Path(folder)))
    return Counter(suffix or "extensionless" for suffix in suffixes if suffix not in EXTENSIONS)


def open_image(path: str | os.PathLike) -> Image.Image:
    """Open a picture as upright 8-bit RGB.

    Grey, palette, CMYK and 16-bit pictures are converted (65535 becomes 255), transparency is laid on
    white, the EXIF orientation is applied, color profiles are ignored. Of a multi-picture JPEG, as
    some phones write it, the first picture is read.

    Raises:
        ImageFileError: the file is missing, empty, truncated, animated, too large to decode safely,
            or not a JPEG, PNG, WebP or BMP file inside, whatever its name says.
    """
    return _read(Path(path))[0]


def file_kind(path: str | os.PathLike) -> str:
    """The extension that a readable picture's content has, such as ``jpeg``."""
    with Image.open(path) as image:
        return "jpeg" if image.format == "MPO" else image.format.lower()


def inspect_image(path: str | os.PathLike) -> Inspected:
    """Open a picture as `open_image` does, and say what its file is like; the file is read once.

    Raises:
        ImageFileError: as from `open_image`.
    """
    path = Path(path)
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
        listed = bullets([str(error) for error in bad])
        if on_bad_file == "error":
            raise FolderError(f"{counts}; repair or remove them, or set data.on_bad_file=skip:{listed}")
        _logger.warning("%s and are skipped:%s", counts, listed)
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


def check_disjoint(train: Sequence[Path], test: Sequence[Path]) -> None:
    """Refuse a test set that shares pictures with the training set: files of the same content.

    Raises:
        FolderError: listing the pictures that are in both.
    """
    train_sizes, test_sizes = ([path.stat().st_size for path in paths] for paths in (train, test))
    shared = set(train_sizes) & set(test_sizes)  # only files of equal size are worth reading

    by_digest: dict[str, list[Path]] = {}
    for path, size in zip(train, train_sizes, strict=True):
        if size in shared:
            by_digest.setdefault(sha256_of(path), []).append(path)
    same = [
        f"{path} is the training image {twin}"
        for path, size in zip(test, test_sizes, strict=True)
        if size in shared
        for twin in by_digest.get(sha256_of(path), [])
    ]
    if same:
        raise FolderError(
            f"test images were seen in training ({len(same)} of {len(test)}), which makes every score "
            f"too good; remove them from one of the two:{bullets(same)}"
        )


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, links followed, each real folder visited once."""
    visited = {os.path.realpath(folder)}
    for root, subfolders, names in os.walk(folder, followlinks=True):
        real = {name: os.path.realpath(os.path.join(root, name)) for name in sorted(subfolders)}
        subfolders[:] = [name for name in real if _wanted(name) and real[name] not in visited]
        visited.update(real[name] for name in subfolders)
        yield from (Path(root, name) for name in names if _wanted(name))


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _CLUTTER


def _natural_key(path: Path) -> tuple:
    """Order ``2.png`` before ``10.png``; the plain path breaks ties such as ``a.png`` and ``A.png``."""
    parts = [
        [int(piece) if piece.isdecimal() else piece.casefold() for piece in re.split(r"(\d+)", part)]
        for part in path.parts
    ]
    return parts, path.as_posix()


def _read(path: Path, content: io.BytesIO | None = None) -> tuple[Image.Image, str, str]:
    """The picture of a file, whose content may be in memory already, and its format and mode before conversion."""
    try:
        with _open(path, content) as image:
            image.load()
            rgb, kind, mode = upright_rgb(image), image.format, image.mode
    except ImageFileError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged data
        raise ImageFileError(path, f"is truncated or damaged ({error})") from error
    return rgb, kind, mode


def _open(path: Path, content: io.BytesIO | None) -> Image.Image:
    """Read the header of a picture and refuse what must not be decoded."""
    try:
        if path.stat().st_size == 0:
            raise ImageFileError(path, "is empty (0 bytes)")
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(content or path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageFileError(path, f"is too large to decode safely, make it smaller ({error})") from error
    except UnidentifiedImageError as error:
        raise ImageFileError(path, "is not an image: its content is of no known format or damaged") from error
    except OSError as error:
        if error.errno is None:  # the decoder's word, not the operating system's
            raise
        raise ImageFileError(path, f"cannot be read ({error.strerror})") from error
    reason = _refusal(image)
    if reason:
        image.close()
        raise ImageFileError(path, reason)
    return image


def _refusal(image: Image.Image) -> str | None:
    if image.format == "MPO":  # several JPEG pictures in one file, of which the first is the photograph
        return None
    if image.format not in FORMATS:
        return f"is a {image.format} file inside; what is read is {', '.join(FORMATS)}"
    frames = getattr(image, "n_frames", 1)
    return f"is an animation of {frames} frames; save one of them as a still picture" if frames > 1 else None


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
    orientation = _orientation(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        levels = np.asarray(image).astype(np.float32) / 257.0
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    rgb = image.convert("RGB")
    rgb = rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb
    rgb.info = {}  # with the EXIF data, by which it would be turned once more
    return rgb


def bullets(lines: Sequence[str], at_most: int = _LISTED) -> str:
    """Lines as an indented list, cut after ``at_most`` of them."""
    more = [f"... and {len(lines) - at_most} more"] if len(lines) > at_most else []
    return "".join(f"\n  {line}" for line in [*lines[:at_most], *more])
