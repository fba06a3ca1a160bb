import errno
import io
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin
from torch import nn

from lit_ghibli.data.image_files import FolderError, ImageFileError, open_image
from lit_ghibli.inference.picture_files import plan_outputs, save_like
from lit_ghibli.inference.translator import Translator

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 40), (30, 40, 220), (240, 240, 240)


class Untouched(nn.Module):
    """The translation that changes nothing."""

    size_multiple, minimum_size = 4, 8

    def forward(self, photos):
        assert not any(length % 4 for length in photos.shape[-2:])
        assert photos.shape[1] == 3
        return photos


def quadrants(width: int = 48, height: int = 32) -> Image.Image:
    """Red and green above blue and white: shows how it is turned."""
    picture = Image.new("RGB", (width, height))
    for number, color in enumerate((RED, GREEN, BLUE, WHITE)):
        picture.paste(color, (number % 2 * width // 2, number // 2 * height // 2, width, height))
    return picture


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    width, height = picture.size
    return [picture.getpixel((x, y)) for y in (6, height - 7) for x in (6, width - 7)]


def assert_close(ours, theirs, tolerance: int = 4) -> None:
    assert np.abs(np.array(ours, dtype=int) - np.array(theirs, dtype=int)).max() <= tolerance


def stylized(original: Path, path: Path) -> Path:
    """One photograph through the whole path from file to file."""
    save_like(Translator(Untouched())(open_image(original)), original, path, quality=95)
    return path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    quadrants().save(path)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_a_turned_photograph_becomes_upright_and_is_shown_alike(tmp_path, orientation, extension):
    original = tmp_path / f"a.{extension}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Model] = orientation, "Camera"
    quadrants().save(original, exif=exif, quality=95)
    stylized(original, tmp_path / "out" / original.name)

    with Image.open(original) as before, Image.open(tmp_path / "out" / original.name) as after:
        assert after.format == before.format
        assert after.getexif()[ExifTags.Base.Orientation] == 1
        assert after.getexif()[ExifTags.Base.Model] == "Camera"
        assert after.size == ((48, 32) if orientation < 5 else (32, 48))
        assert_close(corners(after.convert("RGB")), corners(ImageOps.exif_transpose(before).convert("RGB")))


@pytest.mark.parametrize("extension", ["tif", "avif"])
def test_a_turned_photograph_of_a_format_that_pillow_turns_by_itself(tmp_path, extension):
    original, path = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Model] = 6, "Camera"
    quadrants().rotate(90, expand=True).save(original, exif=exif)  # as a camera stores it that is held upright
    stylized(original, path)
    assert open_image(path).size == open_image(original).size == (48, 32)
    assert_close(corners(open_image(path)), (RED, GREEN, BLUE, WHITE))
    with Image.open(path) as picture:
        assert picture.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert picture.getexif()[ExifTags.Base.Model] == "Camera"


def test_photographs_without_metadata_get_none(tmp_path):
    with Image.open(stylized(touch(tmp_path / "a.jpg"), tmp_path / "b.jpg")) as picture:
        assert len(picture.getexif()) == 0


def test_damaged_metadata_do_not_cost_the_picture(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.ImageDescription] = 6, "a description"
    for number, damage in enumerate((b"garbage!", b"II*\0\xff\xff\xff\x7f")):
        original = tmp_path / f"{number}.jpg"
        quadrants().save(original, exif=exif, quality=95)
        content = bytearray(original.read_bytes())
        start = content.index(b"Exif\0\0") + 6
        content[start : start + 8] = damage
        original.write_bytes(content)
        with Image.open(stylized(original, tmp_path / f"out{number}.jpg")) as picture:
            assert_close(corners(picture), (RED, GREEN, BLUE, WHITE))


@pytest.mark.parametrize(
    ("mode", "name", "expected"),
    [
        ("L", "a.png", [(87,) * 3, (131,) * 3]),  # 0.299 R + 0.587 G + 0.114 B
        ("P", "a.png", [(204, 51, 51), (51, 204, 51)]),  # the nearest web colors
        ("CMYK", "a.jpg", [RED, GREEN]),
        ("1", "a.bmp", [(0,) * 3, (255,) * 3]),
    ],
)
def test_photographs_of_other_kinds(tmp_path, mode, name, expected):
    picture = quadrants().convert(mode, dither=Image.Dither.NONE)
    picture.save(tmp_path / name, quality=95)
    with Image.open(stylized(tmp_path / name, tmp_path / "out" / name)) as written:
        assert written.size == (48, 32)
        assert_close(corners(written.convert("RGB"))[:2], expected, 6)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (13, 9)])
