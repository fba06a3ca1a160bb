"""What `lit-ghibli compare` takes, and that its numbers are those of `evaluate`."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from helpers.styles import made_style
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image

from lit_ghibli import checkpoints
from lit_ghibli.commands import compare, evaluate, to_overrides
from lit_ghibli.data import sources
from lit_ghibli.errors import UserError
from lit_ghibli.inference.measure import Outcome
from lit_ghibli.inference.nearest_training import Found
from lit_ghibli.inference.subjects import UNTOUCHED, _split_name, find_subjects, is_model, of_epochs
from lit_ghibli.recipes import config_dir
from lit_ghibli.scenes.scene import render_pair
from lit_ghibli.trust import instantiate_trusted

AWKWARD = ["a b", "a=b", "it's", 'say "x"', "a\\b", "x${y}", "a,b[1]{2}(3)", "süß 宮崎", "null", "~x", "a:b", "n:a=b"]
QUICK = "metrics.metrics=[ssim,l1]"
TRAINED = ["data=scenes", "data.count=5", "data.test_count=3", "data.size=32", "data.crop_size=32", "method=cyclegan"]
TRAINED += ["method.generator.base_channels=4", "method.generator.num_blocks=1", "method.discriminator.base_channels=4"]


@pytest.fixture(autouse=True)
def _hydra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "styles"))
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        yield


def composed(*words):
    return compose("compare", to_overrides("compare", list(words)))


def call(module, name, *words):
    """The command on what these words compose, without the program around it."""
    getattr(module, name).__wrapped__(compose(name, list(words)))


def made_run(folder, **data):
    """A run's folder with a fresh, tiny generator that is said to have been trained on scenes."""
    config = OmegaConf.to_container(compose("train", [*TRAINED, "name=any", "run_dir=any"]), resolve=True)
    config = {"method": config["method"], "data": config["data"] | data}
    torch.manual_seed(0)
    weights = instantiate_trusted(config["method"]).state_dict()
    checkpoints.save({"state_dict": weights, checkpoints.CONFIG_KEY: config}, folder / "checkpoints" / "last.ckpt")
    return folder


