"""The page of `lit-ghibli app`: where it listens, and, in a real browser, what a visitor does there."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, Browser
from PIL import Image

from lit_ghibli.commands.app import _stop, check_address
from lit_ghibli.errors import UserError
from lit_ghibli.signals import stop_signals

PHOTOGRAPHS = Path(__file__).parents[2] / "lit_ghibli/photographs"
WITH_GRADIO = importlib.util.find_spec("gradio") is not None
needs_page = pytest.mark.skipif(not WITH_GRADIO or CHROMIUM is None, reason="needs gradio and Chromium")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_an_address_that_cannot_be_listened_on_is_refused_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port} is taken"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", port)
    with pytest.raises(UserError, match="port=70000: choose a whole number"):
        check_address("127.0.0.1", 70_000)
    with pytest.raises(UserError, match=r"host=192\.0\.2\.1 port=\d+: cannot assign"):  # of no machine: RFC 5737
        check_address("192.0.2.1", port)


def test_ctrl_c_pressed_twice_ends_it_once():
    before = {number: signal.getsignal(number) for number in stop_signals()}
    try:
        with pytest.raises(KeyboardInterrupt):
            _stop(signal.SIGINT, None)
        for number in before:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.skipif(WITH_GRADIO, reason="gradio is there")
def test_without_gradio_the_extra_is_named(cli, tmp_path):
    done = cli("app", f"port={free_port()}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "lit-ghibli app: gradio is needed for the page: pip install 'lit-ghibli[app]'"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page that is served, and its temporary folder."""
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    words = [sys.executable, "-m", "lit_ghibli", "app", f"port={port}", "max_megabytes=1"]
    with subprocess.Popen(
        words, cwd=folder, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout.readline().startswith(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/"
        assert list(folder.glob("lit_ghibli_app_*"))
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        assert server.stdout.read().strip() == "stopped"
    assert not list(folder.glob("lit_ghibli_app_*")), "photographs and pictures are deleted"


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path) as browser:
        for domain in ("Network", "DOM"):
            browser.call(f"{domain}.enable")
        yield browser


def until(browser: Browser, expression: str) -> None:
    """Ask again until an expression is true; the page says by no event that a picture has come."""
    end = time.monotonic() + 120
    while not browser.run(expression):
        assert time.monotonic() < end, expression


def visit(browser: Browser, page: str) -> None:
    browser._events.clear()
    browser.call("Page.navigate", url=page)
    until(browser, "[...document.querySelectorAll('#slider img')].filter(each => each.naturalWidth).length == 2")
    until(browser, "!!document.querySelector('#paint')")


def upload(browser: Browser, *files: Path) -> None:
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    field = browser.call("DOM.querySelector", nodeId=root, selector="#photos input[type=file]")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=field, files=list(map(str, files)))


def paint(browser: Browser, done: str) -> None:
    browser.run("document.querySelector('#paint').click()")
    until(browser, done)


def fetched(browser: Browser, element: str) -> Path:
    """What a click on an element downloads."""
    browser.run(f"document.querySelector('{element}').click()")
    browser.wait_for("Browser.downloadProgress", state="completed")
    return max(browser.downloads.iterdir(), key=lambda path: path.stat().st_mtime)


@pytest.mark.slow
@needs_page
def test_photographs_become_pictures_and_nothing_comes_from_elsewhere(browser, page, tmp_path):
    browser.emulate(1280, 800)
    visit(browser, page)
    (tmp_path / "<b>bold.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    upload(browser, PHOTOGRAPHS / "temple.jpg", PHOTOGRAPHS / "cat.jpg", tmp_path / "<b>bold.svg")
    until(browser, "document.querySelector('#photos').textContent.includes('cat')")
    browser.run("document.querySelector('#style input[value=ink]').click()")
    paint(browser, "!!document.querySelector('#download-all') && !!document.querySelector('#notice')")
    assert "not an image" in browser.run("document.querySelector('#notice').innerText")
    assert browser.run("document.querySelector('#notice b')") is None, "names are text"
    shown = "[...document.querySelectorAll('#slider img')].map(each => each.src)"
    assert [Path(each).name for each in browser.run(shown)] == ["cat_photograph.jpg", "cat_ink.jpg"]
    until(browser, "document.querySelectorAll('#gallery button').length == 2")
    browser.run("document.querySelectorAll('#gallery button')[0].click()")
    until(browser, f"{shown}[1].endsWith('temple_ink.jpg')")
    with Image.open(fetched(browser, "#download")) as picture, Image.open(PHOTOGRAPHS / "temple.jpg") as photo:
        assert picture.size == photo.size
    assert fetched(browser, "#download-all").name == "pictures.zip"
    requests = [each["params"]["request"]["url"] for each in browser._events if "request" in each.get("params", {})]
    assert not [url for url in requests if not url.startswith((page, "data:", "blob:"))]


@pytest.mark.slow
@needs_page
def test_nothing_is_cut_off_on_a_phone_and_the_line_can_be_dragged(browser, page):
    browser.emulate(390, 844, phone=True)
    visit(browser, page)
    assert browser.run("document.documentElement.scrollWidth") == 390
    beyond = "[...document.querySelectorAll('main *')].filter(each => each.getBoundingClientRect().right > 390).length"
    assert browser.run(beyond) == 0
    line = "document.querySelector('#slider [role=slider], #slider .outer').getBoundingClientRect().x"
    before = browser.run(line)
    box = browser.run("(b => [b.x, b.y, b.width, b.height])(document.querySelector('#slider').getBoundingClientRect())")
    middle, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    for kind, x in (("mousePressed", middle), ("mouseMoved", middle - 90), ("mouseReleased", middle - 90)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    browser.wait_for_layout()
    assert browser.run(line) < before - 50


@pytest.mark.slow
@needs_page
def test_a_stop_leaves_what_is_painted(browser, page):
    visit(browser, page)
    photos = sorted(PHOTOGRAPHS.glob("*.jpg"))
    upload(browser, *photos)
    until(browser, "document.querySelector('#photos').textContent.includes('temple')")
    paint(browser, "document.querySelectorAll('#gallery button').length >= 2")
    browser.run("document.querySelector('#stop').click()")
    until(browser, "!!document.querySelector('#download-all') && !!document.querySelector('#paint')")
    assert 2 <= browser.run("document.querySelectorAll('#gallery button').length") < len(photos)
    assert fetched(browser, "#download-all").name == "pictures.zip"


@pytest.mark.slow
@needs_page
def test_a_file_that_is_too_large_is_refused_with_a_sentence(browser, page, tmp_path):
    visit(browser, page)
    (tmp_path / "large.jpg").write_bytes(bytes(1_100_000))
    upload(browser, tmp_path / "large.jpg")
    until(browser, r"/maximum allowed size of 1(\.0)? ?MB.*large\.jpg/i.test(document.body.innerText)")
