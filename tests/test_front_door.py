"""The three public ways in Python: load, train, and a method's load_from_checkpoint."""

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import lit_ghibli
from lit_ghibli import checkpoints
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8, to_uint8
from lit_ghibli.inference.painting import enlarge
from lit_ghibli.methods.cyclegan import CycleGAN
from lit_ghibli.methods.pix2pix import Pix2Pix
from lit_ghibli.networks.normalization import shared_statistics
from lit_ghibli.scenes.scene import render_pair

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*log_every_n_steps")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny):
    """A run of CycleGAN, trained in this process."""
    folder = tmp_path_factory.mktemp("front door")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return lit_ghibli.train(*tiny, "method.epochs=1")


@pytest.fixture(scope="module")
def paint(trained):
    return lit_ghibli.load(trained, device="cpu")


@pytest.fixture
def pixels():
    return np.ascontiguousarray(render_pair(0, 3, 64)[0][:40, :52])


def test_train_leaves_what_the_command_leaves(trained):
    left = {path.relative_to(trained.folder).as_posix() for path in trained.folder.rglob("*") if path.is_file()}
    assert {".hydra/overrides.yaml", "checkpoints/last.ckpt", "metrics.csv", "record.json"} <= left
    assert trained.folder.parent.name == "outputs"
    assert trained.checkpoint.is_file()
    assert trained.metrics["val/mse"] > 0
    record = json.loads((trained.folder / "record.json").read_text())
    assert record["attempts"][-1]["state"] == "finished"


def test_a_run_goes_on_in_python(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    again = lit_ghibli.train(f"resume={trained.folder}", "method.epochs=2")
    assert again.folder == trained.folder
    assert again.metrics["epoch"] == 1
    lit_ghibli.train(f"resume={trained.folder}")
    assert (
        f"nothing was left to train: {trained.folder} has all its 2 epochs; for more, resume="
        in capsys.readouterr().out
    )
    assert not list(trained.folder.glob("run.lock"))


def test_two_runs_that_begin_in_one_second_have_two_folders(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*tiny, "method.epochs=1", "data.count=2", "hydra.run.dir=run"]
    folders = [lit_ghibli.train(*words).folder.name for _ in range(2)]
    assert folders == ["run", "run_2"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("method=cyclgan", "did you mean cyclegan"),
        ("data.batch_size=0", "data.batch_size .*0"),
        ("-m", "-m"),
        ("trainer=ddp", "lit-ghibli train"),
        ("launcher=slurm", "lit-ghibli train"),
        ("resume=nowhere", "nowhere"),
    ],
)
def test_train_refuses_words_that_it_cannot_use(word, said):
    with pytest.raises(UserError, match=said):
        lit_ghibli.train(word)


