"""Triples: which style picture belongs to which photograph, and what is said of one that has none."""

from pathlib import Path

import pytest
from PIL import Image

from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.triples import TripleDataModule

NAMES = {"pair_input": "pairA", "pair_target": "pairB", "pair_style": "pairS", "train_photo": "trainA"}
NAMES |= {"train_anime": "trainB", "test_photo": "testA", "test_anime": "testB"}
READING = {"load_size": 28, "eval_size": 24, "resize": "squash", "min_side": 20, "on_bad_file": "error", "cache": "ram"}
LOADING = {"cache_dir": None, "crop_size": 24, "flip": 0.5, "batch_size": 2, "num_workers": 0, "seed": 4}
LEVELS = {  # by which pictures are told apart
    "pairA": {"1.png": 1, "monet/2.png": 2, "monet/late/3.png": 3},
    "pairB": {"1.png": 101, "monet/2.jpg": 102, "monet/late/3.png": 103},
    "pairS": {"1.bmp": 201, "monet.png": 210, "unused.png": 220},
    "trainA": {"a.png": 50, "b.png": 51},
    "trainB": {"x.png": 150},
    "testA": {"t.png": 60},
    "testB": {"t.png": 160},
}


@pytest.fixture
def root(tmp_path) -> Path:
    for folder, files in LEVELS.items():
        for name, level in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 30), (level, level, level)).save(path)
    return tmp_path


def opened(root: Path, **changes) -> TripleDataModule:
    module = TripleDataModule.from_folders(**LOADING | READING | NAMES | {"root": root} | changes)
    module.setup("fit")
    return module


def test_each_finished_picture_comes_with_the_style_of_its_name_or_of_its_folder(root):
    module = opened(root)
    shown = set()
    for epoch in range(3):
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            assert tuple(batch) == module.batch_keys
            rows = zip(*(batch[key][:, 0, 0, 0].tolist() for key in ("pair_a", "pair_b", "pair_style")), strict=True)
            shown |= set(rows)
    assert shown == {(1, 101, 201), (2, 102, 210), (3, 103, 210)}


def test_a_photograph_without_a_style_picture_is_named_or_skipped(root, caplog):
    (root / "pairS/1.bmp").unlink()
    with pytest.raises(FolderError, match=rf"1 files .* no style picture;(.|\n)*1.png of pairA has no .* {root}/pairS"):
        opened(root)
    assert opened(root, on_bad_file="skip").splits.pair_input.names == ["monet/2.png", "monet/late/3.png"]
    assert "no style picture" in caplog.text
    (root / "pairS/monet.png").unlink()
    with pytest.raises(FolderError, match="no photograph of pairA has a style picture"):
        opened(root, on_bad_file="skip")
    (root / "pairS/unused.png").unlink()
    (root / "pairS").rmdir()
    with pytest.raises(FolderError, match=r"pairS does not exist: data\.pair_style=pairS"):
        opened(root)


def test_held_out_pictures_need_no_triples(root):
    module = TripleDataModule.from_folders(**LOADING | READING | NAMES | {"root": root})
    module.setup("validate")
    assert (module.splits.pair_style, len(module.splits.test_input)) == (None, 1)
