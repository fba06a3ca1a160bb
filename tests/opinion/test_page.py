"""The rating page, looked at from outside: its text, and what a real browser makes of it."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, Browser
from omegaconf import OmegaConf
from PIL import Image, ImageColor

from lit_ghibli.errors import UserError
from lit_ghibli.opinion.answers import read_answers
from lit_ghibli.opinion.page import BEST_OF, RATINGS, Checks, ImageSet, Wording, embed, make_study
from lit_ghibli.recipes import config_dir

METHODS = ("nijigan", "scenimefy", "cartoongan")
COLORS = {None: "white", "nijigan": "red", "scenimefy": "lime", "cartoongan": "blue"}
SETS, CHECKS = 4, Checks(instructed=2, repeated=2, photograph=1)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


def wording(mode: str, **changes) -> Wording:
    config = OmegaConf.load(Path(config_dir()) / "mos_build.yaml")
    config.mode = mode
    texts = {name: config[name] for name in Wording.__dataclass_fields__}
    plain = OmegaConf.to_container(OmegaConf.create(texts), resolve=True)
    return Wording(**{**plain, **changes})


def image_sets() -> list[ImageSet]:
    """Each picture has its method's color, a little darker from set to set, so that no two are the same."""
    sets = []
    for number in range(SETS):
        pictures = {}
        for name, color in COLORS.items():
            levels = [round(level * (1 - number / 20)) for level in ImageColor.getrgb(color)]
            pictures[name] = embed(Image.new("RGB", (64, 48), tuple(levels)), 48, 90)
        sets.append(ImageSet(f"holiday_{number}.jpg", pictures.pop(None), pictures))
    return sets


def study(mode: str, **changes):
    return make_study(image_sets(), mode, wording(mode, **changes), CHECKS)


def embedded(page: str) -> dict:
    return json.loads(re.search(r'id="study">(.*)</script>', page)[1])


# --- the file ------------------------------------------------------------------


@pytest.mark.parametrize("mode", [RATINGS, BEST_OF])
def test_page_says_nothing_about_methods(mode):
    made = study(mode)
    for word in (*METHODS, "holiday"):
        assert word not in made.page.lower()
    shown = embedded(made.page)
    assert list(shown["pictures"]) == sorted(shown["pictures"]), "another order could follow the methods"
    for image_set in shown["sets"]:
        assert image_set.keys() == {"id", "photograph", "pictures"}
        assert image_set["pictures"] == sorted(image_set["pictures"])
    assert study(mode).key["id"] != made.key["id"]


def test_key_tells_whose_picture_it_is():
    made = study(RATINGS)
    pictures = embedded(made.page)["pictures"]
    assert len(pictures) == SETS * (1 + len(METHODS))
    for image_set in made.key["sets"]:
        for identity, method in {**image_set["pictures"], image_set["photograph"]: None}.items():
            with Image.open(io.BytesIO(base64.b64decode(pictures[identity].split(",")[1]))) as picture:
                shown = picture.getpixel((20, 20))
            light = [level > 128 for level in shown]
            assert light == [level > 128 for level in ImageColor.getrgb(COLORS[method])]


def test_pictures_are_small_and_hold_no_metadata(tmp_path):
    file = tmp_path / "nijigan.jpg"
    Image.new("RGB", (300, 200)).save(file, comment=b"nijigan", exif=Image.Exif())
    with Image.open(file) as image:
        data = base64.b64decode(embed(image, 100, 90).split(",")[1])
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (100, 67))
    assert b"nijigan" in file.read_bytes()
    assert b"nijigan" not in data


def test_page_needs_nothing_from_elsewhere_and_texts_stay_texts():
    page = study(RATINGS, title='</script><script>alert("x")</script> & {{study}}').page
    assert page.count("</script>") == 2
    assert "<title>&lt;/script&gt;" in page
    assert embedded(page)["title"].startswith("</script>")
    assert not re.search(r"(src|href)=[\"']?http|url\(|@import", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": "NijiGAN or not?"}, "title.*'nijigan'"),
        ({"aspects": {}}, "aspects.*at least one"),
        ({"labels": ["good"]}, "labels.*2 to 9.*1"),
    ],
)
def test_unsuitable_words_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        study(RATINGS, **changes)


