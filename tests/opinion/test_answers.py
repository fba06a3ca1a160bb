import json
import os

import pytest
from helpers.opinions import answers, made_key, write

from lit_ghibli.errors import UserError
from lit_ghibli.opinion.answers import (
    AnswersError,
    Thresholds,
    find_doubles,
    read_answers,
    read_key,
    score_table,
)

LIMITS = Thresholds(failed_checks=1, seconds=2.0, same=0.95, disagreement=1.0)
RATINGS = made_key("ratings", ["a", "b"], 2)
BEST_OF = made_key("best_of", ["a", "b", "c"], 3)


def varied(aspect, number, method):
    return 1 + (len(aspect) + 2 * number + "ab".index(method)) % 3


def faults(folder, key=RATINGS, opinion=varied, **options):
    return read_answers(write(folder, "x.json", answers(key, "r", opinion, **options)), key).faults(LIMITS)


def test_scores_find_their_methods(tmp_path):
    content = answers(RATINGS, "r", varied)
    content["screens"].reverse()  # every rater has another order
    table = score_table(read_answers(write(tmp_path, "x.json", content), RATINGS), RATINGS)
    by_hand = [
        [[varied(aspect, number, method) for method in "ab"] for number in (0, 1)] for aspect in RATINGS["aspects"]
    ]
    assert table.tolist() == by_hand


def test_choices_find_their_methods(tmp_path):
    chosen = {"style": "aab", "overall": "cab"}
    content = answers(BEST_OF, "r", lambda aspect, number: chosen[aspect][number])
    table = score_table(read_answers(write(tmp_path, "x.json", content), BEST_OF), BEST_OF)
    assert table.tolist() == [[[float(m == best) for m in "abc"] for best in chosen[aspect]] for aspect in chosen]


def test_reliable_raters_have_no_faults(tmp_path):
    assert faults(tmp_path) == []
    assert faults(tmp_path, wrong=1) == [], "one slip is forgiven"
    assert faults(tmp_path, again=1, wrong=1) == [], "so is a change of mind by one"
    assert faults(tmp_path, seconds=2.0) == []


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"wrong": 2}, "failed 2 of 3 attention checks (2 instructed)"),
        ({"wrong": 1, "again": 2}, "failed 2 of 3 attention checks (1 instructed, 1 repeated)"),
        ({"seconds": 1.25}, "too fast: 1.2 s per screen"),
        ({"opinion": lambda *_: 3}, "constant: answer 3 in 8 of 8"),
    ],
)
def test_unreliable_raters_and_why(tmp_path, options, fault):
    assert faults(tmp_path, **options) == [fault]


def test_constant_places_in_best_of(tmp_path):
    first = [screen["candidates"][0] for screen in answers(BEST_OF, "r", lambda *_: "a")["screens"]]
    assert faults(tmp_path, BEST_OF, lambda _, number: first[number][-1]) == ["constant: answer 1 in 6 of 6"]
    assert faults(tmp_path, BEST_OF, lambda *_: "a") == [], "a preference is no fault, wherever it is shown"


