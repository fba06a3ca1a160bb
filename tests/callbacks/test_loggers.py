"""What TensorBoard, W&B and CSV files hold after a run that was interrupted and resumed."""

import csv
import io
import json
import math
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
from helpers.wandb_files import history, named, read_run, records
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import lit_ghibli
from lit_ghibli import checkpoints
from lit_ghibli.callbacks.checkpointing import RunCheckpoints
from lit_ghibli.callbacks.csv_log import ContinuedCSVLogger
from lit_ghibli.callbacks.image_grid import ImageGrid, continue_csv, sample_scores
from lit_ghibli.callbacks.tensorboard_log import ContinuedTensorBoardLogger
from lit_ghibli.callbacks.wandb_artifacts import CheckpointArtifacts
from lit_ghibli.callbacks.wandb_run import RunWandbLogger
from lit_ghibli.callbacks.watch import BINS, Watch
from lit_ghibli.data.paired import PairedDataModule
from lit_ghibli.errors import UserError
from lit_ghibli.methods.pix2pix import ConditionalDiscriminator, Pix2Pix
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.unet import UnetGenerator
from lit_ghibli.training import updates

CHECKOUT = Path(lit_ghibli.__file__).parents[1]
EPOCHS, STEPS, LR = 3, 3, 0.01
SAVED, CRASH = 4, 5  # batches: the last checkpoint, and what was trained and logged before the crash
CONFIG = {"method": {"_target_": "x", "weights": {"l1": 100.0}, "taps": ["a", "b"]}, "seed": 0, "resume": None}
IGNORED = ("LeafSpec", "does not have many workers", "Detected call of")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]


class Crash(Callback):
    """Ends the first life of the run."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == CRASH:
            raise RuntimeError("crash")


class Updates(Callback):
    """What plain gradient descent with a known rate has added to each network, by step, and the networks' calls."""

    def __init__(self) -> None:
        self.norms, self.calls = {}, 0

    def on_train_start(self, trainer, pl_module):
        pl_module.generator.register_forward_hook(self.count)

    def count(self, *arguments):
        self.calls += 1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = {name: value.detach().clone() for name, value in pl_module.named_parameters()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        squares = dict.fromkeys(("generator", "discriminator"), 0.0)
        for name, value in pl_module.named_parameters():
            squares[name.split(".")[0]] += float(((value.detach() - self.before[name]) / LR).double().square().sum())
        self.norms[trainer.fit_loop.epoch_loop.total_batch_idx] = {k: math.sqrt(v) for k, v in squares.items()}


def make_data() -> PairedDataModule:
    return PairedDataModule.from_layout(
        "scenes",
        scene_seed=0,
        count=STEPS,
        test_count=2,
        size=32,
        crop_size=24,
        flip=0.5,
        batch_size=1,
        num_workers=0,
        cache="ram",
        cache_dir=None,
        seed=0,
    )


def live(folder: Path, *more: Callback, resume: Path | None = None) -> Updates:
    """One process's part of the run."""
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=LR)
    method = Pix2Pix(
        generator=partial(UnetGenerator, base_channels=4, depth=3),
        discriminator=partial(ConditionalDiscriminator, base_channels=4, num_layers=2),
        optimizer_g=sgd,
        optimizer_d=sgd,
        epochs=EPOCHS,
        decay_epochs=0,
        metrics=MetricSuite(["ssim", "psnr"]),
    )
    seen = Updates()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
        plugins=[checkpoints.RunCheckpointIO(CONFIG)],
        logger=[
            ContinuedCSVLogger(str(folder), flush_logs_every_n_steps=1),
            ContinuedTensorBoardLogger(folder),
            RunWandbLogger(folder, project="test", group="studies", tags=["small"], offline=True, preemptible=True),
        ],
        callbacks=[
            ImageGrid(folder / "pictures", every_n_epochs=1, num_images=2, max_side=20),
            Watch("all", every_n_batches=2),
            CheckpointArtifacts(folder / "checkpoints", "epoch"),
            RunCheckpoints(folder / "checkpoints", every_n_batches=2, keep_epochs=1, monitor="val/ssim", mode="max"),
            seen,
            *more,
        ],
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(CONFIG)
    trainer.fit(method, make_data(), ckpt_path=resume)
    return seen


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run's folder, and what its two lives have seen."""
    folder = tmp_path_factory.mktemp("runs") / "pix2pix_today"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
            patch.setenv(f"WANDB_{name}", str(tmp_path_factory.mktemp("wandb")))
        patch.setenv("WANDB_SILENT", "true")
        patch.setattr(updates, "_EARLY_BYTES", 0)  # every gradient is used and freed as soon as it is complete
        with pytest.raises(RuntimeError, match="crash"):
            live(folder, Crash())
        first = (folder / "pictures.csv").read_text()
        second = live(folder, resume=folder / "checkpoints" / "last.ckpt")
        wandb.teardown()  # waits until all is written, as the end of a process does
    return folder, first, second


