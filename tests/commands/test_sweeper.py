"""The real Hydra, and known values in the place of trainings."""

import csv
import re
import signal
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lit_ghibli.commands import _hydra, _sweeper
from lit_ghibli.commands.train import optimized
from lit_ghibli.errors import UserError
from lit_ghibli.locks import take
from lit_ghibli.studies.batches import LOCK, directions_of
from lit_ghibli.studies.journal import report

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"]
SMALL = """
defaults: [_self_, {trainer: cpu}]
method: {weights: {cycle: 10, gan: 1}}
data: {crop_size: 256}
seed: 0
resume: null
run_dir: ${hydra:runtime.output_dir}
optimized_metric: null
hydra: {searchpath: ["file://CONF"]}
"""


def sweep_in(config_path: Path | str, monkeypatch):
    """What runs `train -m hydra/sweeper=search` in this process, with a function in the place of the training."""

    def run(train, *words: str) -> list[dict[str, str]]:
        arguments = ["-m", "hydra/sweeper=search", "hydra.sweep.dir=out", *QUIET, *words]
        monkeypatch.setattr(sys, "argv", ["lit-ghibli", *arguments])
        monkeypatch.setattr(_hydra, "config_dir", lambda: str(config_path))
        _sweeper.register([])
        _hydra.command("train")(train)()
        with open("out/search.csv", newline="") as file:
            return list(csv.DictReader(file))

    return run


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep of the real configuration."""
    monkeypatch.chdir(tmp_path)
    return sweep_in(_hydra.config_dir(), monkeypatch)


@pytest.fixture
def small_sweep(tmp_path, monkeypatch):
    """A sweep of a small configuration, which is composed sooner, and the real one of the sweeper."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "train.yaml").write_text(SMALL.replace("CONF", _hydra.config_dir()))
    monkeypatch.chdir(tmp_path)
    return sweep_in(tmp_path / "conf", monkeypatch)


def cycle(config) -> float:
    return abs(config.method.weights.cycle - 4)


SEARCH = ["method.weights.cycle=interval(1,20)", "optimized_metric=val/swd"]


def test_a_search_writes_what_it_found(small_sweep):
    tried = []

    def train(config):
        tried.append((config.method.weights.cycle, config.data.crop_size, config.trainer.accelerator, config.seed))
        return cycle(config)

    words = ["data.crop_size=64,128", "trainer=cpu,gpu", "seed=7", "hydra.sweeper.n_trials=4"]
    rows = small_sweep(train, *SEARCH, *words)
    assert [int(row["trial"]) for row in rows] == list(range(4))
    columns = ("method.weights.cycle", "data.crop_size", "trainer")
    assert [tuple(row[column] for column in columns) for row in rows] == [tuple(map(str, t[:3])) for t in tried]
    assert {size for _, size, _, _ in tried} == {64, 128}
    assert {seed for *_, seed in tried} == {7}
    losses = [abs(weight - 4) for weight, *_ in tried]
    assert [float(row["val/swd"]) for row in rows] == losses
    assert [row["best"] for row in rows] == ["yes" if loss == min(losses) else "" for loss in losses]
    best = OmegaConf.load("out/optimization_results.yaml")
    assert (best.name, best.best_value) == ("search", min(losses))
    assert best.best_params["method.weights.cycle"] == tried[losses.index(min(losses))][0]
    assert {path.name for path in Path("out").iterdir()} > {"search.md", "search.json", "multirun.yaml", "0", "3"}


def test_several_metrics_have_a_front(small_sweep):
    def train(config):
        return optimized(config.optimized_metric, {"val/ssim": cycle(config), "train_seconds": cycle(config) ** 2})

    space = "+hydra.sweeper.params={seed: '5,6', method.weights.cycle: 'range(1,9)'}"
    words = [space, "seed=7", "hydra.sweeper.n_trials=5", "hydra.sweeper.sampler.name=random"]
    rows = small_sweep(train, "optimized_metric=[val/ssim,train_seconds]", *words)
    assert all(row["method.weights.cycle"] in "12345678" for row in rows)
    assert "seed" not in rows[0], "what is typed wins"
    assert all(float(row["train_seconds"]) == float(row["val/ssim"]) ** 2 for row in rows)
    assert [row["front"] for row in rows] == ["yes"] * 5, "each better one took longer"
    solutions = OmegaConf.load("out/optimization_results.yaml").solutions
    assert [solution.trial for solution in solutions] == [0, 1, 2, 3, 4]
    assert [list(solution["values"]) for solution in solutions] == [
        [float(row["val/ssim"]), float(row["train_seconds"])] for row in rows
    ]


