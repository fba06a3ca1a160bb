import pytest

from lit_ghibli.errors import UserError
from lit_ghibli.studies.cells import GridSource, SearchSource
from lit_ghibli.studies.ledger import Ledger
from lit_ghibli.studies.study import Study


def identify(cell):
    return " ".join(cell.overrides)


def study(**values) -> Study:
    values = {"grid": {}, "search": None, "metrics": {"loss": "min"}, **values}
    return Study("mine", "?", "", "train", (), seeds=(0,), trained=None, evaluate=None, compare=None, **values)


GRID = study(grid={"cycle": {"5": ("cycle=5",), "10": ("cycle=10",)}, "lr": {"1": ("lr=1",), "2": ("lr=2",)}})
SEARCH = study(
    search={"trials": 6, "space": {"method.lr": {"low": -2.0, "high": 2.0}, "data.size": {"choices": [1, 2]}}}
)


def states(source):
    return [entry.state for entry in source.entries()]


def take_all(source):
    return list(iter(source.take, None))


@pytest.mark.parametrize(("retry", "again"), [(False, []), (True, ["failed"])])
def test_a_grid_gives_what_is_not_done(tmp_path, retry, again):
    with Ledger(tmp_path) as ledger:
        first = GridSource(ledger, GRID, identify, retry=False)
        assert take_all(first) == [f"cycle={cycle} lr={lr} seed=0" for cycle in (5, 10) for lr in (1, 2)]
        for entry, state in zip(first.entries(), ("done", "failed", "interrupted", "running"), strict=True):
            entry.state = state
        ledger.save()
    with Ledger(tmp_path) as ledger:
        source = GridSource(ledger, GRID, identify, retry=retry)
        taken = [ledger.entries[key].state for key in take_all(source)]
        assert taken == [*again, "interrupted", "running"]
        assert source.total == 4
        assert source.entries()[0].folder == "cells/cycle-5_lr-1_seed-0_cycle=5 lr=1 seed=0"


def test_two_names_of_one_configuration_are_refused(tmp_path):
    twice = study(grid={"vgg": {"none": (), "without": ()}})
    with Ledger(tmp_path) as ledger, pytest.raises(UserError, match="'vgg=none, seed=0' and 'vgg=without, seed=0'"):
        GridSource(ledger, twice, identify, retry=False)


def test_a_factor_that_is_renamed_keeps_its_cells(tmp_path):
    with Ledger(tmp_path) as ledger:
        GridSource(ledger, study(grid={"vgg": {"none": ("a=1",)}}), identify, retry=False)
        renamed = GridSource(ledger, study(grid={"content": {"no": ("a=1",)}}), identify, retry=False)
        assert [entry.levels for entry in renamed.entries()] == [{"content": "no", "seed": "0"}]
        assert len(ledger.entries) == 1


def test_the_same_values_at_the_same_time_are_tried_once_and_told_twice(tmp_path):
    choices = study(search={"trials": 4, "space": {"data.size": {"choices": [1]}}})
    with Ledger(tmp_path) as ledger:
        source = SearchSource(ledger, choices, identify)
        key = source.take()
        assert source.take() is None
        with ledger.change(key) as entry:
            entry.state, entry.metrics = "done", {"loss": 1.0}
        source.ended(key)
        assert [row["state"] for row in source.search.rows()] == ["done"] * 4


def test_a_result_that_is_no_number_is_a_failed_trial_now_and_later(tmp_path):
    for program in range(2):
        with Ledger(tmp_path) as ledger:
            source = SearchSource(ledger, SEARCH, identify)
            if not program:
                with ledger.change(key := source.take()) as entry:
                    entry.state, entry.metrics = "done", {"loss": float("nan")}
                source.ended(key)
            assert [(entry.state, entry.error) for entry in source.entries()] == [("failed", ["loss is nan"])]


def run_search(folder, stop_after=99, stop_at="training"):
    """Trials of a loss that is known; None where it is stopped, after so many, before or after a training."""
    with Ledger(folder) as ledger:
        source = SearchSource(ledger, SEARCH, identify)
        for number, key in enumerate(iter(source.take, None)):
            entry = ledger.entries[key]
            if number == stop_after and stop_at == "training":
                return None
            rate = next(float(each.split("=")[1]) for each in entry.overrides if each.startswith("method.lr"))
            with ledger.change(key):
                entry.state, entry.metrics = "done", {"loss": rate**2}
            if number == stop_after:
                return None
            source.ended(key)
        return [(entry.overrides, entry.metrics, entry.state) for entry in source.entries()], source.search.best()


@pytest.mark.parametrize("stop_at", ["training", "telling"])
def test_a_search_goes_on_as_if_it_had_never_been_stopped(tmp_path, stop_at):
    straight, best = run_search(tmp_path / "straight")
    assert len(straight) == 6
    assert best["values"]["loss"] == min(metrics["loss"] for _, metrics, _ in straight)
    assert run_search(tmp_path / "stopped", stop_after=3, stop_at=stop_at) is None
    assert run_search(tmp_path / "stopped") == (straight, best)


def test_a_trial_that_a_stop_kept_from_beginning_is_asked_for_again(tmp_path):
    with Ledger(tmp_path) as ledger:
        source = SearchSource(ledger, SEARCH, identify)
        key = source.take()
        source.ended(key)
        assert source.search.rows() == []
    with Ledger(tmp_path) as ledger:
        assert SearchSource(ledger, SEARCH, identify).take() == key


def test_a_failed_trial_is_told_with_its_reason_and_others_follow(tmp_path):
    with Ledger(tmp_path) as ledger:
        source = SearchSource(ledger, SEARCH, identify)
        key = source.take()
        with ledger.change(key) as entry:
            entry.state, entry.error = "failed", ["Traceback", "nan at step 3"]
        source.ended(key)
        assert source.search.rows()[0]["why"] == "nan at step 3"
        assert source.take() not in (None, key)
