"""`lit-ghibli sweep`, with real trainings in processes of their own."""

import csv
import json
import signal
from pathlib import Path

import pytest
import yaml

from lit_ghibli.commands import to_overrides
from lit_ghibli.commands._study import _composed, _scheduler
from lit_ghibli.errors import UserError
from lit_ghibli.studies.study import read_study

STUDIES = sorted(Path(__file__).parents[2].glob("experiments/*/study.yaml"))
STUDY = """
question: Does it matter how often it is killed?
common: {common}
grid:
  method.weights.cycle: {cycle}
metrics: {{val/swd: min, val/ssim: max}}
"""
KILL = "+callbacks.kill={_target_: helpers.kill_once.KillOnce, batch: 11, mark: mark, sweep: true}"


@pytest.fixture
def study(tmp_path, tiny):
    def write(folder, *overrides, cycle=(5, 10)):
        folder = tmp_path / folder
        (folder / "mine").mkdir(parents=True)
        common = [*tiny, "method.epochs=2", "callbacks.checkpoints.every_n_batches=2", *overrides]
        (folder / "mine" / "study.yaml").write_text(STUDY.format(common=json.dumps(common), cycle=list(cycle)))
        return folder

    return write


def table(folder):
    with open(folder / "outputs/mine/report/table.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_table(study, cli):
    """The sweep and the training of its first cell die in the middle of an epoch."""
    killed, straight = study("killed", KILL), study("straight", KILL, cycle=[5])  # compared is the one that was killed
    (straight / "mark").touch()

    refused = cli("sweep", "mine", "--dry-run", cwd=killed)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "mine is refused: its word '+callbacks.kill={_target_: helpers.kill_once.KillOnce" in refused.stderr
    assert cli("sweep", "mine", "trust=true", cwd=killed).returncode == -signal.SIGKILL
    ledger = json.loads((killed / "outputs/mine/ledger.json").read_text())
    assert [cell["state"] for cell in ledger["cells"].values()] == ["running", "waiting"]
    for folder in (killed, straight):
        done = cli("sweep", "mine", "trust=true", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "resume=" in next((killed / "outputs/mine/cells").glob("cycle-5*/cell.log")).read_text()
    assert len(table(killed)) == 2
    assert [table(killed)[0]] == table(straight)

    report = (killed / "outputs/mine/report/report.md").read_text()
    assert "Does it matter how often it is killed?" in report
    assert (killed / "outputs/mine/report/effects.png").is_file()
    ledger = json.loads((killed / "outputs/mine/ledger.json").read_text())
    assert [cell["state"] for cell in ledger["cells"].values()] == ["done", "done"]


@pytest.mark.slow
def test_failed_cells_are_listed_and_retried_on_request_and_pictures_are_shown(study, cli):
    """The process of the first cell dies; the others go on."""
    folder = study("failing", KILL.replace("sweep: true", "sweep: false"))
    file = folder / "mine" / "study.yaml"
    file.write_text(file.read_text().replace("val/", "") + "evaluate: []\n")
    failed = cli("sweep", "mine", "trust=true", cwd=folder)
    assert failed.returncode == 1
    assert "failed: cycle=5, seed=0 (all of it: outputs/mine/cells/cycle-5" in failed.stdout
    assert "killed by SIGKILL, as happens when memory runs out" in failed.stdout
    assert "1 of 2 cells failed; --retry runs them again" in failed.stderr
    idle = cli("sweep", "mine", "trust=true", cwd=folder)
    assert (idle.returncode, "1 of 2 cells failed" in idle.stderr) == (1, True)
    retried = cli("sweep", "mine", "--retry", "trust=true", cwd=folder)
    assert retried.returncode == 0, retried.stdout + retried.stderr
    assert [row["cycle"] for row in table(folder)] == ["5", "10"]
    assert (folder / "outputs/mine/report/pictures.png").is_file()


@pytest.mark.slow
def test_a_training_before_all_cells_is_what_they_evaluate(tmp_path, tiny, cli):
    (tmp_path / "study.yaml").write_text(
        f"command: evaluate\ntrained: {json.dumps([*tiny, 'method.epochs=1'])}\ncommon: ['checkpoint={{trained}}']\n"
        "grid: {num_images: [1, 2]}\nmetrics: {val/swd: min}\n".replace("val/", "")
    )
    done = cli("sweep", "study.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "out/report/table.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["swd"] == second["swd"]


@pytest.mark.slow
def test_forecasts_are_made_once(study, cli):
    folder = study("dry", cycle=[5])
    first = cli("sweep", "mine", "--dry-run", "forecast_steps=1", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("forecast ") == 1
    assert "1 cells to run: about 0:00:" in first.stdout
    second = cli("sweep", "mine", "--dry-run", cwd=folder)
    assert "forecast " not in second.stdout
    assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ends", "whole"])
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
@pytest.mark.usefixtures("composing")
def test_shipped_studies_compose_into_cells_that_differ(path, whole):
    for preset in yaml.safe_load(path.read_text()).get("presets", [None]):
        study = read_study(path, preset)
        cells = study.cells()
        if study.command != "train":
            continue
        if preset not in (None, "scenes"):
            cells = cells[:1]
        elif not whole:
            cells = cells[:: max(len(cells) - 1, 1)]  # the first and the last
        assert len({_composed(cell) for cell in cells}) == len(cells)


def test_names_of_cells_are_subjects_of_a_comparison():
    [subjects] = to_overrides("compare", ["budget equal time method CycleGAN:outputs/x"])
    assert subjects == 'subjects=["budget equal time method CycleGAN:outputs/x"]'


def test_words_are_the_study_its_own_values_and_those_of_trainings():
    words = [
        "experiments/mine",
        "--dry-run",
        "preset=full",
        "data.root=/a b",
        "jobs=2",
        "~callbacks.doctor",
        "-c",
        "job",
    ]
    assert to_overrides("sweep", words) == [
        "-c",
        "job",
        "dry_run=true",
        "study_preset=full",
        "jobs=2",
        'study="experiments/mine"',
        'overrides=["data.root=\\"/a b\\"","~callbacks.doctor"]',
    ]
    with pytest.raises(UserError, match="one study at a time; got a, b"):
        to_overrides("sweep", ["a", "b"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("launcher=pbs", "there is no such choice"),
        ("launcher=local launcher.gpuz=1", "did you mean launcher.gpus"),
        ("launcher=slurm_node", "a cell is one process of launcher=slurm or launcher=local"),
        ("launcher=slurm launcher.nodes=2", "a cell is one process of"),
        ("launcher.partition=gpu", "train has no 'launcher.partition'"),
    ],
)
@pytest.mark.usefixtures("composing")
def test_mistakes_in_words_of_a_launcher_are_told_before_anything_is_made(tmp_path, words, why):
    with pytest.raises(UserError, match=why):
        _scheduler(words.split(), tmp_path, jobs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("composing")
def test_a_launcher_is_what_its_words_say(tmp_path):
    assert _scheduler([], tmp_path, 1) is None
    assert _scheduler(["launcher=local", "launcher.gpus=0"], tmp_path, 1).name == "local"


def test_mistakes_in_overrides_are_told_before_anything_runs(study, cli):
    folder = study("wrong")
    wrong = cli("sweep", "mine", "method.no_such=1", cwd=folder)
    assert wrong.returncode == 1
    assert "cycle=5, seed=0: method.no_such=1: " in wrong.stderr
    assert cli("sweep", "mine", "preset=huge", cwd=folder).stderr.endswith("no preset 'huge'; there are []\n")
    assert cli("sweep", "mine", "--status", "--retry", cwd=folder).stderr.endswith("or --status\n")
