"""Writing translated photographs beside each other, named like the originals, with what those have besides pixels."""

import errno
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lit_ghibli.data.heif import HEIC_EXTENSIONS
from lit_ghibli.data.image_files import WRITTEN, FolderError, ImageFileError, upright_alpha
from lit_ghibli.data.image_folders import is_below, list_images, refuse_kind
from lit_ghibli.files import remove_partials, write_picture
from lit_ghibli.inference.picture_metadata import kept_metadata

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # the next file would fare no better
_WITH_ALPHA = ("PNG", "WEBP", "TIFF", "AVIF")
OF_QUALITY = (".jpg", ".jpeg", ".jfif", ".webp", ".avif")  # formats whose files can be smaller at a price
_SILENT = (".bmp",)
_FINE = 95  # quality of JPEG and AVIF from which on colors are as fine as lightness


def plan_outputs(
    inputs: Sequence[str | Path], out: str | Path | None, *, overwrite: bool, name: str = ""
) -> dict[Path, Path]:
    """Where every photograph's picture goes: its own name, below ``out`` as it lies below its input folder.

    Args:
        inputs: Photographs, and folders that are searched with their subfolders, ``out`` excepted.
        out: Folder for the pictures; of one photograph also the picture's file; None for beside each photograph, or
            folder, with ``name`` behind its own.
        overwrite: Allow the picture of a single photograph to exist already; those of several may.
        name: What stands behind a photograph's own name where ``out`` is None.

    Returns:
        Output file by photograph, in order.

    Raises:
        FolderError: An input is missing, no image, or a folder without any; ``out`` is a file; two pictures would have
            the same name; a photograph would be overwritten by its picture; that of a single one exists already.
    """
    plan: dict[Path, Path] = {}
    for given in map(Path, inputs):
        if out is None:
            if given.is_file():
                refuse_kind(given)
            plan |= plan_outputs([given], _beside(given, name), overwrite=True)
            continue
        out = Path(out)
        if given.is_file() and len(inputs) == 1 and not out.is_dir():
            if out.suffix.lower() in WRITTEN:
                plan[given] = out
                continue
            if out.suffix.lower() in Image.registered_extensions():
                raise FolderError(f"{out}: pictures are written to files that end in {', '.join(WRITTEN)}")
        if out.exists() and not out.is_dir():
            raise FolderError(f"{out} is a file: choose a folder with --out")
        if given.is_dir():
            photos = list_images(given)
            if is_below(out, given):  # pictures of an earlier call are no photographs
                photos = [photo for photo in photos if not is_below(photo, out)]
                if not photos:
                    raise FolderError(f"{given} holds no photographs but those in {out}, where pictures go")
            plan |= {photo: _written(out / photo.relative_to(given)) for photo in photos}
        elif not os.path.lexists(given):
            raise FolderError(f"{given}: no such photograph or folder")
        else:
            refuse_kind(given)
            plan[given] = _written(out / given.name)
    check_collisions(plan, overwrite or len(inputs) > 1 or Path(inputs[0]).is_dir())
    for folder in {path.parent for path in plan.values()}:
        remove_partials(folder)  # what an earlier call was writing when it was killed
    return plan


def save_like(picture: Image.Image, original: Path, path: Path, *, quality: int, software: str = "") -> None:
    """Write an upright picture with the original's metadata and transparency; atomically.

    Args:
        picture: Translated upright photograph.
        original: File of the photograph. Its EXIF data, XMP, density and comments are kept as far as they hold of the
            picture, which is upright and says that it is of sRGB; a WebP without loss stays so.
        path: Its extension decides the format.
        quality: Of JPEG, WebP and AVIF, 1 ... 100.
        software: What has made the picture, for its EXIF data.

    Raises:
        ImageFileError: Its format cannot hold the picture, or the file cannot be written.
        OSError: The disk is full, or takes no more for another reason that is none of this file's.
    """
    kind = Image.registered_extensions()[path.suffix.lower()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata
        with Image.open(original) as photo:
            alpha = upright_alpha(photo) if kind in _WITH_ALPHA and photo.has_transparency_data else None
            options = kept_metadata(photo, kind, picture.size, software)  # which changes how the photograph is turned
    if kind != "TIFF":
        options |= {"quality": quality} | ({"subsampling": "4:4:4"} if quality >= _FINE else {})
    if kind == "WEBP" and _is_lossless(original):
        options["lossless"] = True
    if alpha:
        picture = with_alpha(picture, alpha)
    try:
        write_picture(picture, path, **options)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        cause = f": {error.strerror}" if isinstance(error, OSError) and error.errno else f" as {kind} ({error})"
        raise ImageFileError(path, f"cannot be written{cause}") from error


def with_alpha(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    """An RGB picture, painted on white, with the opacity ``alpha`` of mode ``L``: on white it looks as it was painted.

    Solves C = a F + (1 - a) B for F, B being white. Source: Smith and Blinn, Blue screen matting (1996).
    """
    pixels, opacity = np.array(picture), np.asarray(alpha)
    partly = (opacity > 0) & (opacity < 255)
    pixels[partly] = np.rint(255 - (255.0 - pixels[partly]) * 255 / opacity[partly, None]).clip(0, 255)
    picture = Image.fromarray(pixels)
    picture.putalpha(alpha)
    return picture


def _is_lossless(path: Path) -> bool:
    """Whether a file is a WebP whose first picture is stored without loss. Source: RFC 9649, 2."""
    with path.open("rb") as file:
        if file.read(12)[8:] != b"WEBP":
            return False
        while len(head := file.read(8)) == 8:
            if head[:4] in (b"VP8 ", b"VP8L"):
                return head[:4] == b"VP8L"
            length = int.from_bytes(head[4:], "little")
            file.seek(16 if head[:4] == b"ANMF" else length + length % 2, 1)  # the chunks of a frame follow its head
    return False


def _written(path: Path) -> Path:
    """The place of a picture that would lie at ``path``; in another format where its own is read alone, or is silent.

    Silent is one that cannot say what has made a picture: in a folder that goes on, those of any style would be done.
    """
    if path.suffix.lower() in WRITTEN and path.suffix.lower() not in _SILENT:
        return path
    return path.with_suffix(".jpg" if path.suffix.lower() in HEIC_EXTENSIONS else ".png")


def _beside(given: Path, name: str) -> Path:
    """The place beside a photograph or a folder, with ``name`` behind its own."""
    if given.is_dir():
        folder = given.resolve() if given.name in ("", "..") else given
        return folder.parent / f"{folder.name}_{name}"
    return _written(given.with_name(f"{given.stem}_{name}{given.suffix}"))


def check_collisions(plan: dict[Path, Path], may_exist: bool) -> None:
    """Refuse two pictures of one name, one that would replace what is painted, and, unless it may, any other file.

    Raises:
        FolderError: There is such a one.
    """
    sources: dict[Path, Path] = {}
    originals = {os.path.realpath(photo) for photo in plan}
    for photo, path in plan.items():
        if path in sources:
            raise FolderError(f"{sources[path]} and {photo} would both be written to {path}: give them in two calls")
        sources[path] = photo
        if os.path.realpath(path) in originals:
            raise FolderError(f"{path} would overwrite what is to be painted: choose another folder with --out")
        if path.exists() and not may_exist:
            raise FolderError(f"{path} exists already: choose another folder with --out, or add overwrite=true")
