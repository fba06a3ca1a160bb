"""The page of a comparison in a real browser, with real keys, a mouse and a finger."""

import pytest
from helpers.browser import CHROMIUM, Browser
from PIL import Image

from lit_ghibli.reports.page import Page, render_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

ROWS = [
    {"name": "untouched input", "ssim": 0.7, "swd": 3.0, "parameters_m": None},
    {"name": "b", "ssim": 0.25, "swd": 10.0, "parameters_m": 2.0},
    {"name": "c", "ssim": 0.5, "swd": 9.0, "parameters_m": 4.0},
    {"name": "a", "ssim": 0.375, "swd": None, "parameters_m": 3.0},
]
COLORS = {"input": "red", "b": "lime", "c": "blue", "a": "black"}
NAMES = "[...document.querySelectorAll('#numbers tbody th')].map(cell => cell.textContent)"
SORTED = "[...document.querySelectorAll('#numbers thead th')].map(cell => cell.getAttribute('aria-sort'))"
CUT = "getComputedStyle(document.querySelector('#slider')).getPropertyValue('--cut')"
TAGS = "['#tag-before', '#tag-after'].map(id => document.querySelector(id).textContent)"
BOX = "(box => [box.x, box.y, box.width, box.height])(document.querySelector('#slider').getBoundingClientRect())"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.call("Log.enable")
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    pictures = {title: Image.new("RGB", (64, 64), color) for title, color in COLORS.items()}
    page = Page(
        title="Compared",
        lede="",
        rows=ROWS,
        metrics=["ssim", "swd"],
        costs=["parameters_m"],
        plotted=["parameters_m"],
        besides={0},
        gallery={"one": pictures, "two": pictures, "tall": {title: Image.new("RGB", (20, 80)) for title in COLORS}},
    )
    path = tmp_path / "compare.html"
    path.write_text(render_page(page), encoding="utf-8")
    browser.emulate(1000, 900)
    load(browser, path)
    yield browser
    assert not complaints(browser), "the console stays empty"


def load(browser, path):
    """Open a page, and keep what the browser has to say of it."""
    browser._events.clear()
    browser.call("Page.navigate", url=path.as_uri())
    while browser.run("document.readyState") != "complete":
        pass


def complaints(browser):
    browser.run("1")  # whatever it has said until now arrives before this answer
    return [event for event in browser._events if event.get("method") == "Log.entryAdded"]


