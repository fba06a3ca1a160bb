from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lit_ghibli.commands.evaluate import _find_checkpoints
from lit_ghibli.data.image_files import FolderError
from lit_ghibli.data.unpaired import UnpairedDataModule
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8, to_uint8
from lit_ghibli.inference.measure import (
    HeldOut,
    Pictures,
    Run,
    Subject,
    describe_solver,
    match_folder,
    match_folders,
    measure,
    shorten,
)
from lit_ghibli.inference.translator import Translator
from lit_ghibli.metrics.protocol import check_one_protocol
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.scenes.scene import render_pair


class Darker(nn.Module):
    """A stand-in for a generator with ODE blocks: each step takes 0.02 off the values, 0.04 with `midpoint`."""

    size_multiple = minimum_size = 1

    def __init__(self):
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(0.02))
        self.solver, self.steps, self.nfe = "euler", 3, 0

    def set_solver(self, solver, steps=None):
        self.solver, self.steps = solver, self.steps if steps is None else steps

    def forward(self, images):
        self.nfe = self.steps * {"euler": 1, "midpoint": 2}[self.solver]
        return images - self.nfe * self.amount


NAMES = ["a.jpg", "sub/b.jpg", "c.png"]
SIDES = (32, 40, 48)


class Data:
    """Held-out scenes of three sizes as a data module serves them, with or without partners."""

    def __init__(self, names=NAMES, partners=True):
        self.names, self.partners = names, partners
        self.splits = SimpleNamespace(test_input=SimpleNamespace(names=names), stands_in=False)

    def val_dataloader(self):
        inputs, targets = [], []
        for number, (name, side) in enumerate(zip(self.names, SIDES, strict=True)):
            pair = [torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in render_pair(1, number, side)]
            inputs.append({"input": pair[0], "name": [name], **({"target": pair[1]} if self.partners else {})})
            targets.append({"target": pair[1], "name": [name]})
        return [inputs, targets]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {key: from_uint8(value) if torch.is_tensor(value) else value for key, value in batch.items()}


def suite(*metrics):
    return MetricSuite(metrics or ("mse", "psnr", "l1", "ssim"))


def outcome_of(folder=None, names=NAMES, partners=True, run=None):
    held_out = HeldOut(Data(names, partners))
    return measure(
        run or Run("output", Translator(Darker())), held_out, suite(), num_images=2, each=True, folder=folder
    )


def by_hand(name, darker):
    """mse, psnr and l1 of a picture, in float64."""
    photo, ghibli = (
        side.astype(np.float64) / 255 for side in render_pair(1, NAMES.index(name), 32 + 8 * NAMES.index(name))
    )
    output = (photo - darker / 2).clip(0, 1)  # images lie in [-1, 1], twice as far apart as here
    error = np.round(output * 255) / 255 - ghibli  # measured is what is saved
    mse = (error**2).mean()
    return {"mse": mse, "psnr": -10 * np.log10(mse), "l1": np.abs(error).mean()}


def test_every_pair_is_measured_by_itself():
    for subject, darker in ((Run("output", Translator(Darker())), 0.06), (Subject("untouched input"), 0.0)):
        outcome = outcome_of(run=subject)
        assert list(outcome.scores) == NAMES
        for name, scores in outcome.scores.items():
            for metric, value in by_hand(name, darker).items():
                assert scores[metric] == pytest.approx(value, rel=1e-4)
            assert 0 < scores["ssim"] < 1
        for metric, value in outcome.metrics.items():
            # Means of mse and l1 are of all pixels: larger pictures count for more.
            weights = [side**2 for side in SIDES] if metric in ("mse", "l1") else None
            mean = np.average([scores[metric] for scores in outcome.scores.values()], weights=weights)
            assert value == pytest.approx(mean, rel=1e-5)
    assert {name: picture.size for name, picture in outcome.pictures.items()} == {
        "a.jpg": (32, 32),
        "sub/b.jpg": (40, 40),
    }


def test_every_translated_picture_is_saved(tmp_path):
    outcome_of(tmp_path / "translated")
    written = {path.relative_to(tmp_path / "translated").as_posix() for path in tmp_path.rglob("*.png")}
    assert written == {"a.png", "sub/b.png", "c.png"}
    photo = torch.from_numpy(render_pair(1, 1, 40)[0])
    with Image.open(tmp_path / "translated" / "sub" / "b.png") as picture:
        assert np.array_equal(np.array(picture), to_uint8(from_uint8(photo) - 0.06).numpy())


