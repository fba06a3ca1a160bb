"""A run is repeated from its record: equal in everything that it measures, and safe whoever wrote the record."""

import csv
import json
import math
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from lit_ghibli.callbacks.record_file import FILE, read_record
from lit_ghibli.callbacks.run_record import RunRecord
from lit_ghibli.commands import to_overrides
from lit_ghibli.commands.rerun import _rerun, compare_metrics, compose_again, expand_run, verdict
from lit_ghibli.commands.train import fit, plain_and_links
from lit_ghibli.errors import UserError
from lit_ghibli.recipes import config_dir
from lit_ghibli.trust import check_run

IGNORED = ("LeafSpec", "does not have many workers", "in eval mode at the start of training")
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in IGNORED]


def train_config(*overrides: str, run_dir: Path | str = "/run"):
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return compose("train", [*overrides, "name=any", f'run_dir="{run_dir}"'])


def record_of(*overrides: str) -> dict:
    """What a run of these overrides records, as it is read from its file."""
    config, links = plain_and_links(train_config(*overrides))
    ended = {"state": "finished", "epochs": config["trainer"]["max_epochs"]}
    return json.loads(json.dumps({"config": config, "links": links, "attempts": [ended]}))


@pytest.fixture(scope="module")
def record():
    return record_of()


