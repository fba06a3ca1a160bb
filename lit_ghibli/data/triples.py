"""Photographs, style pictures, and the finished pictures of both, beside unpaired pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.pair_sources import PseudoPairFolders
from lit_ghibli.data.pseudo_paired import PseudoPairedDataModule
from lit_ghibli.data.sources import Domain, Splits, stem


@dataclass(kw_only=True)
class TripleFolders(PseudoPairFolders):
    """Three folders of triples, besides those of unpaired and of held-out pictures.

    A style picture is named like its photograph, or like a folder that the photograph is in: ``pair_style/monet.jpg``
    is that of all in ``pair_input/monet/``.

    Attributes:
        pair_style: Subfolder of the triples' style pictures.
    """

    pair_style: str

    TRAINED_ON = (*PseudoPairFolders.TRAINED_ON, "pair_style")

    def load(self, training: bool = True) -> Splits:
        """Decode everything once, or find it in the cache; see :class:`~lit_ghibli.data.sources.Source`.

        Raises:
            FolderError: Also where a photograph of the pairs has no style picture.
        """
        splits = super().load(training)
        if not training:
            return splits
        files = self._trained_on(Path(self.root).expanduser(), self.pair_style, None)
        styles = self._decode(files, Domain(None, None), cropped=True)
        number_of = {stem(name): number for number, name in enumerate(styles.names)}
        found, alone = [], []
        for pair, name in enumerate(splits.pair_input.names):
            style = next((number_of[each] for each in (stem(name), *Path(name).parents) if each in number_of), None)
            if style is None:
                alone.append(f"{name} of {self.pair_input} has no style picture in {files.folder}")
            else:
                found.append((pair, style))
        self._complain("no style picture", alone)
        if not found:
            raise FolderError(f"no photograph of {self.pair_input} has a style picture in {files.folder}")
        pairs, numbers = zip(*found, strict=True)
        splits.pair_input, splits.pair_target = splits.pair_input.take(pairs), splits.pair_target.take(pairs)
        splits.pair_style = styles.take(numbers)
        return splits


class TripleDataModule(PseudoPairedDataModule):
    """Triples with unpaired pictures: batches of five, ``(N, 3, crop_size, crop_size)`` in ``[-1, 1]`` each.

    ``pair_a`` and ``pair_b`` are the photograph and the finished picture of a triple, cropped alike, ``pair_style`` a
    crop of its style picture; the others are those of :class:`PseudoPairedDataModule`.
    """

    batch_keys = (*PseudoPairedDataModule.batch_keys, "pair_style")

    @classmethod
    def from_folders(cls, **values: Any) -> "TripleDataModule":
        """Serve a user's folders, by the fields of :class:`TripleFolders`."""
        return cls.serving(TripleFolders, **values)
