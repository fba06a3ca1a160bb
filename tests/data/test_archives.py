"""ZIP archives from strangers; tar files are in test_download.py."""

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from lit_ghibli.data import archives
from lit_ghibli.data.archives import ArchiveError, unpack
from lit_ghibli.data.download import DownloadError, fetch

PICTURES = {f"trainA/{number}.jpg": bytes(range(256)) * number for number in (1, 2)} | {"testA/ä.jpg": b"3"}


def zip_of(files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED, mode: int = 0o100644, flags: int = 0) -> bytes:
    """An archive; the mode and flags are those of its last member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.filename = member.orig_filename = name  # zipfile itself would cut it at a null
            member.compress_type = packing
            archive.writestr(member, content)
        archive.filelist[-1].external_attr = mode << 16
        archive.filelist[-1].flag_bits |= flags
    return stream.getvalue()


@pytest.fixture
def unpacked(tmp_path):
    """Unpack an archive of the given bytes into a folder, and return what is in that."""

    def run(content: bytes, max_bytes: int = 10**6) -> dict[str, bytes]:
        (tmp_path / "a.zip").write_bytes(content)
        into = tmp_path / "into"
        into.mkdir(exist_ok=True)
        unpack(tmp_path / "a.zip", into, max_bytes)
        return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}

    return run


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_file_is_written_as_it_was(unpacked, tmp_path, packing):
    assert unpacked(zip_of(PICTURES | {"empty/": b""}, packing, mode=0o040000)) == PICTURES
    assert (tmp_path / "into" / "empty").is_dir()
    (tmp_path / "new").touch()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "into").rglob("*.jpg")} == {
        stat.S_IMODE((tmp_path / "new").stat().st_mode)
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(
            (zip_of({"1": b"", name: b""}), "would lie outside")
            for name in ("/x", "../x", "a/../../x", "C:/x", "..\\x")
        ),
        (zip_of({"1": b"", "a\0b": b""}), "would lie outside"),
        (zip_of({"1": b"", "bad": b"/etc"}, mode=stat.S_IFLNK | 0o777), "neither a plain file nor a folder"),
        (zip_of({"1": b"", "bad/": b""}, mode=stat.S_IFLNK | 0o777), "neither a plain file nor a folder"),
        (zip_of({"1": b"", "bad": b""}, mode=stat.S_IFIFO), "neither a plain file nor a folder"),
        (zip_of({"1": b"", "bad": b""}, flags=1), "encrypted or packed in an uncommon way"),
        (zip_of({"bomb": bytes(10**6 + 1)}), r"more than the 1\.0 MB that max_megabytes allows"),
        (zip_of({"bomb": bytes(10)}, zipfile.ZIP_LZMA), "packed in an uncommon way"),
        (zip_of({"a": b"1", "a/b": b"2"}), "in conflict with another"),
        (zip_of({"a/b": b"2", "a": b"1"}), "in conflict with another"),
        (zip_of({"1": b"", "x" * 300: b"1"}), "in conflict with another, or cannot be called so here"),
        (zip_of({"maps/": b""}, mode=0o040755), "no files"),
        (b"PK" + bytes(100), "not a zip file"),
        # The end of an archive that claims a directory of 900 MB, which began before the file
        (b"PK" + bytes(50) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 9 * 10**8, 0, 0), "cut short|Bad offset"),
    ],
)
def test_what_is_refused(unpacked, tmp_path, content, message):
    with pytest.raises(ArchiveError, match=message):
        unpacked(content)
    assert set(os.listdir(tmp_path)) == {"a.zip", "into"}
    assert set(os.listdir(tmp_path / "into")) <= {"1", "a", "maps"}


def test_a_directory_that_fills_the_memory_is_not_read(unpacked, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST_DIRECTORY", 100)
    with pytest.raises(ArchiveError, match=r"a directory of 0\.0 MB"):
        unpacked(zip_of(PICTURES))


def test_more_members_than_any_data_set_has_are_refused(unpacked, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 2)
    with pytest.raises(ArchiveError, match="more than 2 members"):
        unpacked(zip_of(PICTURES))


def test_a_member_that_is_larger_than_it_claims_is_damaged(unpacked):
    content = bytearray(zip_of({"bomb": bytes(10**6)}))
    for place in (22, content.rindex(b"PK\1\2") + 24):  # its size, before it and in the directory
        content[place : place + 4] = struct.pack("<L", 10)
    with pytest.raises(ArchiveError, match="Bad CRC"):
        unpacked(bytes(content), max_bytes=100)


def test_damage_is_noticed_or_harms_nothing(unpacked, tmp_path):
    whole = zip_of(PICTURES)
    for length in range(0, len(whole), 20):
        with pytest.raises(ArchiveError):
            unpacked(whole[:length])
    contents = set(PICTURES.values())
    for place in range(2, len(whole), 11):
        for bit in (0, 7):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            try:
                assert set(unpacked(bytes(content)).values()) <= contents
            except ArchiveError:
                for path in Path(tmp_path / "into").rglob("*"):
                    if path.is_file():
                        path.unlink()


def test_a_data_set_in_a_zip_is_fetched(tmp_path):
    path = tmp_path / "monet2photo.zip"
    path.write_bytes(zip_of({f"monet2photo/{name}": content for name, content in PICTURES.items()}))
    address = {"sha256": None, "max_bytes": 10**6, "timeout": 1}
    assert fetch("monet2photo", "http://127.0.0.1:9/x.ZIP?y", tmp_path, **address).fresh
    assert (tmp_path / "monet2photo" / "trainA" / "2.jpg").read_bytes() == PICTURES["trainA/2.jpg"]
    assert (tmp_path / "monet2photo.sha256").read_text().endswith("  monet2photo.zip\n")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DownloadError, match=r"other\.zip: no good archive: .*; it was renamed to other\.zip\.rejected"):
        fetch("other", "http://127.0.0.1:9/x.zip", _renamed(path, "other.zip"), **address)


def _renamed(path: Path, name: str) -> Path:
    path.rename(path.with_name(name))
    return path.parent