def rows_of(run: Path) -> list[dict[str, str]]:
    """A run's log without what depends on the clock."""
    with open(run / "metrics.csv", newline="") as file:
        return [
            {key: value for key, value in row.items() if not key.endswith(("wait_share", "seconds"))}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
def test_a_cell_of_a_multirun_repeated_is_equal_to_the_last_bit(tmp_path, tiny, cli):
    words = [*tiny, "method.epochs=1", "trainer.log_every_n_steps=1", "method.weights.cycle=5,20"]
    first = cli("train", "-m", *words, "hydra.sweep.dir=outputs/sweep", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    again = cli("rerun", "outputs/sweep/1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr

    cells = [tmp_path / "outputs" / "sweep" / number for number in "01"]
    (repeated,) = (tmp_path / "outputs").glob("rerun_1_*")
    assert rows_of(repeated) == rows_of(cells[1]) != rows_of(cells[0])
    assert len(rows_of(repeated)) >= 7
    assert re.search(r"equal: all \d+ metrics, to the last bit", again.stdout)
    for part in ("versions", "machine", "data"):
        assert f"another {part}" not in again.stdout + again.stderr

    before, after = read_record(cells[1]), read_record(repeated)
    (attempt,) = before["attempts"]
    assert attempt["command"].startswith("lit-ghibli train -m ")
    assert "method.weights.cycle=5,20" in attempt["command"]
    assert "method.weights.cycle=20" in attempt["overrides"]
    assert attempt["data"]["scenes"]["count"] == 7
    assert after["attempts"][0]["command"] == "lit-ghibli rerun outputs/sweep/1"
    assert (after["attempts"][0]["batches"], after["attempts"][0]["state"]) == (7, "finished")
    assert after["config"]["method"] == before["config"]["method"]
    assert after["links"] == before["links"]
    assert (repeated / "checkpoints" / "last.ckpt").is_file()
    assert (repeated / "pictures" / "epoch_0001.png").is_file()


def test_a_picture_painted_again_is_the_same(tmp_path, tiny_picture):
    config = train_config(*tiny_picture, "trainer.log_every_n_steps=1", run_dir=tmp_path / "one")
    fit(config, RunRecord(tmp_path / "one", *plain_and_links(config), "lit-ghibli train", []))
    (attempt,) = read_record(tmp_path / "one")["attempts"]
    assert attempt["data"]["content"]["images"] == 1
    assert attempt["data"]["style"]["images"] == 2
    repeat(tmp_path / "one", tmp_path / "two")
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")
    assert (tmp_path / "one" / "a.png").read_bytes() == (tmp_path / "two" / "a.png").read_bytes()


@pytest.fixture
def tiny_picture(pictures):
    content, *styles = pictures
    return [
        "experiment=nst_scratch",
        "trainer=cpu",
        f"method.content={content}",
        f"method.style=[{styles[0]},{styles[1]}]",
        "method.vgg.weights=random",
        "method.content_layers=[conv2_1]",
        "method.style_layers=[conv1_1]",
        "method.size=24",
        "method.start=noise",
        "method.levels=[[1,4]]",
        "method.epochs=2",
        "callbacks.progress_bar.refresh_rate=0",
    ]


def repeat(run: Path, folder: Path, *overrides: str, trust: bool = False) -> None:
    words = {"run": str(run), "overrides": list(overrides), "run_dir": str(folder), "trust": trust, "resume": None}
    _rerun(OmegaConf.create(words))


def test_what_followed_other_values_still_does(record):
    config = compose_again(record, ["seed=7", "method.epochs=3", "method.weights.cycle=2.5"], "/new/run", None)
    assert (config.seed, config.data.seed, config.metrics.seed) == (7, 7, 7)
    assert config.trainer.max_epochs == 3
    assert config.method.weights.cycle == 2.5
    assert config.callbacks.checkpoints.folder == "/new/run/checkpoints"
    assert config.callbacks.checkpoints.go_on == "lit-ghibli rerun resume={run}"
    assert config.logger.csv.save_dir == config.run_dir == "/new/run"
    assert (config.name, config.resume) == ("any", None), "what Hydra's command line alone knew is kept"


@pytest.mark.parametrize("experiment", ["cyclegan_hayao", "nijigan_hayao", "pix2pix_hayao", "nst_ghibli"])
def test_without_overrides_a_configuration_is_what_it_was(experiment):
    record = record_of(f"experiment={experiment}", "+resume_from=x\\${y}")
    config, links = plain_and_links(compose_again(record, [], "/run", None))
    config["callbacks"]["checkpoints"].pop("go_on")
    assert config == record["config"]
    assert config["resume_from"] == "x${y}"
    assert links == record["links"]


def test_values_are_added_and_removed(record):
    assert "pruning" not in compose_again(record_of("+callbacks.pruning.trial=3"), [], "/run", None).callbacks
    config = compose_again(record, ["+data.new=[1,2]", "~callbacks.doctor", "method.weights={gan: 3}"], "/run", None)
    assert config.data.new == [1, 2]
    assert "doctor" not in config.callbacks
    assert (config.method.weights.gan, config.method.weights.cycle) == (3, 10.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.epoch=3", r"method\.epoch=3.* has no 'method\.epoch'; did you mean method\.epochs"),
        ("~nothing", "has no 'nothing'"),
        ("trainer=ddp", r"'trainer' is a group of some: change single ones, as in trainer\.NAME="),
        ("seed=1,2", "a rerun takes one value"),
        ("seed=[1", r"seed=\[1: cannot be read: no viable alternative"),
    ],
)
def test_overrides_that_cannot_be(record, override, message):
    with pytest.raises(UserError, match=message):
        compose_again(record, [override], "/run", None)


def test_links_to_nowhere_are_damage(record):
    with pytest.raises(UserError, match=r"damaged: its links name 'data\.a\.b'"):
        compose_again({**record, "links": {"data.a.b": "${seed}"}}, [], "/run", None)


def typed(*words: str) -> list[str]:
    return expand_run(to_overrides("rerun", words))


@pytest.mark.parametrize(
    ("words", "expanded"),
    [
        (["outputs/a b"], ['run="{}/outputs/a b"']),
        (["run"], ['run="{}/run"']),
        (["x", "seed=1", "~data.flip"], ['run="{}/x"', 'overrides=["seed=1","~data.flip"]']),
        (["x", "trust=true", "hydra.run.dir=y"], ["trust=true", 'hydra.run.dir="y"', 'run="{}/x"']),
        (["--cfg", "job", "--help"], ["--cfg", "job", "--help"]),
    ],
)
def test_what_is_typed(tmp_path, monkeypatch, words, expanded):
    monkeypatch.chdir(tmp_path)
    expanded = [word.format(tmp_path) for word in expanded]
    assert typed(*words) == expanded
    again = typed(*expanded, "hydra/job_logging=stdout")
    assert again == [*expanded, "hydra/job_logging=stdout"], "in a further process"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b"], "one run at a time; got a, b"),
        (["a", "-m", "seed=1,2"], "rerun takes one value for each key, and no -m"),
        (["resume=outputs/x", "seed=2"], "goes on with the values that it has begun with.*seed=2"),
    ],
)
def test_what_cannot_be_typed(words, message):
    with pytest.raises(UserError, match=message):
        typed(*words)