def test_a_subject_may_be_called_anything(capsys):
    name = "[/red]a\nb\x1b[31m"
    assert outcome_of(run=Run(name, Translator(Darker()))).metrics == outcome_of().metrics
    assert r"Measuring [/red]a\nb\x1b[31m" in capsys.readouterr().out


def test_names_that_differ_in_their_extensions_get_pictures_of_their_own(tmp_path):
    outcome_of(tmp_path, ["a.jpg", "a.png", "b.png"])
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.png.png", "b.png"}


def test_without_partners_single_pictures_are_compared_with_their_photographs_alone(tmp_path):
    outcome = outcome_of(tmp_path, partners=False)
    assert {name for scores in outcome.scores.values() for name in scores} == {"content_mse", "content_psnr"}
    assert outcome.metrics == {}, "of the suite, which measures against partners"
    assert len(list(tmp_path.rglob("*.png"))) == 3


def test_another_solver_is_compared_with_the_trainings():
    trained = Translator(Darker())
    run = Run("output", trained.with_solver("midpoint", 2), trained)  # 0.02 darker than three steps of euler
    outcome_of(partners=False, run=run)
    apart = run.apart.compute()
    assert apart["l1"] == pytest.approx(0.01, rel=0.05), "but where black stays black"
    assert 0.9 < apart["ssim"] < 1
    assert len(run.seconds) == 3
    photo = from_uint8(torch.from_numpy(render_pair(1, 0, 32)[0]).permute(2, 0, 1)[None])
    torch.testing.assert_close(run.as_trained(photo), (photo - 0.06).clamp(-1, 1))
    plain = Run("output", trained)
    outcome_of(run=plain)
    assert plain.apart.compute() == {}


def test_the_first_photographs_difference_fits_in_one_line():
    trained = Translator(Darker())
    grey = Image.new("RGB", (1100, 40), (128, 128, 128))
    line = describe_solver(trained.with_solver("midpoint", 1), trained, grey)
    # One evaluation less, 0.02 of a range of 2: 2.55 levels.
    assert line.startswith("midpoint (2 evaluations) against the training's euler (3 evaluations): ")
    assert "mean difference 2.55 of 255 levels, SSIM 0.9" in line
    assert "SSIM" not in describe_solver(trained.with_solver("midpoint", 1), trained, grey.crop((0, 0, 40, 8)))


# --- the command's rows -----------------------------------------------------------


