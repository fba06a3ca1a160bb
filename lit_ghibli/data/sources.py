"""Where training and held-out pictures come from: folders of a user's, or rendered scenes."""

import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from lit_ghibli.data.cache import PackedImages, cached_folder, cached_renders, default_cache_dir
from lit_ghibli.data.image_files import FolderError, check_disjoint, list_images
from lit_ghibli.data.scenes import render_pair

log = logging.getLogger(__name__)


@dataclass
class Splits:
    """Pictures for training and held out, all ``uint8``.

    Attributes:
        train_photo: Photographs to train on; None where only held-out pictures were asked for.
        train_anime: Pictures of the target style to train on; None likewise.
        test_photo: Held-out photographs.
        test_anime: Held-out pictures of the target style.
    """

    train_photo: PackedImages | None
    train_anime: PackedImages | None
    test_photo: PackedImages
    test_anime: PackedImages

    def partners(self) -> list[int] | None:
        """Index in ``test_anime`` of each held-out photograph's true partner: named alike but for the extension.

        None where any photograph has none.
        """
        index = {Path(name).with_suffix(""): number for number, name in enumerate(self.test_anime.names)}
        partners = [index.get(Path(name).with_suffix("")) for name in self.test_photo.names]
        return None if None in partners else partners


@dataclass
class FolderSource:
    """Two folders of pictures to train on, and two that are held out if the user has them.

    Without held-out folders the first training pictures are shown and measured instead, which a warning says.

    Attributes:
        root: Folder that holds the others.
        train_photo: Subfolder of photographs.
        train_anime: Subfolder of pictures in the target style.
        test_photo: Subfolder of held-out photographs.
        test_anime: Subfolder of held-out pictures; those named like a photograph are its true partner.
        load_size: Pixels that training pictures are resized to before the crop.
        eval_size: Pixels that held-out pictures are resized to.
        resize: ``squash`` makes squares, ``short_side`` keeps the aspect.
        min_side: Pictures with a side shorter than this are bad files.
        on_bad_file: ``error`` stops and lists all of them; ``skip`` goes on without them.
        cache: Where decoded pictures are kept: ``disk`` or ``ram``.
        cache_dir: Folder of the cache; None for the user's cache folder.
    """

    root: str | Path
    train_photo: str
    train_anime: str
    test_photo: str
    test_anime: str
    load_size: int
    eval_size: int
    resize: Literal["squash", "short_side"]
    min_side: int
    on_bad_file: Literal["error", "skip"]
    cache: Literal["disk", "ram"]
    cache_dir: str | Path | None

    def load(self, training: bool = True) -> Splits:
        """Decode everything once, or find it in the cache.

        Args:
            training: Open the training pictures too; without them, folders that hold held-out ones are enough.

        Raises:
            FolderError: A folder is missing, empty or has bad pictures, or a picture is in training and test.
        """
        domains = ((self.train_photo, self.test_photo), (self.train_anime, self.test_anime))
        train = [self._list(name) if training or not self._folder(test).is_dir() else None for name, test in domains]
        held_out = [self._held_out(test, paths) for (_, test), paths in zip(domains, train, strict=True)]
        requests = [(paths, self.load_size) for paths in train] if training else [(None, 0), (None, 0)]
        requests += [(paths, self.eval_size) for paths in held_out]
        opened, errors = [], []
        for paths, size in requests:
            try:
                opened.append(None if paths is None else self._open(paths, size))
            except FolderError as error:
                errors.append(str(error))
        if errors:
            raise FolderError("\n".join(dict.fromkeys(errors)))
        return Splits(*opened)

    def _list(self, folder: str) -> list[Path]:
        return list_images(self._folder(folder))

    def _folder(self, name: str) -> Path:
        return Path(self.root).expanduser() / name

    def _held_out(self, folder: str, train: list[Path] | None) -> list[Path]:
        if not self._folder(folder).is_dir():
            log.warning("no folder %s in %s: pictures and metrics use training images instead", folder, self.root)
            return train[:8]
        held_out = self._list(folder)
        if train is not None:
            check_disjoint(train, held_out)
        return held_out

    def _open(self, paths: list[Path], size: int) -> PackedImages:
        return cached_folder(
            paths,
            size=size,
            mode=self.resize,
            min_side=self.min_side,
            on_bad_file=self.on_bad_file,
            storage=self.cache,
            cache_dir=Path(self.cache_dir) if self.cache_dir else default_cache_dir(),
        )


@dataclass
class SceneSource:
    """Rendered landscapes: every photograph has a true partner in the painted style.

    Training photographs and training pictures are of different scenes; held-out ones are pairs.

    Attributes:
        scene_seed: Seed of the world that the scenes are of.
        count: Training pictures per domain.
        test_count: Held-out pairs.
        size: Side in pixels, 32 to 512.
        cache: ``disk`` or ``ram``.
        cache_dir: Folder of the cache; None for the user's cache folder.
    """

    scene_seed: int
    count: int
    test_count: int
    size: int
    cache: Literal["disk", "ram"]
    cache_dir: str | Path | None

    def load(self, training: bool = True) -> Splits:
        """Render everything once, or find it in the cache; ``training`` as for folders."""
        held_out = 2 * self.count
        return Splits(
            self._render("photo", 0, self.count) if training else None,
            self._render("ghibli", self.count, self.count) if training else None,
            self._render("photo", held_out, self.test_count),
            self._render("ghibli", held_out, self.test_count),
        )

    def _render(self, domain: Literal["photo", "ghibli"], start: int, count: int) -> PackedImages:
        # One picture of the renderer as it is now, so that a changed renderer does not find its old pictures.
        renderer = hashlib.sha256(_render_scene(domain, 0, 32, 0, 0).tobytes()).hexdigest()
        return cached_renders(
            f"{renderer} {domain} seed={self.scene_seed} from={start} size={self.size}",
            count,
            partial(_render_scene, domain, self.scene_seed, self.size, start),
            storage=self.cache,
            cache_dir=Path(self.cache_dir) if self.cache_dir else default_cache_dir(),
        )


def _render_scene(domain: str, seed: int, size: int, start: int, index: int) -> np.ndarray:
    photo, ghibli = render_pair(seed, start + index, size)
    return photo if domain == "photo" else ghibli
