"""A search is asked and told; its journal outlives the programs that do so."""

import math
import os
import random
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from lit_ghibli.errors import UserError
from lit_ghibli.studies.journal import report
from lit_ghibli.studies.search import Search

SPACE = {
    "method.lr": {"low": 1e-4, "high": 1.0, "log": True},
    "data.size": {"low": 32, "high": 128, "step": 32, "int": True},
    "method/bottleneck": {"choices": ["ode", "resnet", None]},
}


def open_search(folder: Path, **changes) -> Search:
    given = {"space": SPACE, "directions": {"loss": "min"}, "trials": 12, "seed": 3}
    given |= {"sampler": {"name": "tpe", "n_startup_trials": 4}, **changes}
    return Search(folder / "search.journal", "search", **given)


def loss(parameters) -> float:
    """Least, 0, for a bottleneck of ode, a size of 96 and a learning rate of 0.02."""
    away = abs(parameters["data.size"] - 96) / 32 + (parameters["method/bottleneck"] != "ode")
    return away + abs(parameters["method.lr"] / 0.02 - 1) / 50


def finish(search: Search) -> None:
    while trial := search.ask():
        search.tell(trial.number, {"loss": loss(trial.parameters), "unasked": 1.0})


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    search = open_search(tmp_path_factory.mktemp("straight"))
    finish(search)
    return search


def test_every_value_is_of_the_space_and_spelled_for_hydra(straight):
    rows = straight.rows()
    assert [row["number"] for row in rows] == list(range(12))
    for row in rows:
        values = row["parameters"]
        assert list(values) == list(SPACE)
        assert 1e-4 <= values["method.lr"] <= 1.0
        assert values["data.size"] in (32, 64, 96, 128)
        assert values["method/bottleneck"] in ("ode", "resnet", None)
        assert row["values"] == {"loss": loss(values)}
        assert (row["state"], row["why"]) == ("done", None)
    assert len({row["parameters"]["method.lr"] for row in rows}) == 12
    assert straight.ask() is None


def test_overrides_say_what_the_parameters_are(tmp_path):
    trial = open_search(tmp_path, space={"a.x": {"low": 0, "high": 1}, "+m/b": {"choices": ["a b"]}}).ask()
    assert trial.overrides == [f"a.x={trial.parameters['a.x']!r}", '+m/b="a b"']
    assert (trial.number, trial.again) == (0, False)


def test_finds_more_than_chance_would(tmp_path):
    """The distance from the optimum, squared, in a square of side 10."""
    space = {key: {"low": -5.0, "high": 5.0} for key in ("x", "y")}
    for seed in range(3):
        search = open_search(tmp_path / str(seed), space=space, seed=seed, trials=30, sampler=None)
        while trial := search.ask():
            search.tell(trial.number, {"loss": sum((value - 1) ** 2 for value in trial.parameters.values())})
        losses = [row["values"]["loss"] for row in search.rows()]
        # A uniform draw is below 0.3 with a chance of 0.3 pi / 100: the best of 30 for all three seeds, of 1 in 66.
        assert search.best()["values"]["loss"] == min(losses) < 0.3
        # The median of draws is 15.9; that of 15 is below 10.5 with a chance of 1 in 12.
        assert statistics.median(losses[-15:]) < 10.5


def test_seeds_draw_differently(straight, tmp_path):
    other = open_search(tmp_path, seed=4).ask().parameters["method.lr"]
    assert other != straight.rows()[0]["parameters"]["method.lr"]


# --- interruptions ---------------------------------------------------------------

KILLED_WHILE_DRAWING = """
import os, signal, sys
sys.path[:0] = {path!r}
import optuna
from test_search import finish, open_search
from pathlib import Path
search, drawn, suggest = open_search(Path(sys.argv[1])), [], optuna.trial.Trial.suggest_int
def kill_after(trial, key, *arguments, **options):
    value = suggest(trial, key, *arguments, **options)
    if trial.number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return value
optuna.trial.Trial.suggest_int = kill_after
finish(search)
"""


@pytest.mark.slow
def test_killed_while_drawing_ends_as_if_it_had_not_been(straight, tmp_path):
    program = KILLED_WHILE_DRAWING.format(path=[str(Path(__file__).parent)])
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    search = open_search(tmp_path)
    assert len(search.rows()) == 7
    trial = search.ask()
    assert (trial.number, trial.again) == (7, True)
    search.tell(7, {"loss": loss(trial.parameters)})
    finish(search)
    assert search.rows() == straight.rows()


def test_trials_under_way_are_asked_again_as_they_were(straight, tmp_path):
    for _ in range(40):
        search = open_search(tmp_path)
        trial = search.ask()
        if trial is None:
            break
        again = open_search(tmp_path).ask()
        assert again == trial._replace(again=True)
        search.tell(trial.number, {"loss": loss(trial.parameters)})
    assert search.rows() == straight.rows()