def test_a_rerun_that_was_stopped_goes_on_in_its_folder(tmp_path):
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    (tmp_path / ".hydra").mkdir()
    overrides = ['run="/some/run"', 'overrides=["seed=1"]']
    (tmp_path / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    words = typed(f"resume={tmp_path}")
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("rerun", words, return_hydra_config=True)
    assert (config.run, config.overrides) == ("/some/run", ["seed=1"])
    assert (config.resume, config.hydra.run.dir) == (str(last), str(tmp_path))


def test_metrics_side_by_side():
    then = {"step": 9.0, "train/gan": 1.0, "val/l1": math.nan, "val/old": 1.0, "train/data_wait_share": 0.1}
    now = {"step": 8.0, "train/gan": 1.0, "val/l1": math.nan, "val/new": 2.0, "train/data_wait_share": 0.2}
    rows = compare_metrics(then, now)
    assert [row["metric"] for row in rows] == ["train/gan", "val/l1", "val/new", "val/old"]
    assert rows[0] == {"metric": "train/gan", "then": 1.0, "now": 1.0, "difference": 0.0}
    assert rows[2] == {"metric": "val/new", "then": None, "now": 2.0, "difference": None}
    assert verdict(rows[:2]) == "equal: all 2 metrics, to the last bit"
    assert verdict(rows) == "not equal: 2 of 4 metrics: val/new, val/old"
    assert verdict([]).startswith("not comparable")
    nearly = compare_metrics({"val/l1": 0.1 + 0.2}, {"val/l1": 0.3})
    assert verdict(nearly) == "not equal: 1 of 1 metrics: val/l1"
    assert abs(nearly[0]["difference"]) < 1e-16


def write(run: Path, record: dict) -> Path:
    run.mkdir()
    (run / FILE).write_text(json.dumps(record))
    return run


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["logger=tensorboard"],
        ["experiment=nst_scratch", "method.content=/a/b.jpg", "method.style=/a/c.jpg"],
        ["method=nijigan", "data=pseudo_paired", "data.root=/a/b", "metrics=publish"],
        ["method=pix2pix", "data=derived", "data.root=../a", "trainer=ddp"],
    ],
)
def test_the_suites_own_runs_are_accepted(overrides):
    check_run(record_of(*overrides)["config"], Path("run"))


EVIL = {"_target_": "os.mkdir", "path": "{trace}"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("callbacks.evil", EVIL, "os.mkdir in its .* is no part of the suite's own trainings"),
        ("callbacks.doctor.patience", EVIL, "os.mkdir in its .* is no part"),
        ("logger.evil", [EVIL], "os.mkdir in its .* is no part"),
        ("trainer._target_", "os.mkdir", "os.mkdir in its .* is no part"),
        ("trainer.strategy", EVIL, "os.mkdir in its .* is no part"),
        ("method.epochs", EVIL, "os.mkdir in its .* is no part"),
        ("data.flip", [[EVIL]], "os.mkdir in its .* is no part"),
        ("runtime.compile", EVIL, "os.mkdir in its .* is no part"),
        ("anything", EVIL, "os.mkdir in its .* is no part"),
        ("callbacks.evil", {"_target_": "lit_ghibli.callbacks.csv_log._drop_rows", "path": "x"}, "_drop_rows in its"),
        ("callbacks.evil", {"_target_": "lit_ghibli.callbacks.frames.Path"}, "frames.Path in its"),
        ("callbacks.evil", {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}, "ModelCheckpoint in its"),
        ("logger.w", {"_target_": "lit_ghibli.callbacks.wandb_run.RunWandbLogger"}, "or sends pictures away"),
        ("data.x", {"_target_": "lightning.Trainer"}, "lightning.Trainer in its data is no part"),
        ("callbacks.image_grid.folder", "{trace}", "no place below"),
        ("callbacks.image_grid.folder", "pictures", "no place below"),
        ("callbacks.image_grid.folder", "{new}", "no place below"),
        ("callbacks.checkpoints.folder", "{new}/../other", "no place below"),
        ("callbacks.checkpoints.folder", "~", "no place below"),
        ("logger.csv.save_dir", "{new}/$X", "no place below"),
        ("logger.csv.name", "../../x", "no place below"),
        ("logger.csv.sub_dir", "$HOME", "no place below"),
        ("trainer.x", "/etc", "no place below"),
        ("data.cache", "\\${{oc.env:HOME}}", "an interpolation, which may hide anything"),
    ],
)
def test_a_strangers_record_is_refused_before_anything_is_made(tmp_path, monkeypatch, record, key, value, message):
    monkeypatch.setenv("X", "../..")
    trace, new = tmp_path / "trace", tmp_path / "new"
    places = {"trace": str(trace), "new": str(new)}
    value = json.loads(json.dumps(value).replace("{trace}", str(trace)).replace("{new}", places["new"]))
    value = value.replace("{{", "{").replace("}}", "}") if isinstance(value, str) else value
    evil = json.loads(json.dumps(record))
    evil["links"].pop(key, None)
    place = evil["config"]
    for part in key.split(".")[:-1]:
        place = place[part]
    place[key.split(".")[-1]] = value
    with pytest.raises(UserError, match=message) as refusal:
        repeat(write(tmp_path / "run", evil), new)
    place = ".".join(key.split(".")[: 2 if key.startswith(("callbacks", "logger")) else 1])
    assert f" in its {place} is " in str(refusal.value)
    assert f"with ~{place}; or, only if you know whose it is" in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_links_hide_nothing(tmp_path, record):
    evil = json.loads(json.dumps(record))
    evil["config"]["name"] = "os.system"
    evil["links"]["callbacks.doctor._target_"] = "${name}"
    with pytest.raises(UserError, match=r"_target_=os\.system in its callbacks\.doctor is no part"):
        repeat(write(tmp_path / "run", evil), tmp_path / "new")


