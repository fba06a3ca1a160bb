"""`lit-ghibli data fetch` against servers on this machine that behave well, badly, and not at all."""

import gzip
import hashlib
import io
import os
import random
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lit_ghibli.commands import to_overrides
from lit_ghibli.data.download import DownloadError, Fetched, fetch
from lit_ghibli.errors import UserError

CHUNK = 1 << 16
KNOWN = "cezanne2photo, edges2shoes, facades, horse2zebra, maps, monet2photo, night2day, summer2winter_yosemite, "
KNOWN += "ukiyoe2photo, vangogh2photo"


def archive_of(seed: int, size: int = 40_000, count: int = 3) -> tuple[dict[str, bytes], bytes]:
    """Pictures by name, and the .tar.gz that holds them below maps/."""
    draw = random.Random(seed)
    pictures = {f"{split}/{number}.jpg": draw.randbytes(size) for split in ("train", "val") for number in range(count)}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in pictures.items():
            member = tarfile.TarInfo(f"maps/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return pictures, gzip.compress(stream.getvalue(), compresslevel=0, mtime=0)


PICTURES, ARCHIVE = archive_of(seed=1)
CHECKSUM = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_PICTURES, OTHER_ARCHIVE = archive_of(seed=2)
SMALL_PICTURES, SMALL_ARCHIVE = archive_of(seed=3, size=10_000)


class Site(ThreadingHTTPServer):
    """A server of one file, and what it was asked for: the Range and If-Range of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/maps.tar.gz"
        self.asked: list[tuple[str | None, str | None]] = []
        self.content = ARCHIVE
        self.validator: tuple[str, str] | None = ("ETag", '"one"')
        self.ranges = True
        self.heeds_if_range = True
        self.length: int | None = None  # claimed; None is the truth
        self.tells_length = True
        self.drops_after: int | None = None  # bytes of a body
        self.status, self.reason = 200, None

    def handle_error(self, request, client_address) -> None:
        """Say nothing of clients that were killed."""


class Answer(BaseHTTPRequestHandler):
    server: Site

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        site, wanted, condition = self.server, self.headers["Range"], self.headers["If-Range"]
        site.asked.append((wanted, condition))
        if site.status != 200:
            self.send_response(site.status, site.reason)
            self.end_headers()
            return
        start, size = 0, len(site.content)
        same = condition is None or not site.heeds_if_range or condition == (site.validator or (None, None))[1]
        if wanted and site.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start < size else 416)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}" if start < size else f"bytes */{size}")
        else:
            self.send_response(200)
        if site.validator:
            self.send_header(*site.validator)
        if site.tells_length:
            self.send_header("Content-Length", str(site.length or size - min(start, size)))
        self.end_headers()
        self.wfile.write(site.content[start:][: site.drops_after])


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def get(site, tmp_path):
    """Fetch from the site into a fresh folder, without a process of its own."""

    def run(url: str = site.url, **changed) -> Fetched:
        return fetch("maps", url, tmp_path, **({"sha256": None, "max_bytes": 10**7, "timeout": 20} | changed))

    return run


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_complete(folder: Path, pictures: dict[str, bytes] = PICTURES) -> None:
    assert files_in(folder / "maps") == pictures
    assert set(os.listdir(folder)) == {"maps", "maps.sha256"}


# --- as users type it ----------------------------------------------------------


def test_a_data_set_is_fetched_once(site, cli, tmp_path):
    first = cli("data", "fetch", "maps", "--out", "my data", f"url={site.url}", f"sha256={CHECKSUM}", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert_complete(tmp_path / "my data")
    assert os.listdir(tmp_path) == ["my data"], "Hydra writes nothing of its own"
    assert "my data/maps: 3 files in train, 3 files in val" in first.stdout
    assert CHECKSUM in first.stdout
    assert first.stderr == "", "the progress bar is for terminals"

    again = cli("data", "fetch", "maps", "--out", "my data", f"url={site.url}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "it was there already" in again.stdout
    assert len(site.asked) == 1


def test_errors_are_one_line_that_says_what_to_do(site, cli, tmp_path):
    site.status = 404
    result = cli("data", "fetch", "maps", f"url={site.url}", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"cannot download {site.url}: the server answers 404 Not Found" in result.stderr
    assert "put it at datasets/maps.tar.gz and run this again" in result.stderr

    # which is then done
    (tmp_path / "datasets" / "maps.tar.gz").write_bytes(ARCHIVE)
    result = cli("data", "fetch", "maps", f"url={site.url}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert files_in(tmp_path / "datasets" / "maps") == PICTURES
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("map", f"there is no data set 'map', only {KNOWN}; did you mean maps?"),
        ("", f"which data set? lit-ghibli data fetch {KNOWN.replace(', ', '|')}"),
    ],
)
def test_unknown_names_say_which_there_are(cli, tmp_path, typed, said):
    result = cli("data", "fetch", *typed.split(), cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith(f": {said}\n")
    assert result.stderr.count("\n") == 1
    assert not os.listdir(tmp_path)


# Ends the process, as a power cut would, at the given call of a function of the standard library.
KILLER = """
import importlib, os, signal

module, names, last = os.environ["KILL_IN"].split(":")
*path, name = names.split(".")
owner = importlib.import_module(module)
for step in path:
    owner = getattr(owner, step)
function, calls = getattr(owner, name), 0


def deadly(*arguments, **keywords):
    global calls
    calls += 1
    if calls == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **keywords)