def test_of_a_run_the_best_checkpoint_is_measured_where_it_is_another(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(b"third epoch")
    assert _find_checkpoints(tmp_path) == [folder / "last.ckpt"]
    (folder / "best.ckpt").write_bytes(b"third epoch")
    assert _find_checkpoints(tmp_path) == [folder / "last.ckpt"]
    (folder / "best.ckpt").write_bytes(b"second epoch")
    assert _find_checkpoints(str(tmp_path)) == [folder / "last.ckpt", folder / "best.ckpt"]
    assert _find_checkpoints(folder / "last.ckpt") == [folder / "last.ckpt"]


def test_rows_carry_their_protocol_and_are_short_for_people():
    origin = {"checkpoint": "last.ckpt", "checkpoint_sha256": "abc"}
    outcomes = [outcome_of(), outcome_of(run=Subject("untouched input"))]
    rows = [outcome.row({"pictures": "any"}, {"swift": True}, origin) for outcome in outcomes]
    check_one_protocol(rows)
    for row in rows:
        assert row["psnr_low"] < row["psnr"] < row["psnr_high"]
        assert row["protocol"] == rows[0]["protocol"]
        assert (row["images"], row["split"]) == (3, "test")
    outcomes[0].stamp["split"] = "train"
    with pytest.raises(UserError, match="they differ in split"):
        check_one_protocol([rows[0], outcomes[0].row({}, {}, origin)])
    short = shorten(rows[0])
    assert list(short) == ["pictures", "mse", "psnr", "l1", "ssim", "swift", "images", "protocol", "checkpoint"]
    low, high = rows[0]["psnr_low"], rows[0]["psnr_high"]
    assert short["psnr"] == f"{rows[0]['psnr']:.4g} [{low:.4g}, {high:.4g}]"


# --- other solvers -------------------------------------------------------------


def test_another_solver_shares_the_weights_and_leaves_the_translator_alone():
    torch.manual_seed(0)
    network = OdeGenerator(base_channels=4, num_blocks=1, solver="rk4", steps=2)
    trained = Translator(network, tile=128)
    other = trained.with_solver("euler", 3)
    photo = torch.rand(1, 3, 16, 16) * 2 - 1
    outputs = [each.translate(photo) for each in (trained, other)]
    assert [each.network.nfe for each in (trained, other)] == [8, 3]
    assert not torch.equal(*outputs)
    assert (network.solver, network.steps, other.tile) == ("rk4", 2, 128)
    mine, theirs = (dict(each.network.named_parameters()) for each in (trained, other))
    assert all(mine[name] is theirs[name] for name in mine)
    assert trained.with_solver(None, None) is trained
    kept = trained.with_solver(None, 1).network
    assert (kept.solver, kept.steps) == ("rk4", 1)


@pytest.mark.parametrize(("solver", "steps"), [("euler", None), (None, 2), ("euler", 2)])
def test_a_network_without_an_ode_has_no_solver(solver, steps):
    translator = Translator(ResnetGenerator(base_channels=4, num_blocks=1))
    with pytest.raises(UserError, match=r"solver=(euler|null) steps=(2|null): this run's ResnetGenerator has no ODE"):
        translator.with_solver(solver, steps)


def test_an_unknown_solver_is_named():
    with pytest.raises(UserError, match="'eular'"):
        Translator(OdeGenerator(base_channels=4, num_blocks=1)).with_solver("eular", None)


# --- folders of pictures ---------------------------------------------------------


def save(folder, names, sides=None):
    """Write a painted scene under each name; the first scene under the first name, and so on."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(render_pair(1, number, SIDES[number])[1])
        picture.resize(sides or picture.size).save(folder / name)
    return folder


def test_files_match_by_name_but_for_the_extension(tmp_path):
    folder = save(tmp_path, ["a.png", "sub/b.webp", "c.png"])
    matched, wrong = match_folder(folder, NAMES)
    assert matched == {"a.jpg": folder / "a.png", "sub/b.jpg": folder / "sub/b.webp", "c.png": folder / "c.png"}
    assert not wrong


def test_a_name_that_only_looks_like_an_inputs_is_named(tmp_path):
    _, wrong = match_folder(save(tmp_path, ["A.png", "c.png"]), NAMES)
    assert wrong[0] == "a.jpg has no picture (but A.png: with other capitals, or accents of another form)"


def test_everything_that_does_not_match_is_named(tmp_path):
    folder = save(tmp_path, ["a.png", "b.png"])
    (folder / "c.png").write_bytes(b"no picture")
    matched, wrong = match_folder(folder, NAMES)
    assert list(matched) == ["a.jpg"]
    assert wrong[0] == "sub/b.jpg has no picture"
    assert wrong[1].startswith(f"c.png: {folder / 'c.png'} is not an image")
    assert wrong[2:] == ["b.png is of no held-out input"]


def test_folders_that_do_not_match_are_refused_or_skipped_as_asked(tmp_path):
    folders = {"x": save(tmp_path / "x", ["a.png", "c.png"]), "y": save(tmp_path / "y", ["a.png", "sub/b.png"])}
    with pytest.raises(FolderError, match=r"(?s)2 places.*on_bad_file=skip.*x: sub/b.jpg has no.*y: c.png has no"):
        match_folders(folders, NAMES, on_bad_file="error")
    subjects, wrong = match_folders(folders, NAMES, on_bad_file="skip")
    assert [list(subject.paths) for subject in subjects] == [["a.jpg", "c.png"], ["a.jpg", "sub/b.jpg"]]
    assert wrong == ["x: sub/b.jpg has no picture", "y: c.png has no picture"]


def test_nothing_in_common_is_refused_even_when_skipping(tmp_path):
    with pytest.raises(FolderError, match=r"no picture is named like any of the 3 .* which are a.jpg, sub/b.jpg"):
        match_folders({"x": save(tmp_path / "x", ["z.png"])}, NAMES, on_bad_file="skip")
    with pytest.raises(FolderError, match=r"\n  caf\xe9.png has no picture.*cafe\u0301.png"):
        match_folders({"x": save(tmp_path / "x3", ["cafe\u0301.png"])}, ["caf\xe9.png"], on_bad_file="skip")
    folders = {"x": save(tmp_path / "x2", ["a.png"]), "y": save(tmp_path / "y", ["c.png"])}
    with pytest.raises(FolderError, match="no held-out input has a picture in each"):
        match_folders(folders, NAMES, on_bad_file="skip")


def test_no_folders_match_whatever_the_inputs():
    assert match_folders({}, NAMES, on_bad_file="error") == ([], [])


# --- subjects ------------------------------------------------------------------


WITH_SETS = ("mse", "psnr", "l1", "ssim", "swd")


class Between(nn.Module):
    """A generator whose outputs lie between two levels of 8 bits."""

    size_multiple = minimum_size = 1

    def __init__(self):
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(0.0637))

    def forward(self, images):
        return images * 0.9 - self.amount


def test_pictures_of_another_size_are_resized_and_counted(tmp_path):
    folder = save(tmp_path, ["a.png", "sub/b.png", "c.png"], sides=(64, 40))
    subject = Pictures("x", match_folder(folder, NAMES)[0])
    photo = torch.zeros(1, 3, 32, 20)
    picture = subject.picture("a.jpg", photo)
    assert picture.shape == photo.shape
    assert subject.resized == 1
    halved = np.asarray(Image.open(folder / "a.png"), float).reshape(20, 2, 32, 2, 3).mean((1, 3))
    subject.picture("a.jpg", torch.zeros(1, 3, 40, 64))
    assert subject.resized == 1, "this one fits as it is"
    small = subject.picture("a.jpg", torch.zeros(1, 3, 20, 32))
    ours = (small[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(ours - halved).mean() < 4, "reduced with antialiasing, it is near the mean of four pixels"


@pytest.mark.parametrize(
    ("size", "resized", "stretched"),
    [((30, 20), False, False), ((600, 400), True, False), ((200, 133), True, False), ((40, 40), True, True)],
)
def test_a_change_of_the_aspect_is_told_from_the_rounding_of_a_size(tmp_path, size, resized, stretched):
    Image.new("RGB", size).save(tmp_path / "a.png")
    subject = Pictures("x", {"a.jpg": tmp_path / "a.png"})
    subject.picture("a.jpg", torch.zeros(1, 3, 20, 30))
    assert (subject.resized, subject.stretched) == (resized, stretched)


def reading(resize, root):
    """A user's folders, of which the held-out ones are read."""
    folders = {"train_photo": "none", "train_anime": "none", "test_photo": "photos", "test_anime": "targets"}
    sizes = {"load_size": 48, "eval_size": 48, "crop_size": 48, "min_side": 16, "resize": resize}
    rest = {"flip": 0.5, "batch_size": 1, "num_workers": 0, "seed": 0}
    rest |= {"on_bad_file": "error", "cache": "ram", "cache_dir": None}
    datamodule = UnpairedDataModule.from_folders(root=root, **folders, **sizes, **rest)
    datamodule.setup("validate")
    return HeldOut(datamodule)


class Painted(nn.Module):
    """A generator that knows the target of every photograph as it is held out."""

    size_multiple = minimum_size = 1

    def __init__(self, held_out):
        super().__init__()
        self.targets = [(photo, target) for _, photo, target in held_out.inputs()]

    def forward(self, images):
        return next(target for photo, target in self.targets if torch.equal(photo, images))


WAYS = {
    "a run": lambda root, held_out: Run("run", Translator(Painted(held_out))),
    "a folder of the targets' files": lambda root, held_out: folder_of(root / "targets", held_out),
    "a folder with other extensions": lambda root, held_out: folder_of(
        each_saved(root / "targets", root / "renamed", lambda picture: picture, ".webp"), held_out
    ),
    "a folder of what was held out": lambda root, held_out: folder_of(
        written(Run("run", Translator(Painted(held_out))), root / "written", held_out), held_out
    ),
    "a folder of targets reduced beforehand": lambda root, held_out: folder_of(
        each_saved(
            root / "targets",
            root / "reduced",
            lambda picture: picture.resize(next(held_out.targets()).shape[:-3:-1], Image.Resampling.BICUBIC),
        ),
        held_out,
    ),
}


def folder_of(folder, held_out):
    return Pictures("folder", match_folder(folder, [name for name, *_ in held_out.inputs()])[0])


def each_saved(source, folder, change, extension=".png"):
    folder.mkdir()
    for path in source.iterdir():
        change(Image.open(path)).save(folder / f"{path.stem}{extension}", lossless=True)
    return folder


def written(subject, folder, held_out):
    measure(subject, held_out, suite(*WITH_SETS), folder=folder)
    return folder


@pytest.mark.parametrize(("resize", "size"), [("short_side", (120, 80)), ("squash", (80, 120))])
def test_perfect_pictures_score_perfect_however_they_reach_a_metric(tmp_path, resize, size):
    for folder, style in (("photos", 0), ("targets", 1)):
        (tmp_path / folder).mkdir()
        for number in range(2):
            picture = Image.fromarray(render_pair(3, number, 128)[style])
            picture.crop((0, 0, *size)).save(tmp_path / folder / f"{number}.png")
    held_out = reading(resize, tmp_path)
    for way, subject in WAYS.items():
        scores = measure(subject(tmp_path, held_out), held_out, suite(*WITH_SETS)).metrics
        perfect = {"mse": 0, "psnr": float("inf"), "l1": 0, "ssim": 1, "swd": 0}
        assert scores == pytest.approx(perfect, abs=1e-5), way
    if resize == "short_side":
        (shape,) = {photo.shape[-2:] for _, photo, _ in held_out.inputs()}
        assert shape[1] / shape[0] == pytest.approx(size[0] / size[1], rel=0.02), "aspect kept"


def test_a_subject_is_measured_as_its_pictures_are_saved(tmp_path):
    run = Run("ours", Translator(Between()))
    outcome = measure(run, HeldOut(Data()), suite(*WITH_SETS), num_images=2, side=16)
    errors = []
    for number, name in enumerate(NAMES):
        photo, target = (side.astype(np.float64) for side in render_pair(1, number, SIDES[number]))
        output = ((photo / 127.5 - 1) * 0.9 - 0.0637 + 1) * 127.5
        output = output.clip(0, 255).round().astype(np.uint8)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(output).save((tmp_path / name).with_suffix(".png"))
        errors.append(np.abs(output - target).ravel() / 255)
    assert outcome.metrics["l1"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-4)
    saved = Pictures("theirs", match_folder(tmp_path, NAMES)[0])
    assert measure(saved, HeldOut(Data()), suite(*WITH_SETS)).metrics == outcome.metrics
    assert list(outcome.signatures) == NAMES
    assert {name: picture.size for name, picture in outcome.pictures.items()} == {
        "a.jpg": (16, 16),
        "sub/b.jpg": (16, 16),
    }


def test_what_is_left_out_is_left_out_for_all():
    held_out = HeldOut(Data(), {"sub/b.jpg"})
    outcome = measure(Subject("input"), held_out, suite(), num_images=9, side=64)
    assert len(held_out) == 2
    assert list(outcome.pictures) == ["a.jpg", "c.png"]
    assert (outcome.stamp["n_fake"], outcome.stamp["n_pairs"], outcome.stamp["n_real"]) == (2, 2, 3)


def test_targets_are_shown_where_they_are_known():
    pictures = HeldOut(Data()).first(2, lambda _, target: target, 32)
    assert list(pictures) == NAMES[:2]
    assert pictures["a.jpg"].tobytes() == Image.fromarray(render_pair(1, 0, 32)[1]).tobytes()
    assert HeldOut(Data(partners=False)).first(2, lambda _, target: target) == {}


def test_without_partners_only_sets_are_compared():
    outcome = measure(Subject("input"), HeldOut(Data(partners=False)), suite(*WITH_SETS))
    assert list(outcome.metrics) == ["swd"]
    whole = suite(*WITH_SETS)
    for number, side in enumerate(SIDES):
        photo, target = (torch.from_numpy(each).permute(2, 0, 1)[None] for each in render_pair(1, number, side))
        whole.update_fake(from_uint8(photo))
        whole.update_real(from_uint8(to_uint8(from_uint8(target))))
    assert outcome.metrics == whole.compute()
