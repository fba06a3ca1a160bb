"""What a run's folder says of the run, whatever becomes of it."""

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

import lit_ghibli
from lit_ghibli.callbacks import environment, record_file, run_record
from lit_ghibli.callbacks.csv_log import ContinuedCSVLogger
from lit_ghibli.callbacks.environment import code
from lit_ghibli.callbacks.record_file import RecordError, compare, differences, read_record
from lit_ghibli.callbacks.run_record import RunRecord
from lit_ghibli.methods.base import Method
from lit_ghibli.reports.tables import last_values

BATCHES = 3
IGNORED = ("LeafSpec", "does not have many workers", "smaller than the logging interval", "You defined a `training")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]
CONFIG = {"seed": 3, "run_dir": "here", "method": {"epochs": 2, "weights": [1, 2]}}


class Slope(Method):
    """Learns one number."""

    def __init__(self, epochs: int = 2) -> None:
        super().__init__()
        self.weight, self.epochs = torch.nn.Parameter(torch.ones(1)), epochs

    def training_step(self, batch, batch_idx):
        loss = (self.weight * batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(torch.arange(1.0, 1 + BATCHES), batch_size=1)


class At(Callback):
    """Does something in the second epoch."""

    def __init__(self, action) -> None:
        self.action = action

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.action()


def run(folder: Path, *callbacks: Callback, ckpt_path=None, method=None, **record) -> Trainer:
    words = {"config": CONFIG, "links": {}, "command": "lit-ghibli train 'a b=1'", "overrides": ["a b=1"], **record}
    method = method or Slope()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=method.epochs,
        logger=ContinuedCSVLogger(str(folder), flush_logs_every_n_steps=1000),
        callbacks=[RunRecord(folder, **words), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(method, ckpt_path=ckpt_path)
    return trainer


def fail(exception: BaseException):
    raise exception


@pytest.fixture(scope="module", autouse=True)
def _code():
    """A checksum of the code that stays, though people may work on it while they test."""
    same = {"version": lit_ghibli.__version__, "sha256": "c" * 64, "revision": "e" * 40, "dirty": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "code", lambda: same)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run's folder, what its record said while it was running, and a checkpoint after its first epoch."""
    folder = tmp_path_factory.mktemp("run")
    on_the_way = []

    class Save(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(folder / "one.ckpt")

    run(folder, At(lambda: on_the_way.append(read_record(folder))), Save())
    return folder, on_the_way[0]


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of that run's folder."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def test_a_record_says_what_ran_and_how_it_went(finished):
    record = read_record(finished[0])
    assert (record["config"], record["links"], record["seed"]) == (CONFIG, {}, 3)
    (attempt,) = record["attempts"]
    assert (attempt["command"], attempt["overrides"]) == ("lit-ghibli train 'a b=1'", ["a b=1"])
    assert attempt["versions"]["torch"] == torch.__version__
    assert attempt["versions"]["python"] == platform.python_version()
    assert {"lightning", "torchvision", "hydra-core", "torchmetrics", "numpy", "pillow"} <= attempt["versions"].keys()
    assert attempt["machine"]["threads"] == torch.get_num_threads()
    assert attempt["machine"]["processes"] == 1
    assert attempt["code"]["version"] == lit_ghibli.__version__
    assert attempt["data"] == {}
    assert (attempt["state"], attempt["epochs"], attempt["batches"]) == ("finished", 2, 2 * BATCHES)
    assert 0 < attempt["seconds"] < 600
    assert attempt["started"] <= attempt["ended"]
    assert not list(finished[0].glob(".*")), "nothing is left of writing it"


def test_while_it_runs_it_says_so(finished):
    (attempt,) = finished[1]["attempts"]
    assert attempt["state"] == "running"
    assert "seconds" not in attempt


def test_the_log_of_a_finished_run_is_whole(tmp_path):
    logged = []

    class Look(RunRecord):
        def _end(self, trainer, state):
            logged.append(last_values(tmp_path / "metrics.csv"))

    Trainer.fit(
        Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=ContinuedCSVLogger(str(tmp_path), flush_logs_every_n_steps=1000),
            callbacks=[Look(tmp_path, CONFIG, {}, "", [])],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        ),
        Slope(),
    )
    assert logged[0]["step"] == BATCHES - 1
    assert not (tmp_path / "hparams.yaml").exists(), "the record holds the configuration"


def test_what_stopped_a_run_is_noted(tmp_path):
    with pytest.raises(RuntimeError):
        run(tmp_path, At(lambda: fail(RuntimeError("no memory"))))
    (attempt,) = read_record(tmp_path)["attempts"]
    assert (attempt["state"], attempt["error"], attempt["batches"]) == ("failed", "RuntimeError: no memory", BATCHES)


def test_an_interrupted_run_says_so(tmp_path):
    with pytest.raises(SystemExit):
        run(tmp_path, At(lambda: fail(KeyboardInterrupt())))
    assert read_record(tmp_path)["attempts"][0]["state"] == "interrupted"


def test_a_run_that_fails_before_it_is_ready_has_no_record(tmp_path):
    class Unable(Slope):
        def prepare_data(self):
            fail(RuntimeError("no data"))

    with pytest.raises(RuntimeError, match="no data"):
        run(tmp_path, method=Unable())
    with pytest.raises(RecordError, match="no run that `lit-ghibli train` has recorded"):
        read_record(tmp_path)


def test_a_resumed_run_adds_an_attempt_and_warns_of_what_changed(folder, monkeypatch, caplog):
    record = read_record(folder)
    record["attempts"][0]["state"] = "running"  # as a killed process leaves it
    (folder / record_file.FILE).write_text(json.dumps(record))
    real = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: {**real, "torch": "9.9", "new": "1"})
    monkeypatch.setattr(run_record, "_data_of", lambda *_: {"train": {"images": 4, "sha256": "0123456789abcdef" * 4}})
    config = {**CONFIG, "run_dir": "there", "method": {"epochs": 3, "weights": [1, 2]}}
    run(folder, ckpt_path=folder / "one.ckpt", config=config, method=Slope(3))

    first, second = read_record(folder)["attempts"]
    assert first == {**record["attempts"][0], "state": "killed"}
    assert (second["state"], second["batches"]) == ("finished", 3 * BATCHES)
    assert second["changed"] == {"method.epochs": (2, 3)}
    assert read_record(folder)["config"] == config
    warned = [message for message in caplog.messages if message.startswith("this run goes on with another")]
    assert warned == [
        "this run goes on with another data.train.images: 4 instead of None",
        "this run goes on with another data.train.sha256: 0123456789ab instead of None",
        "this run goes on with another versions.new: 1 instead of None",
        f"this run goes on with another versions.torch: 9.9 instead of {torch.__version__}",
    ]


def test_resumed_unchanged_it_does_not_warn(folder, caplog):
    run(folder, ckpt_path=folder / "one.ckpt")
    assert [attempt["batches"] for attempt in read_record(folder)["attempts"]] == [2 * BATCHES, 2 * BATCHES]
    assert not [message for message in caplog.messages if "another" in message]


def test_resumed_with_nothing_left_it_has_no_further_attempt(folder):
    before = read_record(folder)
    run(folder, ckpt_path=folder / "one.ckpt", method=Slope(1))
    assert read_record(folder) == before


def test_a_fresh_run_in_an_old_folder_replaces_its_record(folder):
    run(folder, command="another")
    (attempt,) = read_record(folder)["attempts"]
    assert attempt["command"] == "another"


def test_a_repetition_warns_of_what_is_not_as_it_was(folder, tmp_path, caplog):
    (attempt,) = read_record(folder)["attempts"]
    run(tmp_path / "same", repeats=attempt)
    assert not [message for message in caplog.messages if "another" in message]
    attempt["code"]["revision"], attempt["machine"]["threads"] = "f" * 40, 64
    run(tmp_path / "other", repeats=attempt)
    warned = [message for message in caplog.messages if message.startswith("this run repeats one with another")]
    assert len(warned) == 2
    assert "code.revision" in warned[0]
    assert warned[0].endswith(f"instead of {'f' * 12}")
    assert warned[1].endswith(f"machine.threads: {torch.get_num_threads()} instead of 64")


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    record = RunRecord(tmp_path, CONFIG, {}, "", [])
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    record.on_train_start(None, None)
    record.on_fit_end(None, None)
    record.on_exception(None, None, RuntimeError())
    assert not list(tmp_path.iterdir())


def test_differences_are_those_of_what_numbers_depend_on():
    before = {"state": "failed", "versions": {"a": 1}, "machine": {"threads": 1}, "data": {}, "code": {"sha256": "x"}}
    now = {"state": "running", "versions": {"a": 1}, "machine": {"threads": 2}, "data": {"n": 1}, "code": {}}
    assert differences(before, now) == {"machine.threads": (1, 2), "data.n": (None, 1), "code.sha256": ("x", None)}
    assert differences({}, {}) == {}
    assert compare({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}) == {"a.b": ([1], [1, 2])}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON .*: no record of a run"),
        ("[" * 5000, "nested deeper .*: no record of a run"),
        ("[]", "must be a mapping; got a list of 0: no record of a run"),
        ('{"config": {}, "links": {}}', "lacks 'attempts'"),
        ('{"config": null, "links": {}, "attempts": []}', "config must be a mapping; got null"),
        ('{"config": {}, "links": {"a": {}}, "attempts": []}', "links.a must be text"),
        ('{"config": {}, "links": {}, "attempts": []}', "it lists no attempt"),
        ('{"config": {}, "links": {}, "attempts": [1]}', r"attempts\[0\] must be a mapping; got 1"),
        ('{"config": {}, "links": {}, "attempts": [{"changed": {"a": [1]}}]}', "changed.a must list 2 values"),
    ],
)
def test_records_that_are_none(tmp_path, content, message):
    (tmp_path / record_file.FILE).write_text(content)
    with pytest.raises(RecordError, match=message):
        read_record(tmp_path)