def test_unsuitable_numbers_are_refused():
    with pytest.raises(UserError, match=r"checks\.repeated.*0.*-1"):
        Checks(instructed=1, repeated=-1, photograph=0)
    alone = [ImageSet(each.name, each.photograph, {"a": each.pictures["nijigan"]}) for each in image_sets()]
    with pytest.raises(UserError, match=r"best_of.*methods.*1"):
        make_study(alone, BEST_OF, wording(BEST_OF), CHECKS)


# --- in a browser --------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    """Open a study's page; returns the study."""

    def start(mode, *size, **options):
        made = study(mode)
        (tmp_path / "rate.html").write_text(made.page, encoding="utf-8")
        browser.emulate(*size, **options)
        browser.open(tmp_path / "rate.html")
        return made

    return start


def pictures_shown(browser) -> list[str]:
    """Addresses of the photograph and of the candidates."""
    return browser.run("[...document.querySelectorAll('figure img')].map((image) => image.src)")


def questions(browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('legend')].map((legend) => legend.textContent)")


def opinion(address: str, question: str) -> int:
    """A rating that depends on nothing but the picture and the question."""
    return 1 + sum(map(ord, address[-60:] + question)) % 5


def rate_screen(browser) -> None:
    """Rate as asked, by keys alone."""
    (_, picture), asked = pictures_shown(browser), questions(browser)
    for question in asked:
        instructed = re.search(r"please choose (\d) here", question)
        browser.press(instructed[1] if instructed else str(opinion(picture, question)))
    browser.press("Enter")


def finished(browser, made, tmp_path):
    """What the last screen holds, read as `mos score` reads it."""
    (tmp_path / "answers.json").write_text(browser.run("document.querySelector('textarea').value"), encoding="utf-8")
    return read_answers(tmp_path / "answers.json", made.key)


@in_browser
def test_rating_by_keyboard_alone(browser, opened, tmp_path):
    made = opened(RATINGS, 1280, 800)
    browser.press("Enter")
    total = SETS * len(METHODS) + 4
    for number in range(total):
        assert browser.run("document.querySelector('.progress').textContent").strip() == f"{number + 1} / {total}"
        if number == 5:  # leave in the middle of a screen, and come back
            browser.press("2")
            browser.reload()
            assert browser.run("document.querySelector(':checked').value") == "2"
        rate_screen(browser)
    rater = finished(browser, made, tmp_path)
    pictures, aspects = embedded(made.page)["pictures"], embedded(made.page)["aspects"]
    assert rater.judgements == {
        (identity, aspect): opinion(pictures[identity], question)
        for image_set in made.key["sets"]
        for identity in image_set["pictures"]
        for aspect, question in aspects.items()
    }
    assert sorted(rater.checks) == [("instructed", 0), ("instructed", 0), ("repeated", 0), ("repeated", 0)]
    assert rater.device == "desktop"
    assert min(rater.seconds) > 0
    browser.press("Enter")  # the button that saves has the focus
    browser.wait_for("Browser.downloadProgress", state="completed")
    (saved,) = browser.downloads.glob("*.json")
    assert saved.name == f"answers-{made.key['id']}-{rater.name}.json"
    assert saved.read_bytes() == (tmp_path / "answers.json").read_bytes()