setattr(owner, name, deadly)
"""


@pytest.mark.parametrize(
    ("moment", "received"),
    [
        pytest.param("http.client:HTTPResponse.read1:3", False, id="in mid-download"),
        pytest.param("gzip:open:1", True, id="between download and unpacking", marks=pytest.mark.slow),
        pytest.param("tarfile:TarFile.extractfile:2", True, id="in mid-unpacking", marks=pytest.mark.slow),
    ],
)
def test_a_killed_command_goes_on_when_run_again(site, cli, tmp_path, moment, received):
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    command = ["data", "fetch", "maps", "--out", "data", f"url={site.url}"]
    killed = cli(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path), KILL_IN=moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "data" / "maps").exists()
    arrived = tmp_path / "data" / "maps.tar.gz.partial"
    arrived = None if received else arrived.stat().st_size
    again = cli(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert files_in(tmp_path / "data" / "maps") == PICTURES
    ranges = [wanted for wanted, _ in site.asked]
    assert ranges == ([None] if received else [None, f"bytes={arrived}-"])


# --- killed at every step ------------------------------------------------------

# Dies before the given change of the file system, or after the given chunk has arrived, counted together.
DYING = """
import os, signal, sys
from pathlib import Path
from lit_ghibli.data.download import fetch

url, folder, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
steps = 0


def step(*_):
    global steps
    steps += 1
    if steps == last:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(event, arguments):
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir") or event == "open" and folder in str(arguments[0]):
        step()