def click(browser, element):
    scroll_to(browser, element)
    x, y = browser.run(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({element}.getBoundingClientRect())")
    mouse(browser, "mousePressed", x, y)
    mouse(browser, "mouseReleased", x, y)


def scroll_to(browser, element):
    browser.run(f"{element}.scrollIntoView({{behavior: 'instant', block: 'center'}})")
    browser.wait_for_layout()


def mouse(browser, kind, x, y):
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def head(number):
    return f"document.querySelectorAll('#numbers thead button')[{number}]"


def test_what_lies_elsewhere_is_refused_and_complained_of(browser, tmp_path):
    page = render_page(Page(title="x", lede="", rows=ROWS, metrics=["ssim"]))
    path = tmp_path / "outer.html"
    path.write_text(page.replace("<main>", '<main><img src="https://nowhere.invalid/x.png" alt="">'), encoding="utf-8")
    load(browser, path)
    assert "Content Security Policy" in complaints(browser)[0]["params"]["entry"]["text"]


def test_a_click_on_a_heading_sorts_the_best_first_then_the_worst(opened):
    assert opened.run(NAMES) == ["untouched input", "b", "c", "a"]
    click(opened, head(1))
    assert opened.run(NAMES) == ["untouched input", "c", "a", "b"]
    assert opened.run(SORTED) == ["none", "descending", "none"]
    click(opened, head(1))
    assert opened.run(NAMES) == ["b", "a", "c", "untouched input"]
    click(opened, head(2))
    assert opened.run(NAMES) == ["untouched input", "c", "b", "a"], "9 before 10; no number comes last"
    assert opened.run(SORTED) == ["none", "none", "ascending"]
    click(opened, head(2))
    assert opened.run(NAMES) == ["b", "c", "untouched input", "a"], "no number still comes last"
    click(opened, head(0))
    assert opened.run(NAMES) == ["a", "b", "c", "untouched input"]


def test_headings_sort_by_keyboard_too(opened):
    opened.run(f"{head(1)}.focus()")
    opened.press("Enter")
    assert opened.run(NAMES)[1] == "c"


def test_one_metric_is_plotted_at_a_time(opened):
    seen = "[...document.querySelectorAll('.plots')].filter(each => each.offsetHeight).map(each => each.dataset.metric)"
    assert opened.run(seen) == ["ssim"]
    click(opened, "document.querySelector('.choices button[data-metric=swd]')")
    assert opened.run(seen) == ["swd"]


def test_the_line_follows_mouse_finger_and_keys(opened):
    scroll_to(opened, "document.querySelector('#slider')")
    x, y, width, height = opened.run(BOX)
    assert opened.run(CUT) == "50%"
    mouse(opened, "mousePressed", x + width / 2, y + height / 2)
    mouse(opened, "mouseMoved", x + width / 4, y + height / 2)
    mouse(opened, "mouseReleased", x + width / 4, y + height / 2)
    assert float(opened.run(CUT).rstrip("%")) == pytest.approx(25, abs=2)
    before = float(opened.run(CUT).rstrip("%"))
    opened.press("ArrowRight")
    assert float(opened.run(CUT).rstrip("%")) == pytest.approx(before + 1)
    opened.emulate(400, 800, phone=True)
    scroll_to(opened, "document.querySelector('#slider')")
    x, y, width, height = opened.run(BOX)
    assert x >= 0
    assert x + width <= 400
    points = [{"x": x + width * 0.8, "y": y + height / 2}]
    opened.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
    opened.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert float(opened.run(CUT).rstrip("%")) == pytest.approx(80, abs=3)


def test_left_of_the_line_is_one_picture_and_right_of_it_the_other(opened, tmp_path):
    scroll_to(opened, "document.querySelector('#slider')")
    x, y, width, height = opened.run(BOX)
    opened.screenshot(tmp_path / "shot.png")
    shot = Image.open(tmp_path / "shot.png").convert("RGB")
    near = {"red": (255, 0, 0), "lime": (0, 255, 0)}
    for share, color in ((0.2, "red"), (0.8, "lime")):
        pixel = shot.getpixel((int(x + share * width), int(y + 0.8 * height)))
        assert max(abs(a - b) for a, b in zip(pixel, near[color], strict=True)) < 30


def test_two_clicked_pictures_of_a_row_are_compared(opened):
    thumb = 'document.querySelector(\'.shot[data-row="{}"] button[data-column="{}"]\')'
    assert opened.run(TAGS) == ["input", "b"]
    click(opened, thumb.format(0, 2))
    assert opened.run(TAGS) == ["b", "c"]
    click(opened, thumb.format(0, 3))
    assert opened.run(TAGS) == ["c", "a"]
    click(opened, thumb.format(1, 1))
    assert opened.run(TAGS) == ["c", "b"], "of another picture"
    assert opened.run("document.querySelector('#picture').selectedOptions[0].text") == "two"
    click(opened, "document.querySelector('#swap')")
    assert opened.run(TAGS) == ["b", "c"]
    click(opened, "document.querySelector('#previous')")
    assert opened.run("document.querySelector('#picture').selectedOptions[0].text") == "one"
    same = "document.querySelector('#before').src === {}.querySelector('img').src"
    assert opened.run(same.format(thumb.format(0, 1)))


def test_a_tall_picture_fits_into_the_window(opened):
    click(opened, "document.querySelector('#previous')")
    assert opened.run("document.querySelector('#picture').selectedOptions[0].text") == "tall"
    _, _, width, height = opened.run(BOX)
    assert height <= 0.8 * 900
    assert height == pytest.approx(4 * width, rel=0.02)


@pytest.mark.parametrize("width", [320, 390, 768, 1600])
def test_no_width_needs_scrolling_sideways(opened, width):
    opened.emulate(width, 800, phone=width < 700)
    assert opened.run("document.documentElement.scrollWidth") <= width


def test_light_and_dark(opened):
    paper = "getComputedStyle(document.body).backgroundColor"
    opened.emulate(800, 600, dark=False)
    light = opened.run(paper)
    opened.emulate(800, 600, dark=True)
    assert opened.run(paper) != light