def test_epochs_of_one_run_stand_in_its_place():
    folder = Path("run/checkpoints")
    folder.mkdir(parents=True)
    for epoch in (10, 20, 50):
        (folder / f"epoch_{epoch:04d}.ckpt").touch()
    subjects = find_subjects(of_epochs(["run"], [10, 50]))
    assert subjects == {"epoch 10": folder / "epoch_0010.ckpt", "epoch 50": folder / "epoch_0050.ckpt"}
    assert of_epochs(["a", "b"], []) == ["a", "b"]
    with pytest.raises(UserError, match=r"run: no checkpoint of epoch 11, 30; it kept 10, 20, 50 .*keep_epochs=-1"):
        of_epochs(["mine:run"], [10, 11, 30])
    with pytest.raises(UserError, match=r"epochs=\[10\] are those of one run; given are 2 subjects"):
        of_epochs(["a", "b"], [10])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["costs=false", "profile.size=64"], "profile=.*size.*: that is of costs=true"),
        (["leakage=false", "duplicate_distance=2"], "duplicate_distance=2: that is of leakage=true"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(words, said):
    with pytest.raises(UserError, match=said):
        compare.compare.__wrapped__(composed("meadow", *words))


# --- what is typed -------------------------------------------------------------


@pytest.mark.parametrize("name", AWKWARD)
def test_any_path_arrives(name):
    Path(name).mkdir(parents=True)
    config = composed(name, f"ours:{name}", "--out", "my out")
    assert list(config.subjects) == [name, f"ours:{name}"]
    assert config.out == "my out"
    assert [path for _, path in map(_split_name, config.subjects)] == [Path(name), Path(name)]


def test_subjects_and_values_are_told_apart():
    Path("runs").mkdir()
    words = ["runs", "x:runs", "not there", "data.root=/x", "profile.size=64", "costs=false", "photos=a:runs", "--help"]
    assert to_overrides("compare", words) == [
        "--help",
        '++data.root="/x"',
        "++profile.size=64",
        "costs=false",
        'photos="a:runs"',
        'subjects=["runs","x:runs","not there"]',
    ]


def test_names_are_given_or_made():
    for folder in ("a/results", "b/results", "run/checkpoints", "with:colon"):
        Path(folder).mkdir(parents=True)
    Path("run/checkpoints/best.ckpt").touch()
    words = ["a/results", "b/results", "run", "run/checkpoints/best.ckpt", "ours:run", "with:colon"]
    assert find_subjects(words) == {
        "a/results": Path("a/results"),
        "b/results": Path("b/results"),
        "run": Path("run"),
        "run best": Path("run/checkpoints/best.ckpt"),
        "ours": Path("run"),
        "with:colon": Path("with:colon"),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is to be compared"),
        (["nowhere"], "nowhere: no such run, checkpoint or folder"),
        (["name:nowhere"], "nowhere: no such run"),
        (["x:here", "x:there"], "two columns would be called 'x'"),
        (["here", "here"], "two columns would be called 'here'"),
        (["target:here"], "two columns would be called 'target'"),
        (["paintre"], "paintre: no such run, checkpoint or folder of pictures, and no style; did you mean painter?"),
        (["painter", "painter"], "two columns would be called 'painter'"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, message):
    Path("here").mkdir()
    Path("there").mkdir()
    with pytest.raises(UserError) as error:
        find_subjects(words)
    assert message in str(error.value)


def test_a_styles_name_is_a_subject_unless_it_is_a_path():
    made_style(Path("styles"))
    expected = {"mine": Path("mine"), "x": Path("mine"), "painter": Path("painter")}
    assert find_subjects(["mine", "x:mine", "painter"]) == expected
    assert all(is_model(path) for path in expected.values())
    Path("mine").mkdir()
    assert not is_model(find_subjects(["mine"])["mine"])


def test_a_run_is_told_from_a_folder_of_pictures():
    Path("run/checkpoints").mkdir(parents=True)
    Path("begun/.hydra").mkdir(parents=True)
    Path("pictures").mkdir()
    Path("file.ckpt").touch()
    names = ("run", "begun", "pictures", "file.ckpt")
    assert [is_model(Path(name)) for name in names] == [True, True, False, True]


# --- held-out pictures ---------------------------------------------------------


def test_held_out_pictures_are_the_runs_unless_others_are_given():
    Path("p").mkdir()
    Path("t").mkdir()
    of_run = {"root": "/run", "eval_size": 64}
    assert compare.data_config(composed("data.eval_size=32"), of_run) == {"root": "/run", "eval_size": 32}
    given = compare.data_config(composed("photos=p", "targets=t", "data.eval_size=32"), of_run)
    assert (given["test_photo"], given["test_anime"]) == (str(Path("p").absolute()), str(Path("t").absolute()))
    assert (given["eval_size"], given["on_bad_file"]) == (32, "error")
    alone = compare.data_config(composed("data.root=/x", "on_bad_file=skip"), None)
    assert (alone["root"], alone["test_photo"], alone["on_bad_file"]) == ("/x", "testA", "skip")
    painted = compare.data_config(composed("data=painted", "data.root=/x", "data.load_size=32"), of_run)
    assert (painted["root"], painted["eval_size"], painted["seed"]) == ("/x", 32, 0)
    assert painted["_target_"].endswith("from_painted")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give data=painted data.root=FOLDER of photographs, or photos=FOLDER and targets=FOLDER, or data.root="),
        (["photos=p", "targets=p", "data=painted"], "photos= and data= are two ways"),
        (["photos=p"], "photos is given alone"),
        (["photos=p", "targets=nowhere"], "targets=nowhere: no such folder"),
    ],
)
def test_unknown_held_out_pictures_are_asked_for(words, message):
    Path("p").mkdir()
    with pytest.raises(UserError) as error:
        compare.data_config(composed(*words), None)
    assert message in str(error.value)


# --- the whole -----------------------------------------------------------------


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def page_cells(name):
    """Numbers of a row of the page's first table."""
    text = Path("out/compare.html").read_text(encoding="utf-8")
    row = re.search(rf'(?s)<tr[^>]*>\s*<th scope="row" data-value="{re.escape(name)}">.*?</tr>', text)[0]
    return [float(value) for value in re.findall(r'<td data-value="([^"]*)"', row)]


def test_numbers_are_those_of_evaluate_and_of_a_folder_of_its_outputs(capsys):
    run = made_run(Path("run"))
    call(evaluate, "evaluate", f"checkpoint={run}", "out=evaluated")
    call(compare, "compare", "subjects=[run,same:evaluated/translated]", "out=out", "costs=false", "leakage=false")
    metrics = ["ssim", "psnr", "mse", "l1", "flat", "contours", "content_mse", "content_psnr", "swd"]
    expected = {row["pictures"]: row for row in json.loads(Path("evaluated/metrics.json").read_text())}
    ours = {row["name"]: row for row in json.loads(Path("out/metrics.json").read_text())}
    for name, theirs in ((UNTOUCHED, "untouched input"), ("run", "output"), ("same", "output")):
        shared = [*metrics, "images", "protocol", "ssim_low", "ssim_high", "real_set"]
        assert {key: ours[name][key] for key in shared} == {key: expected[theirs][key] for key in shared}
        assert page_cells(name) == [float(ours[name][metric]) for metric in metrics]
    assert ours["run"]["checkpoint_sha256"] == expected["output"]["checkpoint_sha256"]
    assert ours["run"]["protocol"] in Path("out/compare.html").read_text()
    assert "page: out/compare.html" in capsys.readouterr().out
    assert {path.name for path in Path("out").iterdir()} == {
        "compare.html", "comparison.json", "metrics.csv", "metrics.json", "metrics.md", "metrics.tex"
    }  # fmt: skip