@in_browser
def test_choosing_on_a_phone_by_touch(browser, opened, tmp_path):
    made = opened(BEST_OF, 390, 844, phone=True)
    browser.tap("document.querySelector('button')")
    for _ in range(SETS + 3):
        photograph, *candidates = pictures_shown(browser)
        for number, question in enumerate(questions(browser)):
            choice = 1 + candidates.index(min(candidates))
            if instructed := re.search(r"please choose (\d) here", question):
                choice = int(instructed[1])
            elif "photograph itself" in question:
                choice = 1 + candidates.index(photograph)
            browser.tap(f"document.querySelectorAll('fieldset')[{number}].querySelectorAll('label')[{choice - 1}]")
        assert browser.run("document.documentElement.scrollWidth") == 390
        heights = "[...document.querySelectorAll('label, nav button:enabled')].map((each) => each.offsetHeight)"
        assert min(browser.run(heights)) >= 44, "smaller than a finger"
        browser.tap("document.getElementById('next')")
    rater = finished(browser, made, tmp_path)
    pictures = embedded(made.page)["pictures"]
    for image_set in made.key["sets"]:
        assert {rater.judgements[image_set["id"], aspect] for aspect in made.key["aspects"]} == {
            min(image_set["pictures"], key=pictures.get)
        }
    assert sorted(rater.checks) == [("instructed", 0), ("instructed", 0), ("photograph", 0)]
    assert rater.device == "phone"


@in_browser
def test_every_rater_has_an_order_of_their_own(browser, opened):
    made = opened(RATINGS, 1280, 800)
    orders = [browser.run(f"plan('{rater}')") for rater in ("a", "b", "a")]
    assert orders[0] == orders[2] != orders[1]
    every = {identity for image_set in made.key["sets"] for identity in image_set["pictures"]}
    targets, firsts = set(), set()
    for order in [browser.run(f"plan('rater {number}')") for number in range(60)]:
        judged = [screen["candidates"][0] for screen in order if screen["kind"] == "judged"]
        assert (len(judged), set(judged)) == (len(every), every)
        sets = [screen["set"] for screen in order if screen["kind"] == "judged"]
        assert sum(sets[i] != sets[i - 1] for i in range(1, len(sets))) == SETS - 1, "a set is shown in one go"
        for number, screen in enumerate(order):
            if screen["kind"] == "repeated":
                before = [other["kind"] for other in order[:number]].count("judged")
                assert judged.index(screen["candidates"][0]) < len(every) / 2 < len(every) * 2 / 3 <= before
        asked = [screen["expected"] for screen in order if screen["kind"] == "instructed"]
        assert len(set(asked)) == 2, "one key pressed throughout must fail"
        assert order[0]["kind"] == "judged"
        targets |= set(asked)
        firsts.add(judged[0])
    assert targets == {1, 2, 3, 4, 5}
    assert len(firsts) > len(every) / 2


@in_browser
def test_other_keys_and_the_way_back(browser, opened):
    opened(RATINGS, 1280, 800)
    browser.press("Enter")
    browser.press("ArrowRight")  # the browser's own way through a group of choices
    assert browser.run("document.querySelector(':checked').value") == "2"
    ring = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert browser.run(ring) == "solid", "the focus must be seen"
    browser.press("Enter")
    assert browser.run("document.querySelectorAll('.missing').length") == 2, "unanswered questions are pointed out"
    browser.press("z")
    larger = "document.querySelector('dialog[open] img')?.src"
    photograph, picture = pictures_shown(browser)
    assert browser.run(larger) == picture
    browser.press("ArrowRight")
    assert browser.run(larger) == photograph
    browser.press("Escape")
    assert browser.run(larger) is None
    for key in ("3", "4", "Enter", "Backspace"):
        browser.press(key)
    chosen = browser.run("[...document.querySelectorAll(':checked')].map((input) => input.value)")
    assert (chosen, pictures_shown(browser)) == (["2", "3", "4"], [photograph, picture])


@in_browser
def test_light_and_dark(browser, opened):
    brightness = []
    for dark in (False, True):
        opened(RATINGS, 1280, 800, dark=dark)
        colors = browser.run("['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])")
        brightness.append([int(re.search(r"\d+", color)[0]) for color in colors])
    (paper, ink), (dark_paper, light_ink) = brightness
    assert paper - ink > 150
    assert light_ink - dark_paper > 150
