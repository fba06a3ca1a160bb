"""Decoded and resized pictures in one packed file, so that training never waits for JPEG decoding.

Layout of a packed file: the magic, the byte lengths of the pixels and of the index (two little-endian
64-bit numbers) and the CRC-32 of the index (one of 32 bits), the pixels of all pictures as planar RGB one
after the other, and the index as JSON (names, heights and widths, and the CRC-32 of each picture). The
index comes last because it is known only when all is decoded.
"""

import copy
import functools
import hashlib
import io
import json
import logging
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lit_ghibli.data.file_checksums import checksums
from lit_ghibli.data.image_files import FolderError, OnBadFile, decode_all, require_images
from lit_ghibli.data.transforms import Step
from lit_ghibli.documents import conform, parse_json
from lit_ghibli.files import default_cache_dir, remove_partials, write_atomically

Storage = Literal["disk", "ram"]
Picture = tuple[str, NDArray[np.uint8]]  # name, pixels (H, W, 3)

T = TypeVar("T")

_MAGIC = b"ghibli03"  # the digits are the version of the layout and of what is put into it
_PREFIX = struct.Struct("<8sQQI")
_INDEX = {"names": list[str], "shapes": list[tuple[int, int]], "checksums": list[int]}
_WORTH_A_BAR = 50  # pictures
_WORTH_PROCESSES = 200  # pictures to render
_logger = logging.getLogger(__name__)


