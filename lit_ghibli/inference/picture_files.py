"""Writing translated photographs beside each other, named and oriented like the originals."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import ExifTags, Image

from lit_ghibli.data.image_files import EXTENSIONS, UPRIGHT, FolderError, ImageFileError, list_images
from lit_ghibli.files import write_atomically

# The same turn backwards: only quarter turns have another inverse than themselves.
_BACK = UPRIGHT | {6: UPRIGHT[8], 8: UPRIGHT[6]}


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
            if out.suffix.lower() in EXTENSIONS:
                plan[given] = out
                continue
            if out.suffix.lower() in Image.registered_extensions():
                raise FolderError(f"{out}: pictures are written to files that end in {', '.join(EXTENSIONS)}")
        if out.exists() and not out.is_dir():
            raise FolderError(f"{out} is a file: choose a folder with --out")
        if given.is_dir():
            photos = list_images(given)
            if given.resolve() in out.resolve().parents:  # pictures of an earlier call are no photographs
                photos = [photo for photo in photos if out.resolve() not in photo.resolve().parents]
            plan |= {photo: out / photo.relative_to(given) for photo in photos}
        elif not given.exists():
            raise FolderError(f"{given}: no such photograph or folder")
        elif given.suffix.lower() not in EXTENSIONS:
            raise FolderError(f"{given}: not an image; files that are read end in {', '.join(EXTENSIONS)}")
        else:
            plan[given] = out / given.name
    _check_collisions(plan, overwrite)
    return plan


def save_like(picture: Image.Image, original: Path, path: Path, *, quality: int) -> None:
    """Write an upright picture with the original's metadata, turned as the original is stored; atomically.

    Args:
        picture: Translated upright photograph.
        original: File of the photograph: its EXIF data, with the orientation, is kept.
        path: Its extension decides the format.
        quality: Of JPEG and WebP, 1 ... 100.

    Raises:
        ImageFileError: Its format cannot hold the picture.
        FolderError: The file cannot be written.
    """
    exif = _read_exif(original)
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in _BACK:
        picture = picture.transpose(_BACK[orientation])
    kind = Image.registered_extensions()[path.suffix.lower()]
    try:
        with write_atomically(path, "w+b") as file:
            picture.save(file, kind, quality=quality, **({"exif": exif} if len(exif) else {}))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise FolderError(f"{path} cannot be written: {error.strerror}") from error
        raise ImageFileError(path, f"cannot be written as {kind} ({error})") from error


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