@pytest.fixture(scope="module")
def lives(run):
    """Each life's records of W&B, in order."""
    files = sorted((run[0] / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)
    return [records(path) for path in files]


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def events_of(folder: Path) -> EventAccumulator:
    everything = dict.fromkeys(("images", "scalars", "histograms", "tensors"), 0)
    return EventAccumulator(str(folder / "tensorboard"), size_guidance=everything).Reload()


def test_both_lives_are_one_run_of_wandb(run, lives):
    first, second = map(read_run, lives)
    assert first.run_id == second.run_id == (run[0] / "wandb" / "run_id").read_text()
    assert len(first.run_id) == 12
    assert second.resume
    for life in (first, second):
        assert (life.display_name, life.project, life.run_group) == ("pix2pix_today", "test", "studies")
        assert list(life.tags) == ["small"]
    assert [[record.exit.exit_code for record in life if record.HasField("exit")] for life in lives] == [[1], [0]]
    assert all(any(record.HasField("preempting") for record in life) for life in lives)


def test_wandb_knows_the_configuration_and_the_code(lives):
    for life in lives:
        told = {}
        for record in life:
            told |= named(record.config.update)
        assert {key: told[key] for key in CONFIG} == CONFIG
        assert told["lit_ghibli_version"] == lit_ghibli.__version__


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="not in a checkout")
def test_wandb_knows_the_revision_of_the_code_wherever_the_run_is(lives):
    revision = subprocess.run(["git", "-C", CHECKOUT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert [read_run(life).git.commit for life in lives] == [revision.stdout.strip()] * 2


def test_folders_of_one_name_are_different_runs(tmp_path, monkeypatch):
    """As in a multirun, whose jobs are trained one after the other in one process."""
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "own"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    folders = [tmp_path / "sweep_a" / "0", tmp_path / "sweep_b" / "0", tmp_path / "sweep_b" / "named"]
    for folder in folders:
        logger = RunWandbLogger(folder, project="test", offline=True)
        logger.log_metrics({"loss": 1.0}, step=0)
        logger.finalize("success")
        assert wandb.run is None
    wandb.teardown()
    told = [read_run(records(next(folder.glob("wandb/offline-run-*/*.wandb")))) for folder in folders]
    assert [run.display_name for run in told] == ["sweep_a/0", "sweep_b/0", "named"]
    assert len({run.run_id for run in told}) == 3


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    for logger in (RunWandbLogger(tmp_path, project="test", offline=True), ContinuedTensorBoardLogger(tmp_path)):
        assert logger.experiment is not None
        logger.log_hyperparams(CONFIG)
        logger.log_metrics({"loss": 1.0}, step=0)
        logger.finalize("success")
    watch = Watch("all", every_n_batches=1)
    watch.on_train_start(SimpleNamespace(optimizers=[optimizer]), torch.nn.Linear(1, 1))
    assert not optimizer._optimizer_step_post_hooks
    assert list(tmp_path.iterdir()) == []
    assert wandb.run is None


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_make_one_log_of_each_kind(tmp_path, tiny, cli):
    ddp = [argument for argument in tiny if argument != "trainer=cpu"]
    ddp += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "method.epochs=1"]
    ddp += ["logger=[tensorboard,wandb]", "callbacks.watch.what=all", "callbacks.artifacts.when=end"]
    done = cli("train", *ddp, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    assert len(list(folder.glob("tensorboard/events.*"))) == 1
    norms = [row for row in history(records(file)) if "gradient_norm/generator_ab" in row]
    assert [row["trainer/global_step"] for row in norms] == [0]
    assert len(rows_of(folder / "pictures.csv")) == 1


def test_wandb_loses_no_step_although_the_second_life_goes_back(lives):
    told = [history(life) for life in lives]
    steps = [[row["trainer/global_step"] for row in rows if "train/l1" in row] for rows in told]
    assert steps == [list(range(CRASH)), list(range(SAVED, EPOCHS * STEPS))]
    own = [row["_step"] for rows in told for row in rows]
    assert own == sorted(set(own)), "syncing would write the second life over the first"
    axes = {record.metric.glob_name: record.metric.step_metric for life in lives for record in life}
    assert axes["*"] == "trainer/global_step"
    first, second = (
        {row["trainer/global_step"]: row["train/l1"] for row in rows if "train/l1" in row} for rows in told
    )
    assert first[SAVED] == second[SAVED], "what is drawn twice is the same twice"


def test_tensorboard_and_csv_have_each_step_once(run):
    events = events_of(run[0])
    expected = list(range(EPOCHS * STEPS))
    assert [event.step for event in events.Scalars("train/l1")] == expected
    table = [row for row in rows_of(run[0] / "metrics.csv") if row["train/l1"]]
    assert [int(row["step"]) for row in table] == expected
    assert [event.value for event in events.Scalars("train/l1")] == pytest.approx(
        [float(row["train/l1"]) for row in table]
    )
    assert [event.step for event in events.Images("val/grid")] == [STEPS * epoch - 1 for epoch in (1, 2, 3)]


def test_tensorboard_compares_configurations_by_the_last_values(run):
    events = events_of(run[0])
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["method.weights.l1"].number_value == 100.0
    assert told["method.taps"].string_value == "['a', 'b']"
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = {info.name.tag for info in HParamsPluginData.FromString(content).experiment.metric_infos}
    assert {"val/ssim", "train/l1"} <= metrics <= set(events.Tags()["scalars"]) | {"epoch"}


def test_gradient_norms_are_those_of_the_updates(run):
    """Also where updates are early: each network's weights have changed by the rate times its gradient."""
    folder, _, seen = run
    logged = {int(row["step"]): row for row in rows_of(folder / "metrics.csv") if row["gradient_norm/generator"]}
    assert sorted(logged) == [0, 2, 4, 6, 8]
    for step in (4, 6, 8):
        for network, norm in seen.norms[step].items():
            assert float(logged[step][f"gradient_norm/{network}"]) == pytest.approx(norm, rel=1e-2)


def test_histograms_hold_every_weight_and_gradient(run, lives):
    last = checkpoints.load(run[0] / "checkpoints" / "last.ckpt")["state_dict"]
    sizes = {name: value.numel() for name, value in last.items() if "running" not in name and "num_batches" not in name}
    (told,) = [
        row for row in history(lives[1]) if row["trainer/global_step"] == 8 and any("gradients/" in k for k in row)
    ]
    events = events_of(run[0])
    for kind in ("gradients", "parameters"):
        for name, size in sizes.items():
            sent = told[f"{kind}/{name}"]
            assert (sum(sent["values"]), len(sent["values"])) == (size, BINS)
            event = events.Histograms(f"{kind}/{name}")[-1]
            assert (event.step, event.histogram_value.num) == (8, size)
    weights = last["generator.encoder.0.0.weight"]
    sent = told["parameters/generator.encoder.0.0.weight"]
    assert (sent["bins"][0], sent["bins"][-1]) == pytest.approx((float(weights.min()), float(weights.max())))


def rendered_photographs() -> list[np.ndarray]:
    """The held-out photographs in 4 x 4 pixels."""
    samples = make_data()
    samples.setup("validate")
    unit = [(sample["input"][0].permute(1, 2, 0).numpy() + 1) / 2 for sample in samples.samples(2)]
    return [pixels.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)) * 255 for pixels in unit]


