"""The commands one after the other, as real processes: a multirun, stylize, evaluate; mistakes; an early stop."""

import csv
import json

import pytest
import torch
from PIL import Image

from lit_ghibli import checkpoints
from lit_ghibli.data.scenes import render_pair


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny, cli):
    """A folder with two runs, of a multirun over one weight."""
    folder = tmp_path_factory.mktemp("work place")
    result = cli(
        "train",
        "-m",
        *tiny,
        "method.epochs=1",
        "optimized_metric=val/mse",
        "method.weights.cycle=5,20",
        "hydra.sweep.dir=outputs/sweep",
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def run(workplace):
    return workplace / "outputs" / "sweep" / "1"


def test_a_multirun_writes_one_run_for_each_value(workplace):
    runs = sorted(path for path in (workplace / "outputs" / "sweep").iterdir() if path.is_dir())
    assert [path.name for path in runs] == ["0", "1"]
    for path, weight in zip(runs, (5, 20), strict=True):
        checkpoint = checkpoints.load(path / "checkpoints" / "last.ckpt")
        assert checkpoint[checkpoints.CONFIG_KEY]["method"]["weights"]["cycle"] == weight
        with open(path / "metrics.csv", newline="") as file:
            assert "val/mse" in next(csv.reader(file))
        assert (path / "pictures" / "epoch_0001.png").is_file()
    first, second = (checkpoints.load(path / "checkpoints" / "last.ckpt")["state_dict"] for path in runs)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_stylize_writes_a_picture_for_every_photograph(workplace, run, cli):
    photos = workplace / "my photos"
    sizes = {"a=1.jpg": (40, 28), "sub dir/ü.png": (64, 33), "sub dir/broken.jpg": None}
    for name, size in sizes.items():
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        if size is None:
            (photos / name).write_bytes(b"no picture")
        else:
            Image.fromarray(render_pair(0, 0, 64)[0]).resize(size).save(photos / name)
    # No checkpoint is given: the newest run below outputs/ is taken.
    result = cli("stylize", str(photos), "--out", "out dir", "device=cpu", cwd=workplace)
    assert result.returncode == 1
    assert "1 of 3 files could not be read" in result.stderr
    assert "broken.jpg is not an image" in result.stderr
    assert "Traceback" not in result.stderr
    assert "outputs/sweep/1/checkpoints/last.ckpt" in result.stdout
    written = {
        path.relative_to(workplace / "out dir").as_posix(): path for path in (workplace / "out dir").rglob("*.*")
    }
    assert set(written) == {"a=1.jpg", "sub dir/ü.png"}
    for name, path in written.items():
        with Image.open(path) as picture:
            assert picture.size == sizes[name]
            assert picture.mode == "RGB"
            assert len(picture.getcolors(maxcolors=10_000)) > 10
    assert not list(workplace.glob("outputs/**/stylize*")), "a command that only reads leaves no log behind"


@pytest.fixture(scope="module")
def evaluated(workplace, run, cli):
    result = cli("evaluate", f"checkpoint={run}", cwd=workplace)
    assert result.returncode == 0, result.stderr
    return result.stdout, run / "evaluation" / "last"


def test_evaluate_writes_one_table_in_three_formats_and_a_grid(evaluated):
    printed, out = evaluated
    assert sorted(path.name for path in out.iterdir()) == ["metrics.csv", "metrics.json", "metrics.md", "pictures.png"]
    rows = json.loads((out / "metrics.json").read_text())
    assert [row["pictures"] for row in rows] == ["output", "untouched input"]
    with open(out / "metrics.csv", newline="") as file:
        assert [{key: str(value) for key, value in row.items()} for row in rows] == list(csv.DictReader(file))
    assert (out / "metrics.md").read_text() in printed
    with Image.open(out / "pictures.png") as grid:
        assert grid.height == 22 + 6 + 2 * (256 + 6), "two held-out photographs, 32 pixels enlarged to 256"
        assert grid.width == 6 + 3 * (256 + 6)


def test_evaluate_measures_what_training_measured(evaluated, run):
    rows = json.loads((evaluated[1] / "metrics.json").read_text())
    with open(run / "metrics.csv", newline="") as file:
        logged = {
            key: float(value) for row in csv.DictReader(file) for key, value in row.items() if value and "/" in key
        }
    for name in ("mse", "l1", "psnr", "ssim", "swd"):
        assert rows[0][name] == pytest.approx(logged[f"val/{name}"], rel=1e-4)
    # The untouched photographs against their partners, by hand.
    pairs = [[torch.from_numpy(pixels / 255) for pixels in render_pair(0, 14 + number, 32)] for number in range(2)]
    mse = sum(((photo - ghibli) ** 2).mean().item() for photo, ghibli in pairs) / 2
    assert rows[1]["mse"] == pytest.approx(mse, rel=1e-4)
    assert rows[0]["images"] == rows[1]["images"] == 2


def test_mistakes_end_in_one_message_and_status_1(tmp_path, cli):
    result = cli("train", "data=unpaired", "trainer=cpu", cwd=tmp_path)
    assert result.returncode == 1
    assert "lit-ghibli train: data.root is not set" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr

    result = cli("stylize", "photo.jpg", cwd=tmp_path)
    assert result.returncode == 1
    assert "no value for 'out'" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_a_run_that_stops_inside_an_epoch_goes_on_there(tmp_path, tiny, cli):
    train = ["train", *tiny, "method.epochs=1", "callbacks.checkpoints.every_n_batches=100", "hydra.run.dir=run"]
    stopped = cli(*train, "+callbacks.stop={_target_: helpers.stop.StopAt, batch: 3}", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    saved = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in saved.iterdir()) == ["last.ckpt"], "the epoch is not over"
    assert completed(saved / "last.ckpt") == 3

    resumed = cli("train", "resume=run", "callbacks.stop.batch=-1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "3 of them done" in resumed.stdout
    assert completed(saved / "epoch_0001.ckpt") == completed(saved / "last.ckpt") == 7


def completed(path):
    """Batches that a checkpoint has behind it; it is written just before Lightning counts its own as completed."""
    return checkpoints.load(path)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