def test_every_size_is_kept(tmp_path, size):
    quadrants(*size).save(tmp_path / "a.png")
    with Image.open(stylized(tmp_path / "a.png", tmp_path / "b.png")) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(quadrants(*size)))


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    original, target = touch(tmp_path / "a.png"), touch(tmp_path / "out" / "a.png")
    before = target.read_bytes()

    def half(self, file, **options):
        file.write(before[:20])
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(ImageFileError, match=r"a\.png cannot be written as PNG \(no space left\)"):
        save_like(quadrants(), original, target, quality=95)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


# --- names ---------------------------------------------------------------------


def test_pictures_keep_their_names_and_subfolders(tmp_path):
    single = touch(tmp_path / "a b=c 'ü'.JPG")
    nested = [touch(tmp_path / "holiday" / name) for name in ("1.png", "sub dir/1.png", "sub dir/x.webp")]
    (tmp_path / "holiday" / "notes.txt").write_text("no image")
    out = tmp_path / "out"
    assert plan_outputs([str(single), tmp_path / "holiday"], out, overwrite=False) == {
        single: out / single.name,
        nested[0]: out / "1.png",
        nested[1]: out / "sub dir" / "1.png",
        nested[2]: out / "sub dir" / "x.webp",
    }
    assert not out.exists(), "planning writes nothing"


def failure(*inputs: Path, out: Path, overwrite: bool = False) -> str:
    with pytest.raises(FolderError) as caught:
        plan_outputs(inputs, out, overwrite=overwrite)
    return str(caught.value)


def test_inputs_that_cannot_be_read_are_named(tmp_path):
    assert "missing.jpg: no such" in failure(tmp_path / "missing.jpg", out=tmp_path / "out")
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt: not an image" in failure(tmp_path / "notes.txt", out=tmp_path / "out")


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_pictures_of_one_name_are_refused(tmp_path, overwrite):
    first, second = touch(tmp_path / "a" / "1.png"), touch(tmp_path / "b" / "1.png")
    message = failure(tmp_path / "a", second, out=tmp_path / "out", overwrite=overwrite)
    assert str(first) in message
    assert str(second) in message


def test_what_a_killed_call_was_writing_is_removed(tmp_path):
    photo = touch(tmp_path / "1.png")
    others = [tmp_path / ".mine.partial", tmp_path / ".mine.tar.partial"]
    for path in (tmp_path / ".1.png.0123456789ab.partial", *others):
        path.touch()
    plan_outputs([photo], None, overwrite=False, name="ink")
    assert sorted(tmp_path.iterdir()) == sorted([photo, *others])


def test_pictures_of_an_earlier_call_are_no_photographs(tmp_path):
    photo, picture = touch(tmp_path / "a" / "1.png"), touch(tmp_path / "a" / "out" / "1.png")
    assert plan_outputs([photo.parent], picture.parent, overwrite=True) == {photo: picture}