def test_tables_show_inputs_outputs_targets_and_scores(run, lives):
    folder, _, _ = run
    told = [row["val/pictures"] for life in lives for row in history(life) if "val/pictures" in row]
    assert [(table["_type"], table["nrows"]) for table in told] == [("table-file", 2)] * EPOCHS
    tables = [record.artifact for life in lives for record in life if record.artifact.type == "run_table"]
    files = {file.path: Path(file.local_path) for file in tables[-1].manifest.contents}
    table = json.loads(files["val/pictures.table.json"].read_text())
    assert table["columns"] == ["input", "output", "target", "photo", "structure", "style_strength", "ssim", "psnr"]
    written = [row for row in rows_of(folder / "pictures.csv") if row["epoch"] == "3"]
    photographs = rendered_photographs()
    for sent, row, photograph in zip(table["data"], written, photographs, strict=True):
        assert [float(row[name]) for name in table["columns"][3:]] == pytest.approx(sent[3:])
        for cell in sent[:3]:
            with Image.open(files[cell["path"]]) as picture:
                assert picture.size == (20, 20)
        with Image.open(files[sent[0]["path"]]) as picture:
            shown = np.asarray(picture.convert("RGB").resize((4, 4), Image.Resampling.BOX), np.float64)
        assert np.abs(shown - photograph).mean() < 3
    metrics = [row for row in rows_of(folder / "metrics.csv") if row["val/ssim"]][-1]
    for name in ("ssim", "psnr"):
        mean = np.mean([float(row[name]) for row in written])
        assert mean == pytest.approx(float(metrics[f"val/{name}"]), rel=1e-5), "the samples are the whole held-out set"

    events = events_of(folder)
    text = events.Tensors("val/pictures/text_summary")
    assert [event.step for event in text] == [2, 5, 8]
    assert "| photo | structure | style_strength | ssim | psnr |" in text[-1].tensor_proto.string_val[0].decode()


