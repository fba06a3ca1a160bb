import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lit_ghibli.commands.evaluate import _find_checkpoints, _row, shorten
from lit_ghibli.errors import UserError
from lit_ghibli.images import from_uint8, to_uint8
from lit_ghibli.inference.evaluation import TRAINED_SOLVER, describe_solver, measure
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


class Pictures:
    """Held-out scenes of three sizes as a data module serves them, with or without partners."""

    def __init__(self, names, partners=True):
        self.names, self.partners = names, partners

    def val_dataloader(self):
        inputs, targets = [], []
        for number, name in enumerate(self.names):
            pair = [torch.from_numpy(side).permute(2, 0, 1)[None] for side in render_pair(1, number, 32 + 8 * number)]
            inputs.append({"input": pair[0], "name": [name], **({"target": pair[1]} if self.partners else {})})
            targets.append({"target": pair[1], "name": [name]})
        return [inputs, targets]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {key: from_uint8(value) if torch.is_tensor(value) else value for key, value in batch.items()}


NAMES = ["a.jpg", "sub/b.jpg", "c"]


def run(folder, names=NAMES, partners=True, solver=None, steps=None):
    trained = Translator(Darker())
    translators = {"output": trained.with_solver(solver, steps)}
    if translators["output"] is not trained:
        translators[TRAINED_SOLVER] = trained
    suites = [MetricSuite(("mse", "psnr", "l1", "ssim")) for _ in range(2)]
    return measure(translators, Pictures(names, partners), *suites, num_images=2, folder=folder), *suites


def by_hand(name, darker):
    """mse, psnr and l1 of a picture, in float64."""
    photo, ghibli = (
        side.astype(np.float64) / 255 for side in render_pair(1, NAMES.index(name), 32 + 8 * NAMES.index(name))
    )
    output = (photo - darker / 2).clip(0, 1)  # images lie in [-1, 1], twice as far apart as here
    error = np.round(output * 255) / 255 - ghibli  # measured is what is saved
    mse = (error**2).mean()
    return {"mse": mse, "psnr": -10 * np.log10(mse), "l1": np.abs(error).mean()}


def test_every_pair_is_measured_by_itself(tmp_path):
    measured, translated, untouched = run(tmp_path)
    assert [row["name"] for row in measured.per_picture] == NAMES
    for row in measured.per_picture:
        for prefix, darker in (("", 0.06), ("input_", 0.0)):
            for metric, value in by_hand(row["name"], darker).items():
                assert row[f"{prefix}{metric}"] == pytest.approx(value, rel=1e-4)
            assert 0 < row[f"{prefix}ssim"] < 1
    for suite, prefix in ((translated, ""), (untouched, "input_")):
        for metric in ("psnr", "ssim"):
            mean = np.mean([row[f"{prefix}{metric}"] for row in measured.per_picture])
            assert suite.compute()[metric] == pytest.approx(mean, rel=1e-5)
        for metric in ("mse", "l1"):  # of all pixels: larger pictures count for more
            values = [row[f"{prefix}{metric}"] for row in measured.per_picture]
            assert suite.compute()[metric] == pytest.approx(np.average(values, weights=[32**2, 40**2, 48**2]), rel=1e-5)
    assert measured.solver == {}
    assert [sorted(row) for row in measured.grid] == [["input", "output", "target"]] * 2


def test_every_translated_picture_is_saved(tmp_path):
    run(tmp_path / "translated")
    written = {path.relative_to(tmp_path / "translated").as_posix() for path in tmp_path.rglob("*.png")}
    assert written == {"a.png", "sub/b.png", "c.png"}
    photo = torch.from_numpy(render_pair(1, 1, 40)[0])
    with Image.open(tmp_path / "translated" / "sub" / "b.png") as picture:
        assert np.array_equal(np.array(picture), to_uint8(from_uint8(photo) - 0.06).numpy())


def test_names_that_differ_in_their_extensions_get_pictures_of_their_own(tmp_path):
    run(tmp_path, ["a.jpg", "a.png", "b.png"])
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.png.png", "b.png"}


def test_without_partners_there_is_nothing_to_say_of_single_pictures(tmp_path):
    measured, translated, _ = run(tmp_path, partners=False)
    assert measured.per_picture == []
    assert translated.compute() == {}
    assert len(list(tmp_path.rglob("*.png"))) == 3


def test_another_solver_is_compared_with_the_trainings(tmp_path):
    measured, *_ = run(tmp_path, partners=False, solver="midpoint", steps=2)  # 0.02 darker than three steps of euler
    assert set(measured.solver) == {"solver_l1", "solver_ssim"}
    assert measured.solver["solver_l1"] == pytest.approx(0.01, rel=0.05), "but where black stays black"
    assert 0.9 < measured.solver["solver_ssim"] < 1
    assert [sorted(row) for row in measured.grid] == [[TRAINED_SOLVER, "input", "output"]] * 2


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


def test_rows_carry_their_protocol_and_are_short_for_people(tmp_path):
    _, translated, untouched = run(tmp_path)
    origin = {"images": 3, "checkpoint": "last.ckpt", "checkpoint_sha256": "abc", "split": "test"}
    rows = [_row("output", translated, origin), _row("untouched input", untouched, origin)]
    check_one_protocol(rows)
    for row in rows:
        assert row["psnr_low"] < row["psnr"] < row["psnr_high"]
        assert (row["n_pairs"], row["n_fake"], row["image_size"]) == (3, 3, "32-48")
        assert (row["split"], row["checkpoint_sha256"]) == ("test", "abc")
        assert row["protocol"] == rows[0]["protocol"]
    other = _row("output", translated, {**origin, "split": "train"})
    with pytest.raises(UserError, match="they differ in split"):
        check_one_protocol([rows[0], other])
    short = shorten(rows[0])
    assert list(short) == ["pictures", "mse", "psnr", "l1", "ssim", "images", "protocol", "checkpoint"]
    low, high = rows[0]["psnr_low"], rows[0]["psnr_high"]
    assert short["psnr"] == f"{rows[0]['psnr']:.4g} [{low:.4g}, {high:.4g}]"


def test_another_checkpoint_needs_no_untouched_inputs(tmp_path):
    suite = MetricSuite(("mse",))
    measure({"output": Translator(Darker())}, Pictures(NAMES), suite, None, num_images=1, folder=tmp_path)
    assert suite.compute()["mse"] == run(tmp_path)[1].compute()["mse"]


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