def test_the_answer_is_of_the_kind_of_the_picture(paint, pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    from_path, from_image = paint(tmp_path / "photo.png"), paint(Image.fromarray(pixels))
    assert isinstance(from_path, Image.Image)
    assert paint(str(tmp_path / "photo.png")).tobytes() == from_path.tobytes() == from_image.tobytes()
    from_array = paint(pixels)
    assert (from_array.shape, from_array.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_array_equal(np.asarray(from_path), from_array)
    assert not np.array_equal(from_array, pixels)
    tensor = from_uint8(torch.from_numpy(pixels).permute(2, 0, 1))
    painted = paint(tensor)
    assert (painted.shape, painted.dtype) == (tensor.shape, tensor.dtype)
    np.testing.assert_array_equal(to_uint8(painted).permute(1, 2, 0).numpy(), from_array)
    batch = paint(torch.stack([tensor, tensor.flip(-1)]).double())
    assert (batch.shape, batch.dtype) == ((2, *tensor.shape), torch.float64)
    torch.testing.assert_close(batch[0].float(), painted, atol=1e-5, rtol=0)


def test_pictures_of_every_mode_are_taken_upright(paint, pixels, tmp_path):
    gray = Image.fromarray(pixels).convert("L")
    for image in (gray, gray.convert("LA"), Image.fromarray(np.uint16(pixels[..., 0]) * 257), gray.convert("P")):
        assert paint(image).mode == "RGB"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as turned:
        assert paint(turned).tobytes() == paint(tmp_path / "turned.jpg").tobytes()
        assert paint(turned).size == turned.size[::-1]


def test_large_tensors_are_translated_one_after_the_other(trained, pixels):
    tensor = from_uint8(torch.from_numpy(render_pair(0, 3, 200)[0]).permute(2, 0, 1))
    tiled = lit_ghibli.load(trained, device="cpu", tile=128)
    assert tiled(torch.stack([tensor, tensor])).shape == (2, 3, 200, 200)


def test_a_run_paints_at_a_size_that_is_asked_for_and_enlarges(trained, pixels):
    photo = from_uint8(torch.from_numpy(render_pair(0, 3, 200)[0]).permute(2, 0, 1))[None]
    whole = lit_ghibli.load(trained, device="cpu")
    sized = lit_ghibli.load(trained, device="cpu", size=48)
    reduced = F.interpolate(photo, (48, 48), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(sized(photo), enlarge(whole(reduced), 200, 200))
    half = lit_ghibli.load(trained, device="cpu", strength=0.5)
    torch.testing.assert_close(half(photo), (photo + whole(photo)) / 2)
    assert sized(pixels).shape == pixels.shape
    with shared_statistics(sized.network, 0.9) as shared:  # as for the frames of a clip
        sized(photo)
        assert len(shared)
    for option, said in (({"size": 8}, "size must be at least 32 pixels; got 8"), ({"stroke": 2}, "give size=")):
        with pytest.raises(UserError, match=said):
            lit_ghibli.load(trained, **option)
    with pytest.raises(UserError, match="meadow: size is of runs, and this is a style"):
        lit_ghibli.load("meadow", size=256)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (3, "got int"),
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.full((3, 8, 8), 2.0), r"beyond \[-1, 1\]"),
        (torch.zeros(0, 3, 8, 8), "empty"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_anything_else_is_refused_in_a_line(paint, picture, said):
    with pytest.raises(UserError, match=said) as error:
        paint(picture)
    assert "\n" not in str(error.value)


def test_load_says_what_it_cannot_load(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        lit_ghibli.load(tmp_path / "nowhere")
    with pytest.raises(AttributeError, match="lode"):
        _ = lit_ghibli.lode


def test_a_method_is_loaded_from_its_checkpoint(trained, paint, pixels):
    method = CycleGAN.load_from_checkpoint(trained.checkpoint)
    for name, value in paint.network.state_dict().items():
        assert torch.equal(value, method.translator().state_dict()[name])
    assert method.iteration > 0
    with pytest.raises(UserError, match=r"CycleGAN.*lit_ghibli\.load"):
        Pix2Pix.load_from_checkpoint(trained.checkpoint)


def test_the_other_direction_is_the_other_generator(trained, tmp_path):
    method = CycleGAN.load_from_checkpoint(trained.checkpoint)
    back = lit_ghibli.load(trained, device="cpu", direction="BtoA")
    for name, value in back.network.state_dict().items():
        assert torch.equal(value, method.generator_ba.state_dict()[name])
    with pytest.raises(UserError, match="direction=BToA: choose AtoB"):
        lit_ghibli.load(trained, direction="BToA")
    with pytest.raises(UserError, match="meadow is a style"):
        lit_ghibli.load("meadow", direction="BtoA")
    saved = checkpoints.load(trained.checkpoint)
    saved[checkpoints.CONFIG_KEY]["method"] = {"_target_": "lit_ghibli.methods.cut.CUT"}
    torch.save(saved, tmp_path / "cut.ckpt")
    with pytest.raises(UserError, match="CUT has no generator for direction=BtoA"):
        lit_ghibli.load(tmp_path / "cut.ckpt", direction="BtoA")


def test_the_average_of_a_run_translates_unless_its_own_weights_are_asked_for(trained, tmp_path):
    saved, path = checkpoints.load(trained.checkpoint), tmp_path / "averaged.ckpt"
    own, bias = saved["state_dict"], "decoder.head.bias"
    saved["ema"] = {name: value + 1 for name, value in own.items() if name.startswith("generator") and value.ndim}
    torch.save(saved, path)
    for weights, shift in ((None, 1), ("ema", 1), ("raw", 0)):
        for direction, generator in (("AtoB", "generator_ab"), ("BtoA", "generator_ba")):
            network = lit_ghibli.load(path, device="cpu", weights=weights, direction=direction).network
            assert torch.equal(network.state_dict()[bias], own[f"{generator}.{bias}"] + shift)
    with pytest.raises(UserError, match=r"weights=ema: its run has kept no moving average"):
        lit_ghibli.load(trained, weights="ema")
    with pytest.raises(UserError, match="weights=best: choose ema"):
        lit_ghibli.load(path, weights="best")
    with pytest.raises(UserError, match="weights=raw: that is of runs, and meadow is a style"):
        lit_ghibli.load("meadow", weights="raw")


@pytest.mark.slow
def test_all_three_work_from_an_installed_wheel(wheel, tmp_path, tiny):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site/lit_ghibli/py.typed").is_file()
    program = f"""
        import sys
        import lit_ghibli
        assert "torch" not in sys.modules, "the package is there at once"
        from lit_ghibli import load, train
        run = train(*{[*tiny, "method.epochs=1", "data.count=2"]!r})
        Image = __import__("PIL.Image").Image
        Image.new("RGB", (40, 32), "green").save("photo.png")
        load(run.folder)("photo.png").save("painted.png")
        from lit_ghibli.methods.cyclegan import CycleGAN
        CycleGAN.load_from_checkpoint(run.checkpoint)
        from lit_ghibli.recipes import config_dir
        print(config_dir())
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "site/lit_ghibli/conf")
    with Image.open(tmp_path / "painted.png") as picture:
        assert picture.size == (40, 32)


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").is_file()
    or "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(),
    reason="this system has no pages of 2 MiB",
)
def test_large_tensors_lie_in_large_pages():
    program = """
        import lit_ghibli, resource, torch
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(2**24).fill_(0)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    child = [sys.executable, "-c", textwrap.dedent(program)]
    faults = int(subprocess.run(child, env=environment, capture_output=True, text=True, check=True).stdout)
    assert faults < 2**26 / 4096 / 4, "a fault for each of 4 KiB would be 16384"