def test_a_trial_that_fails_does_not_end_the_search(small_sweep, caplog):
    calls = []

    def train(config):
        calls.append(config.method.weights.cycle)
        if len(calls) == 2:
            raise UserError("step 6: the loss 'cycle' is nan")
        if len(calls) == 3:
            raise RuntimeError("out of\n  memory")
        return float("nan") if len(calls) == 4 else cycle(config)

    rows = small_sweep(train, *SEARCH, "hydra.sweeper.n_trials=5")
    assert [row["state"] for row in rows] == ["done", "failed", "failed", "failed", "done"]
    why = ["", "step 6: the loss 'cycle' is nan", "out of memory", "val/swd is nan", ""]
    assert [row["why"] for row in rows] == why
    assert "trial 1 failed: step 6" in caplog.text


def test_a_run_that_its_user_erred_in_does_not_end_a_sweep(small_sweep, capsys):
    done = []

    def train(config):
        if config.seed == 1:
            raise UserError("upsample is 'nope'")
        done.append(config.seed)

    with pytest.raises(SystemExit) as end:
        small_sweep(train, "hydra/sweeper=basic", "seed=0,1,2")
    assert done == [0, 2]
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "upsample is 'nope'" in said
    assert "Traceback" not in said


def test_a_search_that_only_fails_is_stopped(small_sweep):
    calls = []

    def train(config):
        calls.append(config)
        raise UserError("optimized_metric=val/swd was not logged")

    with pytest.raises(SystemExit, match=r"all 3 trials failed so far: see out/search\.md"):
        small_sweep(train, *SEARCH)
    assert len(calls) == 3
    assert "optimized_metric=val/swd was not logged" in Path("out/search.md").read_text()


@pytest.mark.slow
def test_an_interrupted_search_goes_on_where_it_was(small_sweep):
    """In a batch of three, the first is done and the second saved when the program ends."""
    words = [*SEARCH, "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=3"]
    calls, end = [], True

    def train(config):
        calls.append((Path(config.run_dir).name, config.method.weights.cycle, config.resume))
        if end and len(calls) == 2:
            (Path(config.run_dir) / "checkpoints").mkdir()
            (Path(config.run_dir) / "checkpoints" / "last.ckpt").touch()
            raise KeyboardInterrupt
        return cycle(config)

    with pytest.raises(SystemExit, match="stopped"):
        small_sweep(train, *words)
    end = False
    rows = small_sweep(train, *words)
    Path("out/search.csv").unlink()
    assert small_sweep(train, *words) == rows, "written again, though nothing is left to do"
    last = Path("out/1/checkpoints/last.ckpt").absolute()
    assert [call[0] for call in calls] == ["0", "1", "1", "2", "3", "4"]
    assert [call[2] for call in calls] == [None, None, str(last), None, None, None]
    assert calls[1][1] == calls[2][1]
    assert [float(row["method.weights.cycle"]) for row in rows] == [c[1] for c in (*calls[:2], *calls[3:])]
    assert [row["state"] for row in rows] == ["done"] * 5


def test_two_programs_do_not_search_in_one_folder(small_sweep):
    Path("out").mkdir()
    with take(Path("out") / LOCK, None), pytest.raises(SystemExit, match="another search is at work here"):
        small_sweep(lambda config: pytest.fail("trained"), *SEARCH)


@pytest.mark.slow
def test_a_trial_that_its_validations_stop_is_pruned(sweep):
    def train(config):
        where = config.callbacks.pruning
        assert where.monitor == "val/swd"
        value = 9.0 if where.trial == 2 else 1.0
        report(Path(where.journal), where.study, where.trial, 0, value, prune=True)
        return value

    pruner = "hydra.sweeper.pruner={name: median, n_startup_trials: 2}"
    rows = sweep(train, *SEARCH, pruner, "hydra.sweeper.n_trials=3")
    assert [row["state"] for row in rows] == ["done", "done", "pruned"]