def test_what_people_thought_is_a_column_of_every_table(capsys):
    made_run(Path("run"))
    rows = [{"aspect": aspect, "method": name, "mos": mos, "mos_low": mos - 1, "mos_high": mos + 0.5, "raters": 3}
            for aspect, scores in {"style": (2, 3), "mean of aspects": (2.5, 3.25)}.items()
            for name, mos in zip(("b", "elsewhere"), scores, strict=True)]  # fmt: skip
    Path("scores.json").write_text(json.dumps(rows))
    words = ["subjects=[run,b:run]", "out=out", "costs=false", "leakage=false", QUICK]
    call(compare, "compare", *words, "mos=scores.json")
    cells = [("", "", ""), ("", "", ""), ("2.5", "1.5", "3.0")]
    table = read_csv("out/metrics.csv")
    assert [(row["mos"], row["mos_low"], row["mos_high"]) for row in table] == cells
    assert list(table[0]).index("mos") == list(table[0]).index("l1") + 1, "beside the other metrics"
    assert [row["mos"] for row in json.loads(Path("out/metrics.json").read_text())] == [None, None, 2.5]
    assert "2.5 [1.5, 3]" in Path("out/metrics.md").read_text()
    assert r"MOS $\uparrow$" in Path("out/metrics.tex").read_text()
    page = Path("out/compare.html").read_text()
    assert page.count('<td data-value="2.5"') == 1
    told = "scores.json also rates elsewhere: not compared."
    assert told in page
    assert told in capsys.readouterr().out


def test_costs_are_measured_and_have_a_table_of_their_own(monkeypatch):
    asked = []

    def measured(settings):
        asked.append(settings)
        row = {"method": settings["name"], "seconds_2": 0.5, "peak_mib": None, "parameters_m": 1.5, "tflop": 0.25}
        conditions = {"size": settings["size"], "batch_size": 1, "device": "a chip", "threads": 2, "torch": "9"}
        return {**row, "tflop_per_s": 8.0, "nfe": None, **conditions}

    monkeypatch.setattr(compare, "measure_apart", measured)
    run = made_run(Path("run"))
    words = ["subjects=[run,b:run]", "out=out", "leakage=false", "++profile.size=48", "++profile.repeats=[2]", QUICK]
    call(compare, "compare", *words)
    assert [each["name"] for each in asked] == ["run", "b"]
    assert asked[0]["checkpoint"] == str(run / "checkpoints/last.ckpt")
    assert (asked[0]["size"], asked[0]["repeats"], asked[0]["device"]) == (48, [2], "cpu")
    rows = {row["name"]: row for row in read_csv("out/metrics.csv")}
    assert (rows["run"]["seconds_2"], rows["run"]["parameters_m"], rows[UNTOUCHED]["seconds_2"]) == ("0.5", "1.5", "")
    assert not {"peak_mib", "nfe", "tflop_per_s"} & rows["run"].keys(), "nobody has them, or they are no cost"
    page = Path("out/compare.html").read_text()
    assert "1 x 48 x 48 pixels on a chip, 2 threads, torch 9" in page
    assert page.count("<svg") == 2 * 2, "parameters and seconds, of two metrics"
    assert "Parameters (M)" in Path("out/costs.tex").read_text()
    assert "Parameters" not in Path("out/metrics.tex").read_text()


def test_a_held_out_picture_that_another_run_was_trained_on_is_found(monkeypatch):
    monkeypatch.setattr(sources, "FIRST_HELD_OUT", 10)  # so early that a run can be trained on them
    made_run(Path("clean"))
    made_run(Path("leaky"), count=15)  # whose scenes to train on are those that the first holds out
    call(compare, "compare", "subjects=[clean,leaky]", "out=out", "costs=false", "duplicate_distance=0", QUICK)
    found = [row for row in read_csv("out/nearest.csv") if row["bits"] == "0"]
    copies = [(row["method"], row["name"], row["trained"], row["training"]) for row in found]
    assert copies == [(UNTOUCHED, f"00000{n}", "leaky", f"{10 + n:06d}") for n in range(3)]
    rows = {row["name"]: row["near_duplicates"] for row in read_csv("out/metrics.csv")}
    assert rows == {UNTOUCHED: "3", "clean": "0", "leaky": "0"}
    assert "3 of the inputs repeat what leaky was trained on." in Path("out/compare.html").read_text()