class PackedImages:
    """Pictures in one block of memory or one memory-mapped file: a sequence of ``(3, H, W)`` ``uint8``.

    Every access returns a fresh tensor. A memory-mapped one is pickled as its path, and one in memory
    goes to DataLoader workers through shared memory, so no worker receives a copy.

    Attributes:
        names: the relative path of each picture, with ``/`` between folders.
    """

    def __init__(self, content: Tensor, path: Path | None = None) -> None:
        """Read the index of a packed file.

        Args:
            content: all bytes of the file, ``uint8``.
            path: where the content is mapped from; none for content held in memory.

        Raises:
            ValueError: the content is no complete packed file of this version.
        """
        self._content = content
        self._path = path
        self._taken: Sequence[int] | None = None
        self.names, shapes, self._checksums = _read_index(content)
        starts = _PREFIX.size + np.cumsum([0, *(3 * height * width for height, width in shapes)])
        self._places = list(zip(starts.tolist(), shapes, strict=False))  # the last start is the end

    @classmethod
    def open(cls, path: Path) -> "PackedImages":
        """Map a packed file into memory.

        Raises:
            ValueError: the file is damaged, incomplete or of another version.
        """
        size = path.stat().st_size
        if size < _PREFIX.size:
            raise ValueError(f"{path} is not a packed image file: it has {size} bytes")
        # A private mapping: pages are shared between processes, and nothing can be written back.
        return cls(torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8), path)

    def verify(self) -> None:
        """Read all pictures once.

        Raises:
            ValueError: one is not what was written.
        """
        for name, (start, (height, width)), expected in zip(self.names, self._places, self._checksums, strict=True):
            if zlib.crc32(self._content[start : start + 3 * height * width].numpy()) != expected:
                raise ValueError(f"{name} in {self._path} is damaged")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        start, (height, width) = self._places[index]
        return self._content[start : start + 3 * height * width].view(3, height, width).clone()

    def take(self, indices: Sequence[int]) -> "PackedImages":
        """Return the same pictures in another order, or some of them; the pixels are shared."""
        some = copy.copy(self)
        some._taken = list(indices) if self._taken is None else [self._taken[index] for index in indices]
        some.names = [self.names[index] for index in indices]
        some._places = [self._places[index] for index in indices]
        return some

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of a picture."""
        return self._places[index][1]

    def __reduce__(self) -> tuple:
        return _unpickle, (self._content if self._path is None else self._path, self._taken)


def _unpickle(source: Path | Tensor, taken: Sequence[int] | None) -> PackedImages:
    packed = PackedImages(source) if isinstance(source, Tensor) else PackedImages.open(source)
    return packed if taken is None else packed.take(taken)


def cached_folder(
    folder: str | os.PathLike,
    paths: Sequence[Path],
    *,
    steps: Sequence[Step],
    cache_dir: str | os.PathLike | None,
    storage: Storage,
    on_bad_file: OnBadFile = "error",
    min_images: int = 1,
    progress: bool = True,
) -> PackedImages:
    """Decode and transform pictures of a folder, once: later calls map the cached file.

    The cache is used again as long as the files keep their names and contents, wherever their folder is moved.

    Args:
        folder: the folder, which the pictures' names are relative to.
        paths: files below it.
        steps: what is done to each picture after decoding, in order; their ``repr`` tells them apart.
        cache_dir: where packed files are kept; none for `default_cache_dir`.
        storage: ``"disk"`` maps a file in ``cache_dir``, ``"ram"`` holds the pictures and writes nothing.
        on_bad_file: see `decode_all`.
        min_images: fewest good pictures to accept.
        progress: show a bar on a terminal where there is much to do.

    Raises:
        FolderError: no images, bad images, too few images, or a cache folder that cannot be written.
    """
    folder = Path(folder)
    names = {path: path.relative_to(folder).as_posix() for path in paths}

    def pictures() -> Iterator[Picture]:
        shown = _bar(paths, len(paths), f"Preparing {folder.name}", progress)
        decoded = decode_all(
            shown,
            lambda image: np.asarray(functools.reduce(lambda picture, step: step(picture), steps, image)),
            on_bad_file=on_bad_file,
            min_images=min_images,
        )
        return ((names[path], pixels) for path, pixels in decoded)

    contents = checksums(folder, paths, _cache_dir(cache_dir)) if storage == "disk" else []
    key = ("folder", *zip(names.values(), contents, strict=False), *steps, on_bad_file)
    packed = _load_or_build(key, pictures, len(paths), cache_dir, storage)
    require_images(len(packed), min_images, of=len(paths))
    return packed


def cached_renders(
    key: str,
    count: int,
    render: Callable[[int], NDArray[np.uint8]],
    *,
    cache_dir: str | os.PathLike | None,
    storage: Storage,
    progress: bool = True,
) -> PackedImages:
    """Render ``count`` pictures, once: later calls map the cached file.

    Args:
        key: everything that decides what is rendered, in words: the renderer and its version, seed, size.
        count: number of pictures.
        render: picture number -> ``uint8`` ``(H, W, 3)``. More than 200 pictures are rendered in several
            processes, started as those of a DataLoader are, so ``render`` must be picklable.
        cache_dir: as of `cached_folder`, like ``storage`` and ``progress``.
        storage: likewise.
        progress: likewise.

    Raises:
        FolderError: the cache folder cannot be written.
    """

    def pictures() -> Iterator[Picture]:
        rendered = _bar(_render_all(render, count), count, "Rendering", progress)
        return ((f"{number:06d}", pixels) for number, pixels in enumerate(rendered))

    return _load_or_build(("renders", key), pictures, count, cache_dir, storage)


def _cache_dir(given: str | os.PathLike | None) -> Path:
    return Path(given).expanduser() if given else default_cache_dir()


def _render_all(render: Callable[[int], T], count: int) -> Iterator[T]:
    if count <= _WORTH_PROCESSES:
        yield from map(render, range(count))
        return
    with ProcessPoolExecutor() as pool:  # processes, because drawing holds the interpreter lock
        yield from pool.map(render, range(count), chunksize=8)


def _bar(items: Iterable[T], total: int, description: str, progress: bool) -> Iterable[T]:
    """Iterate behind a progress bar, where a person is watching and there is time to watch."""
    if not (progress and total > _WORTH_A_BAR and sys.stderr.isatty()):
        return items
    return track(items, description, total, console=Console(stderr=True), transient=True)


def _load_or_build(
    key: tuple,
    pictures: Callable[[], Iterator[Picture]],
    expected: int,
    cache_dir: str | os.PathLike | None,
    storage: Storage,
) -> PackedImages:
    """Map the packed file of ``key``, or make it from ``pictures()``, at most ``expected`` of them."""
    if storage not in ("disk", "ram"):
        raise ValueError(f"storage must be 'disk' or 'ram', got {storage!r}")
    if storage == "ram":
        stream = io.BytesIO()
        _write(stream, pictures())
        return PackedImages(torch.frombuffer(stream.getbuffer(), dtype=torch.uint8))

    digest = hashlib.sha256(repr((_MAGIC, expected, key)).encode()).hexdigest()
    path = _cache_dir(cache_dir) / f"{digest[:32]}.pack"
    try:
        packed = PackedImages.open(path)
        packed.verify()
        if len(packed) < expected:  # said again, because the run that listed them may be long ago
            _logger.warning("%s was built without %d bad images", path, expected - len(packed))
        return packed
    except FileNotFoundError:
        pass
    except (ValueError, OSError) as error:
        _logger.warning("rebuilding the image cache: %s", error)
    remove_partials(path.parent)
    try:
        with write_atomically(path, "wb") as file:  # readers see all or nothing
            _write(file, pictures())
    except OSError as error:
        raise FolderError(
            f"cannot write the image cache {path} ({error.strerror or error}): set data.cache_dir (or the "
            "environment variable LIT_GHIBLI_CACHE) to a folder with room that can be written to, or set "
            "data.cache=ram to keep the images in memory"
        ) from error
    return PackedImages.open(path)


def _write(file: BinaryIO, pictures: Iterable[Picture]) -> None:
    names, shapes, crcs, length = [], [], [], 0
    file.write(bytes(_PREFIX.size))
    for name, pixels in pictures:
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        names.append(name)
        shapes.append(pixels.shape[:2])
        crcs.append(zlib.crc32(planes))
        length += file.write(planes)
    index = json.dumps({"names": names, "shapes": shapes, "checksums": crcs}).encode()
    file.write(index)
    file.seek(0)
    file.write(_PREFIX.pack(_MAGIC, length, len(index), zlib.crc32(index)))


def _read_index(content: Tensor) -> tuple[list[str], list[tuple[int, int]], list[int]]:
    magic, length, index_length, crc = _PREFIX.unpack(content[: _PREFIX.size].numpy().tobytes())
    if magic != _MAGIC or len(content) != _PREFIX.size + length + index_length:
        raise ValueError(f"not a complete packed image file of version {_MAGIC.decode()}")
    written = content[_PREFIX.size + length :].numpy().tobytes()
    if zlib.crc32(written) != crc:
        raise ValueError("the index of a packed image file is damaged")
    index = conform(parse_json(written), _INDEX)
    if sum(3 * height * width for height, width in index["shapes"]) != length:
        raise ValueError("the index of a packed image file is not of its pictures")
    return index["names"], index["shapes"], index["checksums"]