MISTAKES = [
    (["method.weights.cycle=1,2"], "a search needs optimized_metric=NAME"),
    (["optimized_metric=val/swd"], "at least one key with several values"),
    ([*SEARCH, "method.weights.gan=interval(2,1)"], "search space: method.weights.gan"),
    ([*SEARCH, "method.weights.gan=tag(odd,interval(1,2))"], "the only tag that a search knows is log; got odd"),
    ([*SEARCH, "hydra.sweeper.directions=[min,max]"], r"one for each of \['val/swd'\]; got \['min', 'max'\]"),
    (["method.weights.cycle=1,2", "optimized_metric=train/gan"], "which way is train/gan better"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_named_before_anything_is_trained(small_sweep, words, message):
    with pytest.raises(SystemExit, match=message):
        small_sweep(lambda config: pytest.fail("trained"), *words)


def test_the_sweeper_of_another_program_is_answered_with_ours(cli, tmp_path):
    result = cli("train", "-m", "hydra/sweeper=optuna", *SEARCH, cwd=tmp_path)
    assert result.returncode == 1
    assert "hydra/sweeper=search" in result.stderr
    assert len(result.stderr.splitlines()) == 1


SPANS = [
    ("1,b,null", {"choices": [1, "b", None]}),
    ("'1',1.5,[a,2]", {"choices": ["1", 1.5, ["a", 2]]}),
    ("choice(true,b)", {"choices": [True, "b"]}),
    ("interval(1,20)", {"low": 1.0, "high": 20.0}),
    ("int(interval(1,20))", {"low": 1, "high": 20, "int": True}),
    ("tag(log,interval(1e-5,1))", {"low": 1e-5, "high": 1.0, "log": True}),
    ("range(2,10,3)", {"low": 2, "high": 8, "step": 3, "int": True}),
    ("range(3)", {"low": 0, "high": 2, "step": 1, "int": True}),
    ("range(9,2,-3)", {"low": 3, "high": 9, "step": 3, "int": True}),
    ("range(0.1,0.75,0.1)", {"low": 0.1, "high": 0.7, "step": 0.1}),
]


@pytest.mark.parametrize(("written", "span"), SPANS)
def test_hydras_grammar_spans_the_space(written, span):
    parser = OverridesParser.create()
    found = _sweeper.span(parser.parse_override(f"x={written}"), parser)
    assert found == span
    assert [type(value) for value in found.values()] == [type(value) for value in span.values()]


def test_directions_follow_the_names():
    names = ["val/swd", "val/ssim", "val/kid", "train_seconds"]
    assert list(directions_of(names, None).values()) == ["min", "max", "min", "min"]
    assert directions_of(["val/swd"], "max") == {"val/swd": "max"}


def test_what_train_returns():
    metrics = {"val/swd": 2, "train_seconds": 5}
    assert optimized(None, metrics) is None
    assert optimized("val/swd", metrics) == 2.0
    assert optimized(OmegaConf.create(["train_seconds", "val/swd"]), metrics) == (5.0, 2.0)
    with pytest.raises(UserError, match=r"optimized_metric=val/kid was not logged; there are \['train_seconds'"):
        optimized(["val/swd", "val/kid"], metrics)


# --- real trainings ----------------------------------------------------------------

REAL = ["train", "-m", "hydra/sweeper=search", "hydra.sweep.dir=out", "hydra.sweeper.sampler.name=random"]


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_training_that_diverges_is_a_trial_that_fails(tmp_path, tiny, cli):
    space = ["method.weights.cycle=10,1e39", "hydra.sweeper.n_trials=2", "hydra.sweeper.seed=3"]
    words = ["method.epochs=1", "callbacks.doctor.every_n_batches=1", "optimized_metric=[val/swd,train_seconds]"]
    result = cli(*REAL, *tiny, *space, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = {row["method.weights.cycle"]: row for row in read_table(tmp_path / "out" / "search.csv")}
    assert table["1e+39"]["state"] == "failed"
    assert re.match(r"step 2: the loss '\w+' is nan", table["1e+39"]["why"])
    good = table["10"]
    rows = read_table(tmp_path / "out" / good["trial"] / "metrics.csv")
    for metric in ("val/swd", "train_seconds"):
        assert float(good[metric]) == pytest.approx(float(next(row[metric] for row in rows[::-1] if row[metric])))
    assert good["front"] == "yes"


@pytest.mark.slow
def test_a_search_that_was_killed_ends_as_if_it_had_not_been(tmp_path, tiny, cli):
    """Killed in the second epoch of its second trial, which goes on from its checkpoint."""
    space = ["method.weights.cycle=interval(1,20)", "optimized_metric=val/swd", "hydra.sweeper.n_trials=3"]
    kill = "+callbacks.kill={_target_: helpers.kill_once.KillOnce, batch: 10, mark: '${run_dir}/mark'}"
    marked = [tmp_path / "killed" / "out" / number / "mark" for number in ("0", "2")]
    for folder in ("straight", "killed"):
        (tmp_path / folder).mkdir()
    for mark in marked:
        mark.parent.mkdir(parents=True)
        mark.touch()  # no kill there
    words = [*REAL, *tiny, *space, "method.epochs=2"]
    straight = cli(*words, cwd=tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    killed = cli(*words, kill, cwd=tmp_path / "killed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = cli(*words, kill, cwd=tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    assert "7 of them done" in again.stdout
    tables = [read_table(tmp_path / folder / "out" / "search.csv") for folder in ("straight", "killed")]
    assert tables[0] == tables[1]
