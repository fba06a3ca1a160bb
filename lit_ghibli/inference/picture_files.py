"""Writing translated photographs beside each other, named and oriented like the originals."""

import errno
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import ExifTags, Image

from lit_ghibli.data.image_files import UPRIGHT, WRITTEN, FolderError, ImageFileError
from lit_ghibli.data.image_folders import list_images, refuse_kind
from lit_ghibli.files import remove_partials, write_picture

# The same turn backwards: only quarter turns have another inverse than themselves.
_BACK = UPRIGHT | {6: UPRIGHT[8], 8: UPRIGHT[6]}
_SRGB = 1  # of the EXIF color space; pictures are sRGB, whatever their photograph was
_TAGS = (
    "ImageDescription Make Model Orientation XResolution YResolution ResolutionUnit Software DateTime Artist Copyright"
)
# What a TIFF says of the photograph, and not of how its own pixels lie.
_DESCRIPTIVE = {ExifTags.Base[tag] for tag in f"{_TAGS} ExifOffset GPSInfo".split()}
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # the next file would fare no better


def plan_outputs(
    inputs: Sequence[str | Path], out: str | Path | None, *, overwrite: bool, name: str = ""
) -> dict[Path, Path]:
    """Where every photograph's picture goes: its own name, below ``out`` as it lies below its input folder.

    Args:
        inputs: Photographs, and folders that are searched with their subfolders, ``out`` excepted.
        out: Folder for the pictures; of one photograph also the picture's file; None for beside each photograph, or
            folder, with ``name`` behind its own.
        overwrite: Allow pictures that exist already to be replaced.
        name: What stands behind a photograph's own name where ``out`` is None.

    Returns:
        Output file by photograph, in order.

    Raises:
        FolderError: An input is missing or no image; ``out`` is a file; two pictures would have the same name; a
            photograph would be overwritten by its picture, or, without ``overwrite``, any file.
    """
    plan: dict[Path, Path] = {}
    for given in map(Path, inputs):
        if out is None:
            plan |= plan_outputs([given], _beside(given, name), overwrite=overwrite)
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
            if given.resolve() in out.resolve().parents:  # pictures of an earlier call are no photographs
                photos = [photo for photo in photos if out.resolve() not in photo.resolve().parents]
            plan |= {photo: _written(out / photo.relative_to(given)) for photo in photos}
        elif not os.path.lexists(given):
            raise FolderError(f"{given}: no such photograph or folder")
        else:
            refuse_kind(given)
            plan[given] = _written(out / given.name)
    _check_collisions(plan, overwrite)
    for folder in {path.parent for path in plan.values()}:
        remove_partials(folder)  # what an earlier call was writing when it was killed
    return plan


def save_like(picture: Image.Image, original: Path, path: Path, *, quality: int) -> None:
    """Write an upright picture with the original's metadata, turned as the original is stored; atomically.

    Args:
        picture: Translated upright photograph.
        original: File of the photograph: its EXIF data, with the orientation, is kept.
        path: Its extension decides the format.
        quality: Of JPEG and WebP, 1 ... 100.

    Raises:
        ImageFileError: Its format cannot hold the picture, or the file cannot be written.
        OSError: The disk is full, or takes no more for another reason that is none of this file's.
    """
    exif = _read_exif(original)
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in _BACK:
        picture = picture.transpose(_BACK[orientation])
    options = {"compression": "tiff_lzw"} if path.suffix.lower() in (".tif", ".tiff") else {"quality": quality}
    try:
        write_picture(picture, path, **options, **({"exif": exif} if len(exif) else {}))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        kind = Image.registered_extensions()[path.suffix.lower()]
        cause = f": {error.strerror}" if isinstance(error, OSError) and error.errno else f" as {kind} ({error})"
        raise ImageFileError(path, f"cannot be written{cause}") from error


def _written(path: Path) -> Path:
    """The place of a picture that would lie at ``path``; PNG for formats that are read alone."""
    return path if path.suffix.lower() in WRITTEN else path.with_suffix(".png")


def _beside(given: Path, name: str) -> Path:
    """The place beside a photograph or a folder, with ``name`` behind its own."""
    if given.is_dir():
        folder = given.resolve() if given.name in ("", "..") else given
        return folder.parent / f"{folder.name}_{name}"
    return given.with_name(f"{given.stem}_{name}{given.suffix}")


def _read_exif(path: Path) -> Image.Exif:
    """EXIF data of a file; none where they are damaged, which `open_image` then takes as upright, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as opened:
                exif = opened.getexif()
            for tag in set(exif) - _DESCRIPTIVE if opened.format == "TIFF" else ():
                del exif[tag]
            details = exif.get_ifd(ExifTags.IFD.Exif)
            if details.get(ExifTags.Base.ColorSpace, _SRGB) != _SRGB:
                details[ExifTags.Base.ColorSpace] = _SRGB
            exif.tobytes()
        except Exception:  # Pillow raises many kinds on damaged data
            return Image.Exif()
    return exif


def _check_collisions(plan: dict[Path, Path], overwrite: bool) -> None:
    sources: dict[Path, Path] = {}
    originals = {photo.resolve() for photo in plan}
    for photo, path in plan.items():
        if path in sources:
            raise FolderError(f"{sources[path]} and {photo} would both be written to {path}: give them in two calls")
        sources[path] = photo
        if path.resolve() in originals:
            raise FolderError(f"{path} would overwrite a photograph: choose another folder with --out")
        if path.exists() and not overwrite:
            raise FolderError(f"{path} exists already: choose another folder with --out, or add overwrite=true")