def test_several_trials_under_way_are_all_asked_again(tmp_path):
    first = open_search(tmp_path, trials=5)
    under_way = [first.ask() for _ in range(4)]
    first.tell(1, {"loss": 0.5})
    second = open_search(tmp_path, trials=5)
    asked = []
    while trial := second.ask():
        asked.append(trial)
    assert [(trial.number, trial.again) for trial in asked] == [(0, True), (2, True), (3, True), (4, False)]
    assert [trial.overrides for trial in asked[:3]] == [under_way[number].overrides for number in (0, 2, 3)]
    for trial in asked:
        second.tell(trial.number, {"loss": 1.0})
    assert [row["state"] for row in second.rows()] == ["done"] * 5
    assert [row["number"] for row in second.front()] == [1]


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path):
    search = open_search(tmp_path)
    search.tell(search.ask().number, {"loss": 1.0})
    journal = tmp_path / "search.journal"
    written = journal.read_bytes()
    journal.write_bytes(written + b'{"op_code":4,"worker')
    for _ in range(2):
        search = open_search(tmp_path)
        search.tell(search.ask().number, {"loss": 2.0})
    assert [row["values"]["loss"] for row in open_search(tmp_path).rows()] == [1.0, 2.0, 2.0]
    assert journal.read_bytes().startswith(written)


def test_more_trials_may_be_wanted_later(straight, tmp_path):
    finish(open_search(tmp_path, trials=5))
    longer = open_search(tmp_path)
    finish(longer)
    assert longer.rows() == straight.rows()