def test_the_page_shows_near_duplicates_and_the_two_nearest_pairs_of_each_method():
    bits = {"a": (3, 9, 9, 20, 4, 2), "b": (30, 12, 11)}
    found = [
        Found(method, str(number), "a", "x", distance, 0.0, None)
        for method, distances in bits.items()
        for number, distance in enumerate(distances)
    ]
    outcomes = {method: Outcome(pictures={str(number): None for number in range(5)}) for method in bits}
    pairs = compare._pairs(found, outcomes, 6)
    assert [(pair.method, pair.bits) for pair in pairs] == [("a", 3), ("a", 4), ("b", 11), ("b", 12)]
    assert [pair.is_duplicate for pair in pairs] == [True, True, False, False]


def test_folders_alone_are_compared_on_given_photographs():
    for folder, side in (("p", 0), ("t", 1), ("x", 1), ("y", 0)):
        Path(folder).mkdir()
        for number in range(3 - (folder == "y")):
            Image.fromarray(render_pair(0, number, 64)[side]).save(f"{folder}/{number}.png")
    words = ["subjects=[x,y]", "photos=p", "targets=t", "out=out", "++data.eval_size=32", QUICK]
    with pytest.raises(UserError, match=r"y: 2\.png has no picture"):
        call(compare, "compare", *words)
    call(compare, "compare", *words, "on_bad_file=skip")
    rows = {row["name"]: row for row in json.loads(Path("out/metrics.json").read_text())}
    assert {row["images"] for row in rows.values()} == {2}
    assert [rows[name]["resized"] for name in (UNTOUCHED, "x", "y")] == [0, 2, 2]
    assert rows["x"]["ssim"] > rows["y"]["ssim"] > 0
    page = Path("out/compare.html").read_text()
    assert "1 inputs are left out, of which a folder has no picture." in page
    assert "Not checked, since training pictures cannot be read" in page


def test_styles_stand_beside_runs_without_what_only_a_run_has(monkeypatch):
    made_style(Path("styles"))
    made_run(Path("run"))
    asked = {}

    def measured(settings):
        asked[settings["name"]] = settings["checkpoint"]
        row = {"method": settings["name"], "seconds_5": 0.5, "peak_mib": 2.0, "parameters_m": 1.5, "tflop": None}
        conditions = {"size": settings["size"], "batch_size": 1, "device": "a chip", "threads": 2, "torch": "9"}
        return {**row, "tflop_per_s": None, "nfe": None, **conditions}

    monkeypatch.setattr(compare, "measure_apart", measured)
    call(compare, "compare", "subjects=[mine,run,chain:painter]", "out=out", QUICK)
    assert asked == {"mine": "mine", "run": "run/checkpoints/last.ckpt", "chain": "painter"}
    rows = {row["name"]: row for row in read_csv("out/metrics.csv")}
    assert list(rows) == [UNTOUCHED, "mine", "run", "chain"]
    assert [row["near_duplicates"] for row in rows.values()] == ["0", "", "0", ""]
    assert [row["source"] for row in rows.values()] == ["-", "mine", "run/checkpoints/last.ckpt", "painter"]
    assert len({row["l1"] for row in rows.values()}) == 4
    assert {row["peak_mib"] for name, row in rows.items() if name != UNTOUCHED} == {"2.0"}
    assert "1 run and 2 styles, measured by the same metrics" in Path("out/compare.html").read_text()


def test_styles_alone_are_compared_on_given_data():
    made_style(Path("styles"))
    with pytest.raises(UserError, match=r"neither styles nor folders .* give data=painted"):
        call(compare, "compare", "subjects=[mine]", "out=out", QUICK)
    words = ["data=scenes", "++data.count=5", "++data.test_count=2", "++data.size=32", "++data.crop_size=32"]
    call(compare, "compare", "subjects=[mine]", "out=out", "costs=false", *words, QUICK)
    rows = {row["name"]: row for row in json.loads(Path("out/metrics.json").read_text())}
    assert [row["images"] for row in rows.values()] == [2, 2]
    assert "near_duplicates" not in rows["mine"], "nothing was trained here"
    assert not Path("out/nearest.csv").exists()
    assert "Near-duplicates" not in Path("out/compare.html").read_text()