@pytest.fixture
def checkout(tmp_path):
    """A commit with a module, a configuration and a note."""
    for name in ("lit_ghibli/a.py", "conf/a.yaml", "note.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
@pytest.mark.parametrize(
    ("name", "dirty"), [("lit_ghibli/a.py", True), ("conf/new.yaml", True), ("note.md", False), ("outputs", False)]
)
def test_gits_revision_and_whether_it_is_all_of_it(checkout, name, dirty):
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True)
    assert environment._revision(checkout) == {"revision": said.stdout.strip(), "dirty": False}
    (checkout / name).write_text("y\n")
    assert environment._revision(checkout) == {"revision": said.stdout.strip(), "dirty": dirty}


@needs_git
def test_an_installed_package_has_no_revision(checkout):
    inside = checkout / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert environment._revision(inside) == {"revision": None, "dirty": None}


def test_git_that_does_not_answer_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()  # damaged
    assert environment._revision(tmp_path) == {"revision": None, "dirty": None}
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert environment._revision(tmp_path) == {"revision": None, "dirty": None}


def test_changed_code_has_another_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_PACKAGE", tmp_path)
    (tmp_path / "a.py").write_text("x")
    first = code()["sha256"]
    (tmp_path / "a.py").write_text("y")
    assert code()["sha256"] != first
    (tmp_path / "a.py").write_text("x")
    assert code()["sha256"] == first