sys.addaudithook(watch)
fetch("maps", url, Path(folder), sha256=None, max_bytes=10**7, timeout=20, report=step)
"""


@pytest.mark.slow
def test_killed_at_any_step_a_second_call_completes(site, tmp_path):
    pictures, site.content = archive_of(seed=1, size=CHUNK, count=1)
    status, steps = -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        steps += 1
        folder = tmp_path / str(steps)
        site.asked.clear()
        child = [sys.executable, "-c", DYING, site.url, str(folder), str(steps)]
        status = subprocess.run(child, check=False, timeout=60).returncode
        assert not (folder / "maps").exists() or files_in(folder / "maps") == pictures, "all of it or nothing"
        arrived = folder / "maps.tar.gz.partial"
        arrived = arrived.stat().st_size if arrived.exists() else 0
        fetch("maps", site.url, folder, sha256=None, max_bytes=10**7, timeout=20)
        assert files_in(folder / "maps") == pictures, steps
        assert set(os.listdir(folder)) - {"maps.tar.gz"} == {"maps", "maps.sha256"}, "leftovers are swept up"
        if arrived:
            rest = [f"bytes={arrived}-"] if arrived < len(site.content) else []
            assert [wanted for wanted, _ in site.asked] == [None, *rest], "what has arrived is kept"
    assert status == 0
    assert steps > 25
    assert set(os.listdir(folder)) == {"maps", "maps.sha256"}


# --- servers -------------------------------------------------------------------


def drop(site: Site, get, after: int = 100_000) -> None:
    """Have a download break off after so many bytes."""
    site.drops_after = after
    with pytest.raises(DownloadError, match=r"the connection ended after 0\.1 MB of 0\.3 MB; try again \(what has"):
        get()
    site.drops_after = None


@pytest.mark.parametrize("validator", [("ETag", '"one"'), ("Last-Modified", "Sun, 02 Sep 2018 08:45:00 GMT"), None])
def test_a_dropped_connection_goes_on_where_it_broke(site, get, tmp_path, validator):
    site.validator = validator
    drop(site, get)
    reports = []
    assert get(report=lambda *numbers: reports.append(numbers)) == Fetched(tmp_path / "maps", CHECKSUM, fresh=True)
    assert_complete(tmp_path)
    assert site.asked == [(None, None), ("bytes=100000-", validator and validator[1])]
    assert reports[0] == (100_000, len(ARCHIVE))
    assert reports[-1] == (len(ARCHIVE), len(ARCHIVE))


def test_a_weak_entity_tag_is_no_condition(site, get, tmp_path):
    site.validator = ("ETag", 'W/"one"')
    drop(site, get)
    get()
    assert site.asked[1] == ("bytes=100000-", None), "If-Range takes strong tags only"
    assert_complete(tmp_path)


def test_a_server_without_ranges_starts_again(site, get, tmp_path):
    site.ranges = False
    drop(site, get)
    get()
    assert_complete(tmp_path)


def test_another_address_starts_again(site, get, tmp_path):
    drop(site, get)
    get(f"{site.url}?mirror")
    assert site.asked[1] == (None, None)
    assert_complete(tmp_path)


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize(
    ("content", "validator"),
    [
        (OTHER_ARCHIVE, ("ETag", '"two"')),
        (OTHER_ARCHIVE + bytes(1000), None),
        (SMALL_ARCHIVE, ("ETag", '"two"')),
        (SMALL_ARCHIVE, None),
    ],
    ids=["other tag", "longer", "too short, other tag", "too short"],
)
def test_a_file_that_has_changed_meanwhile_starts_again(site, get, tmp_path, content, validator, heeds_if_range):
    drop(site, get)
    site.content, site.validator, site.heeds_if_range = content, validator, heeds_if_range
    get()
    assert_complete(tmp_path, SMALL_PICTURES if content is SMALL_ARCHIVE else OTHER_PICTURES)


def test_stopped_before_the_first_byte_of_a_changed_file(site, get, tmp_path):
    drop(site, get)
    site.content, site.validator = OTHER_ARCHIVE, ("ETag", '"two"')

    def stop(*numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(report=stop)
    get()
    assert_complete(tmp_path, OTHER_PICTURES)


def test_a_mixture_that_no_header_betrays_is_rejected(site, get, tmp_path):
    site.validator = None
    drop(site, get)
    assert len(OTHER_ARCHIVE) == len(ARCHIVE)
    site.content = OTHER_ARCHIVE
    with pytest.raises(DownloadError, match="no good archive"):
        get()
    get()
    assert files_in(tmp_path / "maps") == OTHER_PICTURES


def test_without_a_length_the_archive_itself_tells_whether_it_is_complete(site, get, tmp_path):
    site.tells_length, site.drops_after = False, 100_000
    with pytest.raises(DownloadError, match="no good archive"):
        get()
    os.remove(tmp_path / "maps.tar.gz.rejected")
    site.drops_after = None
    get()
    assert_complete(tmp_path)
    assert [wanted for wanted, _ in site.asked] == [None, None]


@pytest.mark.parametrize("note", ["", '{"url": "http', "[]", '{"else": 1}', "[" * 5000, '{"url": 1, "length": null}'])
def test_a_note_that_was_cut_off_starts_again(site, get, tmp_path, note):
    drop(site, get)
    (tmp_path / "maps.tar.gz.partial.json").write_text(note)
    get()
    assert site.asked[1] == (None, None)
    assert_complete(tmp_path)


def test_wrong_bytes_are_not_unpacked_and_a_second_call_starts_afresh(site, get, tmp_path):
    site.content = b"<!doctype html><title>Please log in to this network</title>"
    with pytest.raises(DownloadError, match=r"no good archive: Not a gzipped file .*; it was renamed"):
        get()
    site.content = OTHER_ARCHIVE
    with pytest.raises(
        DownloadError, match=f"its sha256 is {hashlib.sha256(OTHER_ARCHIVE).hexdigest()}, .* {CHECKSUM};"
    ):
        get(sha256=CHECKSUM)
    assert os.listdir(tmp_path) == ["maps.tar.gz.rejected"]
    site.content = ARCHIVE
    get(sha256=CHECKSUM)
    assert files_in(tmp_path / "maps") == PICTURES


def test_the_same_file_is_expected_at_the_next_fetch(site, get, tmp_path):
    get()
    shutil.rmtree(tmp_path / "maps")
    site.content = OTHER_ARCHIVE
    with pytest.raises(DownloadError, match=f"expected was {CHECKSUM} .*maps.sha256 says of an earlier fetch"):
        get()


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(site, get, tmp_path):
    site.length = 10**18
    with pytest.raises(DownloadError, match=r"not enough space in .*need 2000000000000\.0 MB, and .* are free"):
        get(max_bytes=10**19)
    assert (tmp_path / "maps.tar.gz.partial").exists() is False


def test_servers_that_do_not_answer(site, get, monkeypatch):
    with pytest.raises(DownloadError, match="url=file:///etc/passwd: an address that begins with http"):
        get("file:///etc/passwd")
    with pytest.raises(DownloadError, match=r"cannot download http://\[half: "):
        get("http://[half")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/maps.tar.gz"
        with pytest.raises(DownloadError, match=r"the server is silent for 0\.1 s"):
            get(url, timeout=0.1)
    with pytest.raises(DownloadError, match="the server refuses the connection"):
        get(url)

    def unknown(*arguments, **keywords):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        DownloadError, match=r"name is not found, so there may be no internet here .*download the file by hand"
    ):
        get("http://pictures.example/maps.tar.gz")


@pytest.mark.parametrize("tells_length", [True, False])
def test_more_than_is_wanted_is_not_received(site, get, tmp_path, tells_length):
    site.tells_length = tells_length
    with pytest.raises(
        DownloadError, match=r"(it sends|[\d.]+ MB are) more than the 0\.2 MB that max_megabytes allows"
    ):
        get(max_bytes=200_000)
    assert not (tmp_path / "maps.tar.gz.partial").exists()


class Endless(socketserver.BaseRequestHandler):
    """Sends what the server holds, byte by byte, for ever; the head of the answer too where the server says so."""

    def handle(self) -> None:
        self.request.recv(10_000)
        if not self.server.slow_head:
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.server.over.wait(0.02):
            self.request.sendall(b"H")


@pytest.mark.parametrize(
    ("slow_head", "limits", "message"),
    [
        (False, {"timeout": 0.2}, "the server sends less than 1000 bytes a second"),
        (True, {"timeout": 0.2}, r"the server is silent for 0\.2 s"),
        (False, {"timeout": 20, "max_seconds": 0.2}, r"it takes longer than the 0\.2 s of max_hours"),
    ],
)
def test_a_byte_now_and_then_is_not_waited_for(get, slow_head, limits, message):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads, server.slow_head, server.over = True, slow_head, threading.Event()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        with pytest.raises(DownloadError, match=message):
            get(f"http://127.0.0.1:{server.server_address[1]}/maps.tar.gz", **limits)
        server.over.set()
        server.shutdown()


def test_what_a_server_says_cannot_reach_the_terminal(site, get):
    site.status, site.reason = 500, "\x1b[2Jgone"
    with pytest.raises(DownloadError, match=r"answers 500 \\x1b\[2Jgone; try again") as refusal:
        get()
    assert str(refusal.value).isprintable()


# --- words ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expanded"),
    [
        (["maps"], ['name="maps"']),
        (["--out", "a b", "maps", "url=http://x"], ['out="a b"', 'url="http://x"', 'name="maps"']),
        (["maps", "--cfg", "job"], ["--cfg", "job", 'name="maps"']),
        (["--help"], ["--help"]),
        (["it's,odd"], ['name="it\'s,odd"']),
        (["name=maps", "~x", "+datasets.z.url=y"], ['name="maps"', "~x", "+datasets.z.url=y"]),
    ],
)
def test_the_name_becomes_an_override(words, expanded):
    assert to_overrides("data fetch", words) == expanded


def test_two_names_are_refused():
    with pytest.raises(UserError, match="one name at a time; got maps, facades"):
        to_overrides("data fetch", ["maps", "facades"])