def test_scores_of_an_epoch_that_is_done_again_are_replaced(run, tmp_path):
    folder, first, _ = run
    rows = rows_of(folder / "pictures.csv")
    assert [(row["epoch"], row["photo"]) for row in rows] == [(f"{e}", f"{p}") for e in (1, 2, 3) for p in (1, 2)]
    assert rows[:2] == list(csv.DictReader(io.StringIO(first))), "rows of epochs before stay as they are"

    for epoch, value in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 2.5)):
        continue_csv(tmp_path / "x.csv", epoch, [{"ssim": value, **({"new": 0} if value == 2.5 else {})}])
    found = [(row["epoch"], row["ssim"], row["new"]) for row in rows_of(tmp_path / "x.csv")]
    assert found == [("1", "1.0", ""), ("2", "2.5", "0")]


def test_one_translation_serves_grid_table_and_scores(run):
    """Of the generator's calls, each epoch has one per photograph for all three, one per photograph to validate."""
    steps = EPOCHS * STEPS - SAVED
    epochs = EPOCHS - SAVED // STEPS
    assert run[2].calls == steps + epochs * (2 + 2)


def test_checkpoints_are_artifacts_with_aliases(run, lives):
    folder = run[0]
    run_id = (folder / "wandb" / "run_id").read_text()
    scores = [float(row["val/ssim"]) for row in rows_of(folder / "metrics.csv") if row["val/ssim"]]
    best = [STEPS * (1 + int(np.argmax(scores[:epochs]))) for epochs in (1, 2, 3)]
    for life, moments in zip(lives, ([1], [2, 3]), strict=True):
        expected, before = [], None
        for epochs in moments:
            last = {STEPS * epochs: {"last", "latest"}}
            if best[epochs - 1] != before:
                last.setdefault(best[epochs - 1], {"latest"}).add("best")
            expected, before = [*expected, *last.items()], best[epochs - 1]
        sent = [record.artifact for record in life if record.artifact.type == "model"]
        assert [(json.loads(model.metadata)["batches"], set(model.aliases)) for model in sent] == expected
        assert {model.name for model in sent} == {f"checkpoint-{run_id}"}
        for model in sent:
            (file,) = model.manifest.contents
            assert file.path == "model.ckpt"
            held = checkpoints.load(file.local_path)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            assert held["total"]["completed"] == json.loads(model.metadata)["batches"]