def test_whom_one_trusts_may_have_objects_of_any_class(tmp_path, monkeypatch, record):
    made = []
    monkeypatch.setattr("lit_ghibli.commands.rerun.fit", lambda config, record: made.append(config) or fail())
    other = json.loads(json.dumps(record))
    other["config"]["callbacks"]["mine"] = {"_target_": "my.own.Callback"}
    with pytest.raises(NotImplementedError):
        repeat(write(tmp_path / "run", other), tmp_path / "new", "seed=4", trust=True)
    assert made[0].callbacks.mine._target_ == "my.own.Callback"
    assert made[0].data.seed == 4


def fail():
    raise NotImplementedError


def test_a_folder_without_a_record_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"it has no record\.json"):
        repeat(tmp_path, tmp_path / "new")


def test_a_cache_elsewhere_is_not_made(tmp_path, record):
    other = {**record, "config": {**record["config"], "data": {**record["config"]["data"], "cache_dir": "/etc/new"}}}
    with pytest.raises(UserError, match=r"is no cache of yours. Give another with data\.cache_dir"):
        repeat(write(tmp_path / "run", other), tmp_path / "new")


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [("callbacks", None, "config.callbacks must be a mapping; got null"), ("method", [], "got a list of 0")],
)
def test_a_record_of_other_parts_is_damaged(tmp_path, record, part, value, message):
    other = {**record, "config": {**record["config"], part: value}, "links": {}}
    with pytest.raises(UserError, match=f"the run's record is damaged: .*{message}"):
        repeat(write(tmp_path / "run", other), tmp_path / "new")


@pytest.mark.parametrize(
    ("attempts", "message"),
    [
        ([{"state": "interrupted"}], "is interrupted: its last metrics are not those of its end"),
        ([{"state": "finished", "epochs": 7}], "ended after 7 of 50 epochs: trainer.max_epochs=7 repeats these alone"),
        (
            [{"state": "interrupted"}, {"state": "finished", "epochs": 50, "changed": {"method.epochs": [2, 3]}}],
            "was changed on its way, method.epochs from 2 to 3, which is repeated",
        ),
    ],
)
def test_what_keeps_a_run_from_being_repeated_is_said(tmp_path, monkeypatch, caplog, record, attempts, message):
    monkeypatch.setattr("lit_ghibli.commands.rerun.fit", lambda config, record: fail())
    with pytest.raises(NotImplementedError):
        repeat(write(tmp_path / "run", {**record, "attempts": attempts}), tmp_path / "new")
    assert [message in line for line in caplog.messages] == [True]