CHANGES = {
    "space": {**SPACE, "data.size": {"low": 32, "high": 256, "step": 32, "int": True}},
    "directions": {"loss": "max"},
    "seed": 4,
    "sampler": {"name": "random"},
    "pruner": {"name": "median"},
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_search_is_not_continued_as_another(straight, changed):
    with pytest.raises(UserError, match=f"this search was begun with another {changed}, .* instead of"):
        open_search(straight.journal.parent, **{changed: CHANGES[changed]})


# --- what came of trials ------------------------------------------------------------


def test_failed_trials_are_counted_and_named(tmp_path):
    search = open_search(tmp_path, trials=5)
    for values in ({"loss": float("nan")}, {"loss": float("inf")}, {"swd": 1.0}, {"loss": 3.0}):
        search.tell(search.ask().number, values)
    search.fail(search.ask().number, "out of memory")
    assert search.ask() is None
    rows = search.rows()
    assert [row["state"] for row in rows] == ["failed"] * 3 + ["done", "failed"]
    why = ["loss is nan", "loss is inf", "no metric loss; there are ['swd']", None, "out of memory"]
    assert [row["why"] for row in rows] == why
    assert [row["number"] for row in search.front()] == [3]
    assert search.best() == rows[3]


def test_without_any_result_nothing_is_best(tmp_path):
    search = open_search(tmp_path)
    assert (search.rows(), search.front(), search.best()) == ([], [], None)
    search.fail(search.ask().number, "x")
    assert (search.front(), search.best()) == ([], None)


def test_the_front_is_what_no_trial_beats(tmp_path):
    draw = random.Random(0)
    directions = {"swd": "min", "ssim": "max", "train_seconds": "min"}
    search = open_search(tmp_path, directions=directions, trials=40, sampler={"name": "random"})
    told = {}
    while trial := search.ask():
        if trial.number % 8 == 5:
            search.fail(trial.number, "x")
        else:  # few values, so that some are equal
            told[trial.number] = {name: draw.randrange(6) for name in ("ssim", "train_seconds", "swd")}
            search.tell(trial.number, told[trial.number])

    def beats(a, b) -> bool:
        better = [a["swd"] - b["swd"], b["ssim"] - a["ssim"], a["train_seconds"] - b["train_seconds"]]
        return max(better) <= 0 and min(better) < 0

    front = [number for number in told if not any(beats(other, told[number]) for other in told.values())]
    assert 2 < len(front) < 20
    assert [row["number"] for row in search.front()] == front
    assert all(row["values"] == told[row["number"]] for row in search.front())
    assert search.best()["values"]["swd"] == min(values["swd"] for values in told.values())


# --- pruning -------------------------------------------------------------------------

MEDIAN = {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 1}


@pytest.fixture
def pruning(tmp_path):
    """A search of which three trials are done, worth 1, 2 and 3 after their validations 0 to 3."""
    search = open_search(tmp_path, pruner=MEDIAN)
    for value in (1.0, 2.0, 3.0):
        number = search.ask().number
        for step in range(4):
            assert not report(search.journal, "search", number, step, value, prune=True)
        search.tell(number, {"loss": value})
    return search


def test_a_trial_worse_than_the_median_is_stopped(pruning):
    trial = pruning.ask()
    tell = [pruning.journal, "search", trial.number]
    assert not report(*tell, 0, 9.0, prune=True), "a warm-up of one step"
    assert not report(*tell, 1, 1.9, prune=True)
    assert not report(*tell, 2, 2.1, prune=True), "its best so far is better than the median"
    pruning.tell(trial.number, {"loss": 2.1})
    worse = pruning.ask().number
    report(pruning.journal, "search", worse, 0, 2.5, prune=True)
    assert report(pruning.journal, "search", worse, 1, 2.5, prune=True)
    assert not report(pruning.journal, "search", worse, 1, 2.5, prune=True), "reported twice"
    pruning.tell(worse, {"loss": 2.5})
    row = pruning.rows()[worse]
    assert (row["state"], row["values"], row["on_front"]) == ("pruned", {"loss": 2.5}, False)
    assert not report(pruning.journal, "search", worse, 2, 2.5, prune=True), "it has ended"


def test_after_the_last_validation_nothing_is_stopped(pruning):
    number = pruning.ask().number
    report(pruning.journal, "search", number, 0, 9.0, prune=True)
    assert not report(pruning.journal, "search", number, 1, 9.0, prune=False)
    pruning.tell(number, {"loss": 9.0})
    assert pruning.rows()[-1]["state"] == "done"


def test_a_trial_that_was_pruned_before_a_kill_is_not_trained_again(pruning):
    number = pruning.ask().number
    report(pruning.journal, "search", number, 0, 9.0, prune=True)
    assert report(pruning.journal, "search", number, 1, 9.0, prune=True)
    reopened = open_search(pruning.journal.parent, pruner=MEDIAN)
    assert reopened.rows()[-1]["state"] == "pruned"
    assert reopened.ask().number == number + 1


def test_trials_are_told_where_to_report(tmp_path):
    search = open_search(tmp_path / "a b", pruner={**MEDIAN, "monitor": "val/swd"})
    where = [override for override in search.ask().overrides if "pruning" in override]
    assert where == [
        "pruning=validation",
        f'callbacks.pruning.journal="{tmp_path / "a b" / "search.journal"}"',
        "callbacks.pruning.study=search",
        "callbacks.pruning.trial=0",
        "callbacks.pruning.monitor=val/swd",
    ]


def test_reports_to_nowhere_are_refused(tmp_path, pruning):
    with pytest.raises(UserError, match=r"no such file; give pruning=null"):
        report(tmp_path / "none.journal", "search", 0, 0, 1.0, prune=True)
    for study, number in (("other", 0), ("search", 99)):
        with pytest.raises(UserError, match=f"no trial {number} of a search '{study}'"):
            report(pruning.journal, study, number, 0, 1.0, prune=True)
    assert os.listdir(tmp_path) == ["search.journal"]


# --- mistakes -------------------------------------------------------------------------

MISTAKES = [
    ({"space": {}}, "at least one key"),
    ({"space": {"a": [1, 2]}}, r"a must be \{choices"),
    ({"space": {"a": {"low": 1}}}, r"a must be \{choices"),
    ({"space": {"a": {"choices": []}}}, "search space: a: "),
    ({"space": {"a": {"low": 2, "high": 1}}}, "search space: a: "),
    ({"space": {"a": {"low": 1, "high": math.inf}}}, "low and high must be finite"),
    ({"space": {"a": {"low": math.nan, "high": 1}}}, "low and high must be finite"),
    ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "search space: a: "),
    ({"space": {"a": {"low": 0, "high": 1, "steps": 2}}}, "a has an unknown 'steps'"),
    ({"directions": {}}, "directions must give min or max"),
    ({"directions": {"loss": "least"}}, "directions must give min or max"),
    ({"trials": 0}, "trials must be at least 1; got 0"),
    ({"sampler": {"name": "best"}}, "sampler must have a name, one of tpe, random; got"),
    ({"sampler": "tpe"}, r"sampler must be a mapping, such as \{name: tpe\}; got 'tpe'"),
    ({"sampler": {"name": "tpe", "speed": 1}}, "sampler=tpe: .*speed"),
    ({"pruner": {"name": "axe"}}, "pruner must have a name, one of median, percentile, halving; got"),
    ({"pruner": {"name": "median", "speed": 1}}, "pruner=median: .*speed"),
    ({"pruner": MEDIAN, "directions": {"swd": "min", "time": "min"}}, "prunes searches of one metric only"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_mistakes_are_named_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        open_search(tmp_path, **given)
    assert not os.listdir(tmp_path)