def test_scores_without_a_target_and_of_small_pictures():
    photo = torch.rand(1, 3, 8, 8) * 2 - 1
    assert sample_scores(MetricSuite(["ssim", "psnr"]), photo, photo, None).keys() == {"structure", "style_strength"}
    scores = sample_scores(MetricSuite(["ssim", "l1", "swd"]), photo, photo, -photo)
    assert scores.keys() == {"structure", "style_strength", "l1"}, "ssim needs 11 pixels"
    assert scores["l1"] == pytest.approx(float(photo.abs().mean()), rel=1e-5)
    assert (scores["structure"], scores["style_strength"]) == (pytest.approx(1.0, abs=1e-5), 0.0)


def test_no_login_and_wrong_settings_of_wandb_are_answered_with_offline(tmp_path, monkeypatch):
    def refuse(**_):
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"No API key configured\. Use `wandb login`.*\n.*logger\.wandb\.offline=true"):
        _ = RunWandbLogger(tmp_path, "p").experiment
    monkeypatch.setattr(wandb, "init", lambda settings, **_: pytest.fail(f"waits {settings.init_timeout}"))
    with pytest.raises(pytest.fail.Exception, match=r"waits 18"):
        _ = RunWandbLogger(tmp_path, "p").experiment
    assert wandb.setup().settings.x_disable_viewer, "nothing else is waited for"
    wandb.teardown()  # so that the mode is read anew
    monkeypatch.undo()
    monkeypatch.setenv("WANDB_MODE", "nope")
    with pytest.raises(UserError, match=r"Weights & Biases: .*mode.*\nlogger\.wandb\.offline=true"):
        _ = RunWandbLogger(tmp_path, "p").experiment
    wandb.teardown()  # which forgets that mode


def test_watching_nothing_leaves_the_optimisers_alone():
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters())
    for what, hooks in ((None, 0), ("gradients", 1)):
        watch = Watch(what, every_n_batches=1)
        watch.on_train_start(SimpleNamespace(optimizers=[optimizer]), network)
        assert len(optimizer._optimizer_step_post_hooks) == hooks
        watch.teardown(None, None, "fit")
        assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    ("gradient", "counted"),
    [
        ([1.0, 1.0000001], 2),  # neighbours in float32
        ([1e-45, 0.0], 2),
        ([0.0, 0.0], 2),
        ([float("nan"), 3.0], 1),
        ([float("inf"), float("nan")], 0),
    ],
)
def test_gradients_of_any_kind_have_a_histogram(gradient, counted):
    network = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(2))})
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    watch = Watch("gradients", every_n_batches=1)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))
    trainer = SimpleNamespace(optimizers=[optimizer], fit_loop=loop)
    watch.on_train_start(trainer, network)
    watch.on_train_batch_start(trainer, network, None, 0)
    network["w"].grad = torch.tensor(gradient)
    optimizer.step()
    assert sum(counts.sum() for counts, _ in watch._histograms.values()) == counted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Watch("weights", 1), "callbacks.watch.what must be null, gradients or all; got 'weights'"),
        (lambda: Watch("all", 0), "callbacks.watch.every_n_batches must be at least 1; got 0"),
        (
            lambda: CheckpointArtifacts("x", "always"),
            "callbacks.artifacts.when must be null, end or epoch; got 'always'",
        ),
    ],
)
def test_settings_that_do_not_exist_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