@pytest.mark.parametrize("overwrite", [False, True])
def test_photographs_are_never_overwritten(tmp_path, overwrite):
    photo = touch(tmp_path / "a" / "1.png")
    assert "would overwrite what is to be painted" in failure(photo.parent, out=photo.parent, overwrite=overwrite)
    (tmp_path / "link").symlink_to(photo.parent, target_is_directory=True)
    assert "would overwrite what is to be painted" in failure(photo, out=tmp_path / "link", overwrite=overwrite)
    # Another photograph's file counts as well.
    other = touch(tmp_path / "b" / "1.png")
    assert "would overwrite what is to be painted" in failure(
        photo, other.parent / "1.png", out=other.parent, overwrite=overwrite
    )


def test_existing_pictures_are_replaced_on_request_only(tmp_path):
    photo, target = touch(tmp_path / "1.png"), touch(tmp_path / "out" / "1.png")
    assert "overwrite=true" in failure(photo, out=target.parent)
    assert plan_outputs([photo], target.parent, overwrite=True) == {photo: target}


def test_a_file_is_no_folder_for_pictures(tmp_path):
    photo, file = touch(tmp_path / "1.png"), tmp_path / "notes"
    file.touch()
    assert "is a file" in failure(photo, out=file)


def test_pictures_are_written_in_formats_that_are_read(tmp_path):
    assert "x.gif: pictures are written to files that end in .jpg" in failure(
        touch(tmp_path / "1.png"), out=tmp_path / "x.gif"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.b.png", "a.b_ink.png"),
        ("2.10/1.png", "2.10/1_ink.png"),
        ("2.10", "2.10_ink/1.png"),
        (".", "../holiday_ink/2.10/1.png"),
        ("2.10/..", "../holiday_ink/2.10/1.png"),
    ],
)
def test_without_a_folder_pictures_lie_beside_what_was_given(tmp_path, monkeypatch, given, expected):
    (tmp_path / "holiday").mkdir()
    monkeypatch.chdir(tmp_path / "holiday")
    touch(Path("a.b.png"))
    touch(Path("2.10/1.png"))
    plan = plan_outputs([given], None, overwrite=False, name="ink")
    assert Path(expected).resolve() in {path.resolve() for path in plan.values()}


def test_a_picture_beside_is_never_a_photograph_that_was_given(tmp_path):
    photos = [touch(tmp_path / name) for name in ("a.png", "a_ink.png")]
    with pytest.raises(FolderError, match="would overwrite what is to be painted"):
        plan_outputs(photos, None, overwrite=True, name="ink")


def test_what_cannot_be_written_is_told(tmp_path):
    original = touch(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match=r"b\.webp cannot be written as WEBP"):
        save_like(Image.new("RGB", (17_000, 2)), original, tmp_path / "b.webp", quality=90)
    with pytest.raises(ImageFileError, match=r"b\.png cannot be written: "):
        save_like(quadrants(), original, original / "b.png", quality=90)
    assert list(tmp_path.iterdir()) == [original]


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif", "avif", "bmp"])
@pytest.mark.parametrize("room", [0, 1, 300, "all but a byte"])
def test_a_disk_that_takes_no_more_leaves_the_old_file(tmp_path, extension, room):
    original, target = touch(tmp_path / f"a.{extension}"), tmp_path / "out" / f"a.{extension}"
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    save_like(picture, original, target, quality=95)
    before = target.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 1 if room == "all but a byte" else room, old[1]))
    try:
        with pytest.raises(ImageFileError, match=rf"a\.{extension} cannot be written: File too large"):
            save_like(picture, original, target, quality=95)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_is_no_fault_of_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    original, target = touch(tmp_path / "a.png"), tmp_path / "out" / "a.png"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*out/a\.png'"):
        save_like(quadrants(), original, target, quality=95)
    assert list(target.parent.iterdir()) == []


def test_pictures_of_formats_that_are_only_read_are_written_as_png(tmp_path):
    photo = touch(tmp_path / "in" / "a.gif")
    assert plan_outputs([photo.parent], tmp_path / "out", overwrite=False) == {photo: tmp_path / "out" / "a.png"}
    with Image.open(stylized(photo, tmp_path / "a.png")) as picture:
        assert_close(corners(picture.convert("RGB")), (RED, GREEN, BLUE, WHITE))
    twin = touch(tmp_path / "in" / "a.png")
    assert f"{photo} and {twin} would both be written" in failure(photo.parent, out=tmp_path / "out")


