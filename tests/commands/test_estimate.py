"""A dry run of each method: what it reports, and that it leaves nothing behind."""

import inspect
import json

import pytest
from hydra.errors import InstantiationException

from lit_ghibli.commands.estimate import dry_run
from lit_ghibli.commands.estimate import estimate as command
from lit_ghibli.commands.train import train
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import compose

IGNORED = ("LeafSpec", "does not have many workers", "in eval mode at the start of training", "logging interval")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]  # Lightning's, of itself and advice
pytestmark.append(pytest.mark.usefixtures("composing"))
NAMES = ["name=any", "run_dir=any"]


def figures_of(*overrides):
    return dry_run(compose("estimate", [*NAMES, *overrides]))


@pytest.mark.trains
def test_every_method_is_forecast_and_nothing_is_written(tiny_of_any_method, translates, tmp_path):
    figures = figures_of(*tiny_of_any_method, "method.epochs=3", "steps=9", "warm_up=3", "validation_pictures=1")
    assert figures["steps_per_epoch"] == 7
    assert (figures["steps_left"], figures["epochs"]) == (21, 3)
    assert figures["steps_measured"] >= 5
    assert figures["eta_seconds"] == pytest.approx(figures["seconds_per_iteration"] * 21)
    validations = figures["validations_left"] * figures["validation_seconds"]
    assert figures["eta_with_validation_seconds"] == pytest.approx(figures["eta_seconds"] + validations)
    whole = figures["startup_seconds"] + figures["eta_with_validation_seconds"]
    assert figures["total_seconds"] == pytest.approx(whole)
    assert 0 < figures["seconds_p10"] <= figures["seconds_per_iteration"] <= figures["seconds_p90"]
    assert 0 <= figures["waiting_share"] < 1
    assert min(figures["checkpoint_mib"], figures["host_peak_mib"]) > 0
    held_out = (3, 2, 4) if translates else (0, 0, 0)
    assert tuple(figures[f"validation{name}"] for name in ("s_left", "_measured", "_pictures")) == held_out
    rate = figures["images_per_second"]
    assert rate == pytest.approx(1 / figures["seconds_per_iteration"]) if translates else rate is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "validations"),
    [([], 5), (["trainer.check_val_every_n_epoch=2"], 2), (["+trainer.limit_val_batches=0"], 0)],
)
def test_validations_are_counted_as_the_training_makes_them(tiny, settings, validations):
    figures = figures_of(*tiny, "method.epochs=5", "steps=1", *settings)
    assert figures["validations_left"] == validations


def test_max_time_ends_the_forecast(tiny):
    figures = figures_of(*tiny, "method.epochs=1000000", "trainer.max_time=00:00:20:00", "steps=2")
    assert figures["total_seconds"] == pytest.approx(figures["startup_seconds"] + 1200)
    assert figures["steps_left"] == 7_000_000


@pytest.mark.parametrize(
    "mistake",
    [
        ["trainer=cpu", "data=unpaired"],
        ["trainer=cpu", "data=unpaired", "data.root=nowhere"],
        ["trainer=cpu", "data=scene_pairs"],
        ["trainer=cpu", "method=nst"],
        ["trainer=cpu", "resume=nowhere"],
        ["TINY", "data.batch_size=8"],
    ],
)
def test_mistakes_have_the_words_of_a_training(tiny, mistake):
    mistake = [override for word in mistake for override in (tiny if word == "TINY" else [word])]
    messages = []
    for name, function in (("estimate", dry_run), ("train", inspect.unwrap(train))):
        with pytest.raises((UserError, InstantiationException)) as error:
            function(compose(name, [*NAMES, *mistake]))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("steps=0", "steps must be a whole number of at least 1; got 0"),
        ("warm_up=-1", "warm_up must be a whole number of at least 0; got -1"),
        ("validation_pictures=x", "validation_pictures must be a whole number of at least 1; got 'x'"),
    ],
)
def test_numbers_that_are_none_are_refused(value, message):
    with pytest.raises(UserError) as error:
        figures_of(value)
    assert str(error.value) == message


def test_the_table_is_printed_and_written(tiny, tmp_path, capsys):
    inspect.unwrap(command)(compose("estimate", [*NAMES, *tiny, "steps=3", "out=here"]))
    assert "seconds per iteration" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]
    (row,) = json.loads((tmp_path / "here/estimate.json").read_text())
    assert row["steps_left"] == 350


def test_the_rest_of_a_run_is_forecast_and_the_run_left_as_it_is(tiny, tmp_path):
    run = ["name=any", "run_dir=run", *tiny]
    inspect.unwrap(train)(compose("train", [*run, "method.epochs=1"]))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    rest = dry_run(compose("estimate", [*run, "method.epochs=3", "steps=2", "resume=run"]))
    assert (rest["steps_left"], rest["validations_left"]) == (14, 2)
    with pytest.raises(UserError, match=r"nothing is left of this training: all method.epochs = 1 are done"):
        dry_run(compose("estimate", [*run, "method.epochs=1", "resume=run"]))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
