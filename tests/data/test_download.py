"""Archives from strangers and from the user's own hand; the network is in tests/commands/test_data_fetch.py."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import stat
import tarfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_ghibli.data import archives, download
from lit_ghibli.data.archives import ArchiveError, unpack
from lit_ghibli.data.download import DownloadError, Fetched, check_room, fetch, sha256_of
from lit_ghibli.errors import UserError
from lit_ghibli.locks import began, this_process

PICTURES = {
    f"{split}/{number}.jpg": random.Random(number).randbytes(3000) for split in ("train", "val") for number in (1, 2)
}


def tar_of(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return stream.getvalue()


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": content for name, content in files.items()}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def member(name: str, kind: bytes = tarfile.REGTYPE, **attributes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


@pytest.fixture
def unpacked(tmp_path):
    """Unpack a tar file of the given bytes into a folder, and return that."""

    def run(tar: bytes, max_bytes: int = 10**6) -> Path:
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar))
        (tmp_path / "into").mkdir()
        unpack(tmp_path / "a.tar.gz", tmp_path / "into", max_bytes)
        return tmp_path / "into"

    return run


def test_every_file_is_written_as_it_was(unpacked):
    assert files_in(unpacked(tar_of(below("./maps", PICTURES), member("maps/more", tarfile.DIRTYPE)))) == below(
        "maps", PICTURES
    )


def test_permissions_are_those_of_new_files(unpacked):
    folder = unpacked(
        tar_of({}, member("x", mode=0o6777), member("d", tarfile.DIRTYPE, mode=0o000), member("d/y", mode=0))
    )
    (folder / "new").touch()
    (folder / "new folder").mkdir()
    modes = {path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert modes["x"] == modes["d/y"] == modes["new"]
    assert modes["d"] == modes["new folder"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "maps/../../x",
        "maps/..",
        "C:/x",
        "c:x",
        "..\\x",
        "\\x",
        "\\\\host\\share\\x",
        "//host/share/x",
    ],
)
def test_names_that_lead_outside_are_refused(tmp_path, unpacked, name):
    with pytest.raises(ArchiveError, match="would lie outside"):
        unpacked(tar_of({"first": b"1", name: b"2"}))
    assert set(files_in(tmp_path)) == {"a.tar.gz", "into/first"}


def test_a_name_that_no_system_can_hold_is_refused(unpacked):
    with pytest.raises(ArchiveError, match=r"'a\\x00b' would lie outside"):
        unpacked(tar_of({}, member("x", pax_headers={"path": "a\0b"})))


@pytest.mark.parametrize(
    "bad",
    [
        member("bad", tarfile.SYMTYPE, linkname="/etc"),
        member("bad", tarfile.SYMTYPE, linkname="first"),
        member("bad", tarfile.LNKTYPE, linkname="first"),
        member("bad", tarfile.FIFOTYPE),
        member("bad", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("bad", tarfile.BLKTYPE),
        member("bad", size=1, pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2 * 10**6)}),
    ],
    ids=["link", "inner link", "hard link", "pipe", "character device", "block device", "sparse"],
)
def test_only_plain_files_and_folders_are_made(unpacked, tmp_path, bad):
    with pytest.raises(ArchiveError, match=r"'bad' is neither a plain file nor a folder"):
        unpacked(tar_of({"first": b"1"}, bad))
    assert os.listdir(tmp_path / "into") == ["first"]


def test_the_size_limit_counts_every_byte_of_the_archive(unpacked, tmp_path):
    tar = tar_of(PICTURES)
    assert files_in(unpacked(tar, max_bytes=len(tar))) == PICTURES
    shutil.rmtree(tmp_path / "into")
    with pytest.raises(ArchiveError, match=r"more than the 0\.0 MB that max_megabytes allows"):
        unpacked(tar, max_bytes=len(tar) - 1)


def test_a_bomb_is_stopped_at_the_limit(unpacked, tmp_path):
    with pytest.raises(ArchiveError, match=r"more than the 1\.0 MB"):
        unpacked(tar_of({"bomb": bytes(30 * 10**6)}), max_bytes=10**6)
    assert sum(map(len, files_in(tmp_path / "into").values())) <= 10**6


def test_any_cut_or_damaged_archive_is_noticed(tmp_path):
    whole = gzip.compress(tar_of(PICTURES), mtime=0)
    path = tmp_path / "a.tar.gz"
    damaged = [whole[:length] for length in range(0, len(whole), len(whole) // 30)]
    for place in range(10, len(whole), len(whole) // 30):  # the first ten bytes are gzip's own header
        damaged.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for number, content in enumerate([*damaged, whole[:-1], b"<!doctype html>"]):
        path.write_bytes(content)
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ArchiveError):
            unpack(path, tmp_path / str(number), 10**6)


def test_a_damaged_header_inside_is_not_taken_for_the_end(unpacked):
    tar = bytearray(tar_of({"one": b"1", "two": b"2"}))
    assert tar[1024:1027] == b"two", "a header and a block of content stand before"
    tar[1024] ^= 1
    with pytest.raises(ArchiveError, match="bad checksum"):
        unpacked(bytes(tar))


def test_an_archive_that_ends_between_two_members_is_cut_short(unpacked):
    with pytest.raises(ArchiveError, match="the mark of its end is missing"):
        unpacked(tar_of({"one": b"1", "two": b"2"})[:1024])


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_fills_the_memory_is_not_read(unpacked, kind):
    header = member("x", kind, size=900 * 10**6).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ArchiveError, match=r"a header of 900\.0 MB"):
        unpacked(header + bytes(1024), max_bytes=10**9)


def test_more_members_than_any_data_set_has_are_refused(unpacked, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 3)
    with pytest.raises(ArchiveError, match="more than 3 members"):
        unpacked(tar_of(PICTURES))


@pytest.mark.parametrize(
    "names",
    [("a", "a/b"), ("a/b", "a"), ("a", "./a"), ("x" * 300,), ("a/" + "y" * 300 + "/b",)],
    ids=lambda names: names[0][:3],
)
def test_names_in_conflict_are_the_archives_fault(tmp_path, names):
    put(tmp_path, tar_of(dict.fromkeys(names, b"1")))
    with pytest.raises(DownloadError, match=r"no good archive: its member .* is in conflict with another, or cannot"):
        by_hand(tmp_path)
    assert os.listdir(tmp_path) == ["maps.tar.gz.rejected"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("maps.tar.gz", "maps.tar.gz is in the way"),
        ("maps", "maps is in the way"),
        (".maps.lock", r"cannot read or write .*\.maps\.lock"),
        ("maps.sha256", None),
    ],
)
def test_pipes_in_the_way_are_not_waited_for(tmp_path, name, said):
    if name != "maps.tar.gz":
        put(tmp_path, tar_of(PICTURES))
    os.mkfifo(tmp_path / name)
    with pytest.raises(DownloadError, match=said) if said else nullcontext():
        by_hand(tmp_path)
    assert (tmp_path / "maps").is_dir() == (not said)


def test_two_fetches_at_once_do_not_meet(tmp_path):
    put(tmp_path, tar_of(below("maps", PICTURES)))
    (tmp_path / ".maps.lock").write_text(
        json.dumps({**this_process(), "process": (other := os.getppid()), "began": began(other)})
    )
    with pytest.raises(DownloadError, match=rf"process {other} on .* fetches this: wait for it"):
        by_hand(tmp_path)
    (tmp_path / ".maps.lock").write_text(json.dumps({**this_process(), "began": "long ago"}))  # killed
    assert by_hand(tmp_path).fresh
    assert not (tmp_path / ".maps.lock").exists()


def test_an_archive_without_files_is_no_data_set(unpacked):
    with pytest.raises(ArchiveError, match="no files"):
        unpacked(tar_of({}, member("maps", tarfile.DIRTYPE)))


def test_checksum_of_a_known_message(tmp_path):
    (tmp_path / "x").write_bytes(b"a" * 10**6)  # FIPS 180-2, appendix B.3
    assert sha256_of(tmp_path / "x") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"


def test_room_is_checked_to_the_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    check_room(tmp_path, 2_000_000)
    with pytest.raises(DownloadError, match=r"need 2\.0 MB, and 2\.0 MB are free; make room, or .* --out"):
        check_room(tmp_path, 2_000_001)


# --- an archive that the user has put in place ---------------------------------


def by_hand(folder: Path, *, sha256: str | None = None, max_bytes: int = 10**6) -> Fetched:
    """Fetch where there is nobody to answer."""
    return fetch("maps", "http://127.0.0.1:9/maps.tar.gz", folder, sha256=sha256, max_bytes=max_bytes, timeout=1)


def put(folder: Path, tar: bytes) -> str:
    content = gzip.compress(tar)
    folder.mkdir(exist_ok=True)
    (folder / "maps.tar.gz").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("prefix", ["maps/", "other name/", ""])
def test_an_archive_in_place_is_used_and_kept(tmp_path, prefix):
    checksum = put(tmp_path, tar_of({f"{prefix}{name}": content for name, content in PICTURES.items()}))
    assert by_hand(tmp_path) == Fetched(tmp_path / "maps", checksum, fresh=True)
    assert files_in(tmp_path / "maps") == PICTURES
    assert set(os.listdir(tmp_path)) == {"maps", "maps.sha256", "maps.tar.gz"}
    assert (tmp_path / "maps.sha256").read_text() == f"{checksum}  maps.tar.gz\n"
    assert by_hand(tmp_path) == Fetched(tmp_path / "maps", checksum, fresh=False)


def test_a_folder_that_someone_else_filled_is_left_alone(tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "mine.jpg").write_bytes(b"mine")
    assert by_hand(tmp_path) == Fetched(tmp_path / "maps", None, fresh=False)
    assert files_in(tmp_path) == {"maps/mine.jpg": b"mine"}


def test_an_empty_folder_is_filled(tmp_path):
    put(tmp_path, tar_of(below("maps", PICTURES)))
    (tmp_path / "maps").mkdir()
    assert by_hand(tmp_path).fresh
    assert files_in(tmp_path / "maps") == PICTURES


def test_the_checksum_given_must_match(tmp_path):
    checksum = put(tmp_path, tar_of(below("maps", PICTURES)))
    with pytest.raises(
        DownloadError, match=f"its sha256 is {checksum}, expected was {'0' * 64}; it was renamed to maps"
    ):
        by_hand(tmp_path, sha256="0" * 64)
    assert os.listdir(tmp_path) == ["maps.tar.gz.rejected"]
    (tmp_path / "maps.tar.gz.rejected").rename(tmp_path / "maps.tar.gz")
    assert by_hand(tmp_path, sha256=checksum.upper()).fresh


def test_the_checksum_of_an_earlier_fetch_must_match_too(tmp_path):
    old = put(tmp_path, tar_of(below("maps", PICTURES)))
    by_hand(tmp_path)
    shutil.rmtree(tmp_path / "maps")
    new = put(tmp_path, tar_of({"maps/train/1.jpg": b"another"}))
    with pytest.raises(DownloadError, match=rf"{new}, expected was {old} \(as .*maps.sha256 says .* delete that file"):
        by_hand(tmp_path)
    assert not (tmp_path / "maps").exists()
    put(tmp_path, tar_of({"maps/train/1.jpg": b"another"}))
    assert by_hand(tmp_path, sha256=new).sha256 == new, "what is asked for now comes before what was noted"
    assert files_in(tmp_path / "maps") == {"train/1.jpg": b"another"}


def test_a_complete_data_set_of_another_archive_is_not_passed_off(tmp_path):
    checksum = put(tmp_path, tar_of(below("maps", PICTURES)))
    by_hand(tmp_path)
    assert not by_hand(tmp_path, sha256=checksum).fresh
    with pytest.raises(DownloadError, match=f"sha256 {checksum}, and {'0' * 64} is asked for; remove"):
        by_hand(tmp_path, sha256="0" * 64)


@pytest.mark.parametrize("note", ["", "half a chec", "\udcff"])
def test_an_unreadable_note_counts_as_none(tmp_path, note):
    checksum = put(tmp_path, tar_of(below("maps", PICTURES)))
    (tmp_path / "maps.sha256").write_bytes(note.encode(errors="surrogateescape"))
    assert by_hand(tmp_path).sha256 == checksum


@pytest.mark.parametrize("sha256", ["", "123", "g" * 64, "0" * 65])
def test_what_is_no_checksum_is_refused(tmp_path, sha256):
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        by_hand(tmp_path, sha256=sha256)


def test_a_damaged_archive_leaves_no_data_and_no_note(tmp_path):
    put(tmp_path, tar_of(below("maps", PICTURES)))
    path = tmp_path / "maps.tar.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(
        DownloadError, match=r"maps\.tar\.gz: no good archive: .*; it was renamed to maps\.tar\.gz\.rejected"
    ):
        by_hand(tmp_path)
    assert os.listdir(tmp_path) == ["maps.tar.gz.rejected"]


def test_an_unsafe_archive_leaves_nothing_either(tmp_path):
    put(tmp_path / "out", tar_of(below("maps", PICTURES) | {"../evil": b""}))
    with pytest.raises(DownloadError, match=r"no good archive: its member '\.\./evil' would lie outside"):
        by_hand(tmp_path / "out")
    assert set(files_in(tmp_path)) == {"out/maps.tar.gz.rejected"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot read or write .*file/datasets \(Not a directory\); .* --out"):
        by_hand(tmp_path / "file" / "datasets")


def test_a_full_disk_is_named_and_costs_nothing_but_time(tmp_path, monkeypatch):
    put(tmp_path, tar_of(below("maps", PICTURES)))

    def fail(source, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "copyfileobj", fail)
        with pytest.raises(DownloadError, match=r"cannot read or write .* \(No space left on device\)"):
            by_hand(tmp_path)
    assert os.listdir(tmp_path) == ["maps.tar.gz"]
    assert by_hand(tmp_path).fresh