def test_a_picture_says_that_it_is_of_srgb(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.ColorSpace: 0xFFFF, ExifTags.Base.ISOSpeedRatings: 400})
    quadrants().save(
        tmp_path / "a.jpg", exif=exif, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    with Image.open(stylized(tmp_path / "a.jpg", tmp_path / "b.jpg")) as picture:
        assert picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] == 1
        assert picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 400
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)
        assert len(picture.info["icc_profile"]) < 1000


# --- what pictures keep --------------------------------------------------------

XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
    'xmp:Rating="4" tiff:Orientation="6" GCamera:MotionPhoto="1"><dc:title>süß</dc:title><xmp:Thumbnails/>'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def described(path: Path) -> Path:
    """A photograph, held upright, with all that a file can say of it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.ISOSpeedRatings: 400, ExifTags.Base.ExifImageWidth: 48, ExifTags.IFD.Interop: {1: "R03"}}
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS.GPSLatitudeRef: "N"})
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Comment", "a comment")
    chunks.add_text("Raw profile type exif", "what is not for people")
    chunks.add_itxt("XML:com.adobe.xmp", XMP)
    options = {"exif": exif.tobytes(), "xmp": XMP.encode(), "dpi": (300, 300), "comment": "a comment"}
    quadrants().save(path, pnginfo=chunks, **options)
    return path


@pytest.mark.parametrize(
    ("read", "written", "kept"),
    [
        ("jpg", "jpg", "EXIF XMP dpi comment"),
        ("png", "png", "EXIF XMP dpi comment"),
        ("jpg", "png", "EXIF XMP dpi comment"),
        ("png", "jpg", "EXIF XMP dpi comment"),
        ("webp", "webp", "EXIF XMP"),
        ("avif", "avif", "EXIF XMP"),
        ("tif", "tif", "EXIF dpi"),
        ("jpg", "tif", "EXIF XMP dpi"),
        ("jpg", "bmp", "dpi"),
    ],
)
def test_what_is_said_of_a_photograph_holds_of_its_picture(tmp_path, read, written, kept):
    path = stylized(described(tmp_path / f"a.{read}"), tmp_path / f"b.{written}")
    with Image.open(path) as picture:
        assert picture.size == (32, 48)
        exif, xmp, info = picture.getexif(), str(picture.info.get("xmp", "")), dict(picture.info)
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        details, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
        assert ("EXIF" in kept) == (details.get(ExifTags.Base.ISOSpeedRatings) == 400)
        assert ("EXIF" in kept) == (place.get(ExifTags.GPS.GPSLatitudeRef) == "N")
        assert details.get(ExifTags.Base.ExifImageWidth, 32) == 32
        assert ExifTags.IFD.Interop not in details
        assert ("XMP" in kept) == ("Rating" in xmp)
        assert not any(word in xmp for word in ("Orientation", "Motion", "Thumbnails"))
        assert ("dpi" in kept) == (round(info.get("dpi", (0, 0))[0]) == 300)
        assert ("comment" in kept) == (info.get("comment", info.get("Comment")) in (b"a comment", "a comment"))
        assert "Raw profile type exif" not in info
        assert (written == "bmp") == ("icc_profile" not in info)


def test_metadata_too_long_for_a_format_do_not_cost_the_picture(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    quadrants().save(tmp_path / "a.png", exif=exif)
    with Image.open(stylized(tmp_path / "a.png", tmp_path / "b.jpg")) as picture:
        assert len(picture.getexif()) == 0


def test_the_thumbnail_of_the_photograph_is_left_out(tmp_path):
    thumbnail = b"a small photograph"
    first = struct.pack("<HHHI4sI", 1, 0x0110, 2, 4, b"Cam\0", 26)
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + first + second + thumbnail
    quadrants().save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as photo:
        assert photo.getexif().get_ifd(ExifTags.IFD.IFD1)[0x0202] == len(thumbnail)
    path = stylized(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert thumbnail not in path.read_bytes()
    with Image.open(path) as picture:
        assert picture.getexif()[ExifTags.Base.Model] == "Cam"


def fading(kind: str) -> Image.Image:
    """A picture of one color, from see-through at the left to opaque at the right."""
    steps = np.arange(256, dtype=np.uint8)
    if kind == "P":
        picture = Image.fromarray(np.tile(steps, (4, 1)))
        picture.putpalette([200, 40, 90] * 256)
        picture.info["transparency"] = bytes(range(256))
        return picture
    picture = Image.new("RGB", (256, 4), (200, 40, 90)).convert(kind[:-1])
    picture.putalpha(Image.fromarray(np.tile(steps, (4, 1))))
    return picture


@pytest.mark.parametrize(
    ("kind", "name"), [("RGBA", "a.png"), ("LA", "a.png"), ("P", "a.png"), ("RGBA", "a.tif"), ("RGBA", "a.webp")]
)
def test_what_is_seen_through_stays_so_and_looks_alike_on_every_color(tmp_path, kind, name):
    original = fading(kind)
    original.save(tmp_path / name, lossless=True)
    with Image.open(stylized(tmp_path / name, tmp_path / "out" / name)) as picture:
        assert picture.mode == "RGBA"
        before, after = original.convert("RGBA"), picture.convert("RGBA")
        assert before.getchannel("A").tobytes() == after.getchannel("A").tobytes()
    for color in ("black", "white", "magenta"):
        shown = [Image.alpha_composite(Image.new("RGBA", (256, 4), color), each) for each in (before, after)]
        assert_close(*shown, 1)


@pytest.mark.parametrize("size", [(1, 1), (3, 50)])
def test_what_is_seen_through_is_turned_with_the_picture(tmp_path, size):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    original = quadrants(*size)
    original.putalpha(Image.linear_gradient("L").resize(size))
    original.save(tmp_path / "a.png", exif=exif)
    with Image.open(stylized(tmp_path / "a.png", tmp_path / "b.png")) as picture:
        assert (
            picture.getchannel("A").tobytes()
            == ImageOps.exif_transpose(original).rotate(-90, expand=True).getchannel("A").tobytes()
        )
    with Image.open(stylized(tmp_path / "a.png", tmp_path / "b.jpg")) as picture:
        assert picture.mode == "RGB"


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("extended", [True, False])  # a file with metadata has another head
def test_a_webp_without_loss_stays_so(tmp_path, lossless, extended):
    picture = Image.effect_noise((32, 32), 90).convert("RGB")
    picture.save(tmp_path / "a.webp", lossless=lossless, **({"xmp": XMP.encode()} if extended else {}))
    stylized(tmp_path / "a.webp", tmp_path / "b.webp")
    same = open_image(tmp_path / "a.webp").tobytes() == open_image(tmp_path / "b.webp").tobytes()
    assert same == lossless


@pytest.mark.parametrize(("quality", "sampling"), [(95, (1, 1)), (94, (2, 2))])
def test_from_quality_95_on_colors_are_as_fine_as_lightness(tmp_path, quality, sampling):
    save_like(quadrants(), touch(tmp_path / "a.png"), tmp_path / "b.jpg", quality=quality)
    with Image.open(tmp_path / "b.jpg") as picture:
        assert picture.layer[0][1:3] == sampling


def test_the_translator_runs_in_evaluation_mode():
    network = nn.Sequential(nn.Dropout(0.5))
    network.size_multiple = network.minimum_size = 1
    photo = torch.rand(1, 3, 8, 8)
    assert torch.equal(Translator(network).translate(photo), photo)
