"""Real trainings of a module whose validations are known, as trials of a search."""

from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from lit_ghibli import checkpoints
from lit_ghibli.callbacks.checkpointing import RunCheckpoints
from lit_ghibli.callbacks.progress import RunProgress
from lit_ghibli.callbacks.pruning import Pruning
from lit_ghibli.errors import UserError
from lit_ghibli.methods.base import Method
from lit_ghibli.studies.journal import report
from lit_ghibli.studies.search import Search

EPOCHS = 4
IGNORED = ("LeafSpec", "does not have many workers")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]


class Validated(Method):
    """Trains one weight, and logs a given value for each epoch."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.values = values

    def training_step(self, batch, index):
        return {"loss": self.weight.square().sum(), "losses": {}}

    def validation_step(self, batch, index):
        self.log("val/swd", self.values[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_search(folder: Path) -> Search:
    pruner = {"name": "median", "n_startup_trials": 2, "n_warmup_steps": 1, "monitor": "val/swd"}
    space = {"x": {"low": 0.0, "high": 1.0}}
    return Search(folder / "search.journal", "search", space, {"swd": "min"}, trials=9, seed=0, pruner=pruner)


def train(folder: Path, number: int, values: list[float], epochs: int = EPOCHS, **options) -> Trainer:
    data = DataLoader(torch.zeros(2, 1))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        plugins=[checkpoints.RunCheckpointIO({"method": {"_target_": "x"}})],
        callbacks=[
            RunProgress(estimate_after=8),
            Pruning(folder / "search.journal", "search", number, options.pop("monitor", "val/swd")),
            RunCheckpoints(folder / str(number), every_n_batches=10, keep_epochs=-1),
        ],
    )
    trainer.fit(Validated(values), data, data, **options)
    return trainer


def epochs_of(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("epoch_*.ckpt"))


@pytest.fixture
def folder(tmp_path):
    """Of a search in which two trials have been done, worth 2 and 4 after every epoch."""
    search = make_search(tmp_path)
    for value in (2.0, 4.0):
        number = search.ask().number
        train(tmp_path, number, [value] * EPOCHS)
        search.tell(number, {"swd": value})
    return tmp_path


def test_a_bad_trial_is_stopped_and_a_good_one_is_not(folder, capsys):
    search = make_search(folder)
    good, bad = search.ask().number, search.ask().number
    assert train(folder, good, [9.0, 2.9, 2.8, 2.7]).current_epoch == EPOCHS
    assert "pruned" not in capsys.readouterr().out
    assert not search.was_pruned(good)
    trainer = train(folder, bad, [9.0, 3.1, 0.0, 0.0])
    assert trainer.current_epoch == 2
    assert "pruned after epoch 2: val/swd" in capsys.readouterr().out
    assert epochs_of(folder / str(bad)) == ["epoch_0001", "epoch_0002"]
    for number in (good, bad):
        search.tell(number, {"swd": 2.7})
    assert [row["state"] for row in search.rows()] == ["done"] * 3 + ["pruned"]
    assert search.rows()[bad]["values"] == pytest.approx({"swd": 3.1})


def test_the_last_epoch_is_no_reason_to_stop(folder):
    search = make_search(folder)
    number = search.ask().number
    assert train(folder, number, [9.0, 2.9, 2.9, 9.0]).current_epoch == EPOCHS
    assert not search.was_pruned(number)


def test_a_resumed_trial_reports_only_what_is_new(folder):
    search = make_search(folder)
    number = search.ask().number
    train(folder, number, [9.0, 2.9], epochs=2)
    train(folder, number, [7.0, 1.0, 2.8, 2.6], ckpt_path=folder / str(number) / "epoch_0001.ckpt")
    reported = search._frozen()[number].intermediate_values
    assert reported == pytest.approx({0: 9.0, 1: 2.9, 2: 2.8, 3: 2.6})


def test_the_time_of_an_interrupted_run_is_that_of_its_parts(folder):
    number = make_search(folder).ask().number
    parts = [train(folder, number, [1.0] * 2, epochs=2)]
    last = folder / str(number) / "last.ckpt"
    before = checkpoints.load(last)["callbacks"]["RunProgress"]["seconds"]
    assert 0 < float(parts[0].callback_metrics["train_seconds"]) <= before
    whole = train(folder, number, [1.0] * EPOCHS, ckpt_path=last).callback_metrics["train_seconds"]
    assert before < float(whole) < checkpoints.load(last)["callbacks"]["RunProgress"]["seconds"]


def test_a_metric_that_is_not_logged_is_named(folder):
    number = make_search(folder).ask().number
    with pytest.raises(UserError, match=r"monitor=val/fid is not logged; there are \[.*'val/swd'"):
        train(folder, number, [1.0] * EPOCHS, monitor="val/fid")


@pytest.mark.ddp
@pytest.mark.slow
def test_all_ranks_stop_together_and_one_reports(tmp_path, tiny, cli):
    """Against two trials that nothing beats, after whose warm-up of one epoch both processes end."""
    search = make_search(tmp_path)
    for _ in range(2):
        number = search.ask().number
        for epoch in range(EPOCHS):
            report(search.journal, "search", number, epoch, 0.0, prune=True)
        search.tell(number, {"swd": 0.0})
    trial = search.ask()
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"method.epochs={EPOCHS}"]
    where = [override for override in trial.overrides if "pruning" in override]
    result = cli("train", *tiny, *ddp, *where, "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("pruned after epoch 2: val/swd is worse than in other trials") == 1
    assert epochs_of(tmp_path / "run" / "checkpoints") == ["epoch_0001", "epoch_0002"]
    assert list(search._frozen()[trial.number].intermediate_values) == [0, 1]
    assert search.was_pruned(trial.number)
