"""The commands one after the other, as real processes: a multirun, stylize, evaluate, profile; mistakes; a stop."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from lit_ghibli import checkpoints
from lit_ghibli.data.sources import FIRST_HELD_OUT
from lit_ghibli.scenes.scene import render_pair


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
    result = cli("stylize", str(photos), "--out", "out dir", "device=cpu", "checkpoint=newest", cwd=workplace)
    assert result.returncode == 1
    assert "1 of 3 files could not be translated" in result.stderr
    assert "broken.jpg is not an image" in result.stderr
    assert "Traceback" not in result.stderr
    assert "outputs/sweep/1/checkpoints/last.ckpt (size=" in result.stdout
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
    tables = ["metrics.csv", "metrics.json", "metrics.md", "per_picture.csv"]
    assert sorted(path.name for path in out.iterdir()) == [*tables, "pictures.png", "translated"]
    rows = json.loads((out / "metrics.json").read_text())
    assert [row["pictures"] for row in rows] == ["output", "untouched input"]
    with open(out / "metrics.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [{key: str(row.get(key, "")) for key in rows[0]} for row in rows] == written
    assert float(written[0]["seconds_per_picture"]) > 0
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
        assert rows[0][name] == pytest.approx(logged[f"val/{name}"], rel=1e-3)
    # The untouched photographs against their partners, by hand.
    pairs = [
        [torch.from_numpy(pixels / 255) for pixels in render_pair(0, FIRST_HELD_OUT + number, 32)]
        for number in range(2)
    ]
    mse = sum(((photo - ghibli) ** 2).mean().item() for photo, ghibli in pairs) / 2
    assert rows[1]["mse"] == pytest.approx(mse, rel=1e-4)
    assert rows[0]["images"] == rows[1]["images"] == 2


def test_evaluate_measures_and_saves_every_picture(evaluated):
    out = evaluated[1]
    means = json.loads((out / "metrics.json").read_text())
    with open(out / "per_picture.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for metric in ("mse", "psnr", "ssim", "l1"):
        for prefix, mean in zip(("", "input_"), means, strict=True):
            assert sum(float(row[f"{prefix}{metric}"]) for row in rows) / 2 == pytest.approx(mean[metric], rel=1e-5)
    for number, row in enumerate(rows):
        with Image.open(out / "translated" / f"{row['name']}.png") as picture:
            pixels = torch.from_numpy(np.array(picture)) / 255
        target = torch.from_numpy(render_pair(0, FIRST_HELD_OUT + number, 32)[1] / 255)
        assert float(row["mse"]) == pytest.approx(((pixels - target) ** 2).mean().item(), abs=1e-3), "8-bit rounding"


@pytest.fixture(scope="module")
def ode_run(run, tmp_path_factory):
    """The same weights in a generator of ODE blocks, whose parameters have the names of residual blocks'."""
    checkpoint = checkpoints.load(run / "checkpoints" / "last.ckpt")
    generator = checkpoint[checkpoints.CONFIG_KEY]["method"]["generator"]
    generator |= {"_target_": "lit_ghibli.networks.ode.OdeGenerator", "solver": "midpoint"}
    folder = tmp_path_factory.mktemp("ode")
    checkpoints.save(checkpoint, folder / "checkpoints" / "last.ckpt")
    return folder


def test_stylize_with_another_solver_says_how_far_it_is_from_the_trainings(workplace, ode_run, cli):
    for name in ("1.png", "2.png"):
        Image.fromarray(render_pair(0, 0, 64)[0]).save(workplace / name)
    arguments = ("stylize", "1.png", "2.png", f"checkpoint={ode_run}", "device=cpu")
    trained, other = (
        cli(*arguments, "--out", out, *solver, cwd=workplace)
        for out, solver in (("trained", []), ("other", ["solver=euler", "steps=3", "size=64"]))
    )
    assert other.returncode == trained.returncode == 0, other.stderr
    assert "solver" not in trained.stdout
    pictures = [np.asarray(Image.open(workplace / out / "1.png"), dtype=float) for out in ("trained", "other")]
    start = (
        "1.png (only the first, to save time): euler (3 evaluations) against the training's midpoint (2 evaluations)"
    )
    line = next(line for line in other.stdout.splitlines() if line.startswith(start))
    difference = float(line.split("mean difference ")[1].split()[0])
    assert difference == pytest.approx(np.abs(pictures[0] - pictures[1]).mean(), abs=0.3), "8-bit rounding"
    assert difference > 0


def test_evaluate_with_another_solver_has_a_folder_of_its_own(ode_run, cli):
    result = cli("evaluate", f"checkpoint={ode_run}", "solver=euler", cwd=ode_run)
    assert result.returncode == 0, result.stderr
    row, untouched = json.loads((ode_run / "evaluation" / "last_euler" / "metrics.json").read_text())
    assert (row["solver"], row["nfe"]) == ("euler", 1)
    assert 0 < row["solver_l1"] < 0.5
    assert -1 < row["solver_ssim"] < 1
    assert "solver" not in untouched


def test_a_run_without_an_ode_has_no_solver(workplace, run, cli):
    result = cli("evaluate", f"checkpoint={run}", "solver=euler", "steps=2", cwd=workplace)
    assert result.returncode == 1
    assert "solver=euler steps=2: this run's ResnetGenerator has no ODE to solve" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_profile_measures_methods_and_runs(workplace, run, cli):
    small = ["size=32", "warm_up=0", "repeats=[1,2]", "threads=1", "device=cpu", "method.generator.base_channels=4"]
    result = cli("profile", "method=cyclegan", f"checkpoint={run}", *small, "--out", "my tables", cwd=workplace)
    assert result.returncode == 0, result.stderr
    out = workplace / "my tables"
    assert sorted(path.name for path in out.iterdir()) == ["profile.csv", "profile.json", "profile.md"]
    assert (out / "profile.md").read_text() in result.stdout
    rows = {row["method"]: row for row in json.loads((out / "profile.json").read_text())}
    assert set(rows) == {"cyclegan", str(run)}
    for name, blocks in (("cyclegan", 6), (str(run), 1)):
        assert rows[name]["parameters_m"] * 1e6 == pytest.approx(8739 + (blocks - 1) * 2 * (9 * 16**2 + 16))
        assert rows[name]["seconds_1"] > 0
    assert not list(workplace.glob("outputs/profile*"))


def test_mistakes_end_in_one_message_and_status_1(tmp_path, cli):
    result = cli("train", "data=unpaired", "trainer=cpu", cwd=tmp_path)
    assert result.returncode == 1
    assert "lit-ghibli train: data.root is not set" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr

    result = cli("stylize", "photo.jpg", cwd=tmp_path)
    assert result.returncode == 1
    assert "photo.jpg: no such photograph" in result.stderr
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
