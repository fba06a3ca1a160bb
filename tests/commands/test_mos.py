"""A study from the photographs to the scores, with raters whose opinions are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.opinions import answers, made_key, write
from helpers.styles import made_style
from hydra import compose
from PIL import Image

from lit_ghibli.commands import compare, mos_build, mos_score, to_overrides
from lit_ghibli.commands.mos_build import parse_methods
from lit_ghibli.commands.mos_score import _note_on_power, find_answers
from lit_ghibli.errors import UserError
from lit_ghibli.scenes.scene import render_pair

METHODS = ["nijigan", "scenimefy"]


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def test_forms_of_methods():
    expected = {"a": Path("x/y"), "b": Path("c:/z")}
    assert parse_methods({"a": "x/y", "b": "c:/z"}) == parse_methods(["a:x/y", "b:c:/z"]) == expected
    assert parse_methods("a:x/y") == {"a": Path("x/y")}
    with pytest.raises(UserError, match="nearest:art is a style without a name of its own: give NAME:nearest:art"):
        parse_methods(["nearest:art"])
    with pytest.raises(UserError, match="methods takes NAME:FOLDER; got 'x/y'"):
        parse_methods(["x/y"])
    with pytest.raises(UserError, match="names 'a' twice"):
        parse_methods(["a:x", "a:y"])
    assert parse_methods({"a: b": "c"}) == {"a: b": Path("c")}
    for nothing in ({}, []):
        with pytest.raises(UserError, match=r"methods names none: methods=\[NAME:FOLDER,STYLE\]"):
            parse_methods(nothing)
    with pytest.raises(UserError, match="methods: a needs a folder, a style or a run; got None"):
        parse_methods({"a": None})


def test_a_style_is_a_method_of_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(tmp_path / "styles"))
    made_style(tmp_path / "styles")
    assert parse_methods(["a:x", "mine"]) == {"a": Path("x"), "mine": Path("mine")}
    assert parse_methods("painter") == {"painter": Path("painter")}
    with pytest.raises(UserError, match="'mien', which is no style either; did you mean mine"):
        parse_methods(["mien"])


def test_styles_paint_what_is_rated(cli, tmp_path):
    made_style(tmp_path / "styles")
    fill(tmp_path / "photos", "1.jpg", "2.jpg", "3.jpg")
    fill(tmp_path / "mine", "1.png", "3.png")  # a folder, whatever styles there are
    words = [
        "mos",
        "build",
        "inputs=photos",
        "methods=[mine,ours:mine,theirs:other,painter]",
        "sets=2",
        "checks.repeated=1",
    ]
    made_style(tmp_path / "styles", "other")
    styles = {"LIT_GHIBLI_STYLES": str(tmp_path / "styles")}
    refused = cli(*words, "--out", "study", cwd=tmp_path, **styles)
    assert "methods takes NAME:FOLDER; got 'mine'" in refused.stderr
    result = cli(
        *words[:3], "methods=[ours:mine,theirs:other,painter]", *words[4:], "--out", "study", cwd=tmp_path, **styles
    )
    assert result.returncode == 0, result.stderr
    assert "2 of the 2 photographs of which every method has a picture" in result.stdout
    key = json.loads((tmp_path / "study/key.json").read_text(encoding="utf-8"))
    assert key["methods"] == ["ours", "theirs", "painter"]
    assert all(len(image_set["pictures"]) == 3 for image_set in key["sets"])


def test_a_study_is_built_and_kept(cli, tmp_path):
    fill(tmp_path / "my photos", "1.jpg", "2.jpg", "3.jpg")
    for method in METHODS:
        fill(tmp_path / method, "1.png", "2.png", "3.png")
    Image.new("RGB", (9, 8)).save(tmp_path / "nijigan/3.png")
    words = ["mos", "build", "inputs=my photos", "methods={nijigan: nijigan, scenimefy: scenimefy}", "sets=3"]
    result = cli(*words, "--out", "study", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    key = json.loads((tmp_path / "study/key.json").read_text(encoding="utf-8"))
    assert (key["methods"], key["mode"], len(key["sets"]), key["scale"]) == (METHODS, "ratings", 3, 5)
    page = (tmp_path / "study/rate.html").read_text(encoding="utf-8")
    assert all(identity in page for image_set in key["sets"] for identity in image_set["pictures"])
    assert key["id"] in page
    assert "note: the methods' pictures differ in size, which may tell them apart: 3.jpg" in result.stdout
    wrong = cli(*words, "--out", "new", "mode=best", cwd=tmp_path)
    assert wrong.stderr.strip() == "lit-ghibli mos build: mode must be ratings or best_of; got 'best'"
    again = cli(*words, "--out", "study", cwd=tmp_path)
    assert again.returncode == 1
    assert "answers to that study need it" in again.stderr
    assert json.loads((tmp_path / "study/key.json").read_text(encoding="utf-8")) == key


def call(command, *words: str) -> None:
    name = command.__name__.rpartition(".")[2]
    getattr(command, name).__wrapped__(compose(name, to_overrides(name.replace("mos_", "mos "), list(words))))


@pytest.mark.slow
@pytest.mark.usefixtures("composing")
def test_a_comparison_is_rated_and_its_table_gets_the_scores(monkeypatch, capsys):
    """Of a style and of a folder of pictures; a rater who answers by lot is not counted."""
    monkeypatch.setenv("LIT_GHIBLI_STYLES", str(Path("styles").absolute()))
    made_style(Path("styles"))
    for number in range(4):
        photo = Image.fromarray(render_pair(0, number, 40)[0])
        for folder in ("photos", "theirs"):
            Path(folder).mkdir(exist_ok=True)
            photo.resize((32, 32)).save(Path(folder, f"{number}.png"))
    data = ["data=painted", "data.root=photos", "data.held_out=9", "data.load_size=32", "data.crop_size=32"]
    words = ["mine", "theirs:theirs", *data, "metrics.metrics=[ssim,l1]", "costs=false", "leakage=false", "device=cpu"]
    call(compare, *words, "out=compared")
    call(mos_build, "compared", "sets=3", "checks.repeated=1")
    assert "3 of the 4 photographs of which every method has a picture" in capsys.readouterr().out
    key = json.loads(Path("compared/opinion/key.json").read_text())
    assert key["methods"] == ["mine", "theirs"]
    assert {image_set["input"] for image_set in key["sets"]} <= {f"{number}.png" for number in range(4)}
    rng = np.random.default_rng(0)
    given = rng.integers(1, 4, (6, len(key["aspects"]), 3, 2)) + np.array([2, 0])
    for rater in range(6):

        def opinion(aspect, number, method, rater=rater):
            return int(given[rater, key["aspects"].index(aspect), number, key["methods"].index(method)])

        write(Path("answers"), f"{rater}.json", answers(key, f"r{rater}", opinion))
    write(Path("answers"), "lot.json", answers(key, "lot", lambda *_: int(rng.integers(1, 5)), wrong=2))
    call(mos_score, "answers", "key=compared/opinion/key.json")
    assert "6 of 7 raters counted" in capsys.readouterr().out
    call(compare, *words, "mos=compared/opinion/scores/scores.json", "out=again")
    rows = {row["name"]: row for row in json.loads(Path("again/metrics.json").read_text())}
    assert rows["untouched input"]["mos"] is None
    assert [rows[name]["mos"] for name in key["methods"]] == pytest.approx(given.mean(axis=(0, 1, 2)))
    assert rows["mine"]["mos_low"] < rows["mine"]["mos"] < rows["mine"]["mos_high"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what is to be rated? Give the folder of a comparison; or inputs="),
        (["inputs=x", "methods=[a:x]"], "what is to be rated"),
        (["x", "inputs=x"], "leave inputs= and methods= out"),
        (["x"], "x: no folder that `lit-ghibli compare` has written, for it has no comparison.json"),
    ],
)
@pytest.mark.usefixtures("composing")
def test_what_cannot_be_rated_is_a_line(words, said):
    with pytest.raises(UserError) as error:
        call(mos_build, *words)
    assert said in str(error.value)
    assert not Path("x").exists()


def read(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_known_opinions_come_out_as_scores(cli, tmp_path):
    key = made_key("ratings", METHODS, 3)
    write(tmp_path / "study", "key.json", key)
    rng = np.random.default_rng(0)
    given = rng.integers(1, 4, (8, 2, 3, 2)) + np.array([2, 0])  # raters, aspects, sets, methods: the first is better

    def opinion_of(rater):
        return lambda aspect, number, method: int(
            given[rater, key["aspects"].index(aspect), number, METHODS.index(method)]
        )

    folder = tmp_path / "my answers"
    for rater in range(8):
        write(folder, f"{rater}.json", answers(key, f"r{rater}", opinion_of(rater)))
    write(folder, "double.json", {**answers(key, "r0", opinion_of(1)), "finished": "2025"})
    write(folder, "hasty.json", answers(key, "hasty", opinion_of(1), seconds=0.5, wrong=2))
    write(folder, "other.json", {**answers(key, "other", opinion_of(1)), "study": "s"})
    (folder / "damaged.json").write_text("{", encoding="utf-8")
    files = sorted(str(path.relative_to(tmp_path)) for path in folder.iterdir())
    result = cli("mos", "score", *files, "key=study/key.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "8 of 12 raters counted, the others not:" in result.stdout
    scores = {(row["aspect"], row["method"]): row for row in read(tmp_path / "study/scores/scores.csv")}
    for number, aspect in enumerate(key["aspects"]):
        for column, method in enumerate(METHODS):
            assert float(scores[aspect, method]["mos"]) == pytest.approx(given[:, number, :, column].mean())
            assert scores[aspect, method]["raters"] == "8"
    summary = read(tmp_path / "study/scores/summary.csv")
    assert [float(row["mos"]) for row in summary] == pytest.approx(given.mean(axis=(0, 1, 2)))
    assert "nijigan" in (tmp_path / "study/scores/summary.tex").read_text(encoding="utf-8")
    (style, *_) = read(tmp_path / "study/scores/pairs.csv")
    assert (style["better"], style["other"], style["significant"]) == (*METHODS, "yes")
    assert float(style["p"]) == 2 / 2**8
    why_not = {Path(row["file"]).stem: row["why_not"] for row in read(tmp_path / "study/scores/raters.csv")}
    assert {name for name, reason in why_not.items() if not reason} == set(map(str, range(8)))
    assert why_not["hasty"] == "failed 2 of 3 attention checks (2 instructed); too fast: 0.5 s per screen"
    assert why_not["double"].startswith("the same rater as my answers/0.json")
    assert why_not["other"] == "of another study: 's', not 'study1'"
    assert why_not["damaged"].startswith("damaged: no JSON")


def test_answers_are_found_once_and_the_key_is_none(tmp_path):
    key = write(tmp_path, "key.json", {})
    a, b = write(tmp_path, "a.json", {}), write(tmp_path, "b.json", {})
    out = tmp_path / "scores"
    assert find_answers([b, tmp_path, tmp_path / "a.json"], key, out) == ([b, a], [])
    with pytest.raises(UserError, match="no answers in nothing: lit-ghibli mos score"):
        find_answers([], key, out)
    with pytest.raises(UserError, match="x: no such file or folder of answers"):
        find_answers([tmp_path / "x"], key, out)


def test_answers_are_found_however_they_arrived(tmp_path):
    key = write(tmp_path, "key.json", {})
    sent = [
        write(tmp_path / folder, name, {}) for folder, name in (("", "a.JSON"), ("", "b.json.txt"), ("x/y", "c.json"))
    ]
    passed_over = write(tmp_path, "notes.txt", {})
    write(tmp_path, ".DS_Store", {})
    write(tmp_path / "scores", "summary.json", {})
    assert find_answers([tmp_path], key, tmp_path / "scores") == (sent, [passed_over])
    assert find_answers([passed_over], key, tmp_path / "scores") == ([passed_over], []), "what is typed is meant"


def test_too_few_raters_are_told():
    """Five unanimous raters have p = 2/32; ten have 2/1024, and 0.03 after Holm's 15 pairs."""
    assert "p-value of the clearest of 1 pairs would still be 0.062" in _note_on_power(5, 2)
    assert _note_on_power(6, 2) == _note_on_power(10, 6) == _note_on_power(1, 1) == ""
    assert "of 15 pairs would still be 0.059" in _note_on_power(9, 6)