def change(edit):
    content = answers(RATINGS, "r", varied)
    edit(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged: no JSON"),
        ("[" * 5000, "damaged: no JSON .nested deeper"),
        ("[1]", "damaged: its content must be a mapping; got a list of 1"),
        ("{}", "damaged.*study"),
        (change(lambda found: found.update(study="study2")), "study2.*study1"),
        (change(lambda found: found.update(finished=None)), "incomplete.*finished"),
        (change(lambda found: found["screens"].pop(0)), "damaged: no answer to .'p0-a', 'style'"),
        (change(lambda found: found["screens"].pop(1)), "incomplete.*2 of 8"),
        (change(lambda found: found["screens"][0].update(answers={})), "damaged: no answer to .'p0-a', 'style'"),
        (
            change(lambda found: found["screens"][1]["answers"].update(style=6)),
            "damaged.*rating 6",
        ),
        (change(lambda found: found["screens"][1]["answers"].update(style="3")), "damaged.*rating '3'"),
        (change(lambda found: found["screens"][1].update(candidates=["x"])), "incomplete.*2 of 8"),
        (change(lambda found: found["screens"][1]["answers"].update(x=3)), "damaged.*pictures"),
        (change(lambda found: found.update(screens=[3])), r"damaged: screens\[0\] must be a mapping; got 3"),
        (change(lambda found: found.update(screens=None)), "damaged: screens must be a list; got null"),
        (change(lambda found: found["screens"][0].update(candidates=[])), "damaged: a screen rates 0 pictures at once"),
        (change(lambda found: found["screens"].append(found["screens"][0])), "damaged: 'p0-a' is judged twice"),
        (
            change(lambda found: found["screens"].pop(4)),
            "damaged: 1 attention checks of the kind 'instructed'.* meet 2",
        ),
        (change(lambda found: found["screens"].pop(6)), "damaged: 0 attention checks of the kind 'repeated'.* meet 1"),
        (change(lambda found: found["screens"][6]["answers"].update(style=99)), "damaged: rating 99"),
        (change(lambda found: found["screens"][6].update(candidates=[])), "damaged: a repeated screen of 0 pictures"),
        (
            change(lambda found: found["screens"][0].update(seconds=None)),
            "damaged: .*seconds must be a number; got null",
        ),
        (change(lambda found: found["screens"][0].update(seconds=float("nan"))), "damaged: a screen of nan seconds"),
        (change(lambda found: found["screens"][0].update(seconds=-1)), "damaged: a screen of -1 seconds"),
        (change(lambda found: found.pop("rater")), "damaged.*'rater'"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(AnswersError, match=message):
        read_answers(tmp_path / "x.json", RATINGS)


def test_a_choice_among_other_pictures_is_damaged(tmp_path):
    content = answers(BEST_OF, "r", lambda *_: "a")
    content["screens"][0]["candidates"][-1] = "p1-b"
    with pytest.raises(AnswersError, match="damaged: a choice among other pictures than those of the set 's0'"):
        read_answers(write(tmp_path, "x.json", content), BEST_OF)


def test_answers_are_read_as_they_were_sent(tmp_path):
    text = json.dumps(answers(RATINGS, "r", varied))
    plain = read_answers(write(tmp_path, "x.json", json.loads(text)), RATINGS).judgements
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "x.json").write_text(text, encoding=encoding)
        assert read_answers(tmp_path / "x.json", RATINGS).judgements == plain
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(AnswersError, match=r"^damaged: no plain file$"):
        read_answers(tmp_path / "pipe.json", RATINGS)


def test_keys_of_earlier_versions_do_not_count_checks(tmp_path):
    earlier = {name: value for name, value in RATINGS.items() if name != "checks"}
    content = answers(RATINGS, "r", varied)
    content["screens"] = content["screens"][:4]
    assert read_answers(write(tmp_path, "x.json", content), earlier).checks == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": None}, "sets must be a list; got null"),
        ({"mode": "best"}, "mode must be one of ratings, best_of"),
        ({"methods": ["a"]}, "its set s0 has not one picture of each method"),
        ({"aspects": ["style", "style"]}, "its aspects are none, or one of them is there twice"),
        ({"sets": []}, "its sets are none"),
        ({"sets": RATINGS["sets"][:1] * 2}, "its sets are none, or one of them is there twice"),
        (
            {"sets": [{**each, "pictures": RATINGS["sets"][0]["pictures"]} for each in RATINGS["sets"]]},
            "its pictures are",
        ),
        ({"sets": [{"id": "s0", "pictures": {"p": "c"}}]}, "its set s0 has not one picture of each method"),
    ],
)
def test_a_key_of_other_parts_is_none(tmp_path, changes, message):
    with pytest.raises(UserError, match=rf"key\.json: {message}.*: no key of a study"):
        read_key(write(tmp_path, "key.json", {**RATINGS, **changes}))


def test_of_doubles_the_first_counts(tmp_path):
    files = []
    for number, (rater, minute) in enumerate([("r", 30), ("q", 10), ("r", 20)]):
        content = {**answers(RATINGS, rater, varied), "finished": f"2024-05-01T10:{minute}:00Z"}
        files.append(write(tmp_path, f"{number}.json", content))
    doubles = find_doubles([read_answers(file, RATINGS) for file in files])
    assert doubles == {files[0]: f"the same rater as {files[2]}, which was finished first"}


def test_what_is_no_key_is_told(tmp_path):
    assert read_key(write(tmp_path, "key.json", RATINGS)) == RATINGS
    with pytest.raises(UserError, match=r"x\.json.*key\.json"):
        read_key(write(tmp_path, "x.json", answers(RATINGS, "r", varied)))
    with pytest.raises(UserError, match=r"nowhere\.json.*No such file"):
        read_key(tmp_path / "nowhere.json")
