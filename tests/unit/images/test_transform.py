import io
import struct
import tracemalloc
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat
from tests.support.archives import HTML, encoded, picture

from imagenet_etl.errors import BadImage
from imagenet_etl.images.geometry import parse_resize
from imagenet_etl.images.jpeg import probe_jpeg
from imagenet_etl.images.transform import (
    COPIED,
    RE_ENCODED,
    REPAIRED,
    Prepared,
    Transform,
    codec_versions,
)


def transform(resize="none", *, upscale=False, quality=90, max_pixels=10_000_000):
    return Transform(parse_resize(resize), upscale, quality, max_pixels)


def decoded(prepared):
    image = Image.open(io.BytesIO(prepared.data))
    image.load()
    assert image.format == "JPEG"
    assert image.size == (prepared.width, prepared.height)
    return image


def difference(one, other):
    """Return the mean difference of two images' samples, of 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


QUADRANTS = Image.new("RGB", (64, 32), "black")
for box, colour in (
    ((0, 0, 32, 16), "red"), ((32, 0, 64, 16), "lime"), ((0, 16, 32, 32), "blue"),
):  # fmt: skip
    QUADRANTS.paste(colour, box)
# What a camera that was held otherwise stores of the same scene, by Exif orientation.
STORED_AS = {
    1: QUADRANTS,
    2: QUADRANTS.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: QUADRANTS.transpose(Image.Transpose.ROTATE_180),
    4: QUADRANTS.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: QUADRANTS.transpose(Image.Transpose.TRANSPOSE),
    6: QUADRANTS.transpose(Image.Transpose.ROTATE_90),
    7: QUADRANTS.transpose(Image.Transpose.TRANSVERSE),
    8: QUADRANTS.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("resize", ["none", "short_edge:40", "crop:60x40", "squash:60x40"])
@pytest.mark.parametrize("extra", [b"", b"trailing"])
def test_a_jpeg_that_fits_is_copied_byte_for_byte(mode, resize, extra):
    data = (
        encoded(picture(60, 40, mode), quality=71, progressive=True, comment=b"as it was") + extra
    )
    assert transform(resize).apply(data) == Prepared(data, 60, 40, COPIED)


@pytest.mark.parametrize(
    ("resize", "upscale", "size"),
    [
        ("short_edge:20", False, (30, 20)), ("squash:16x8", False, (16, 8)),
        ("crop:16x16", False, (16, 16)), ("crop:50x50", False, (50, 40)),
        ("short_edge:80", True, (120, 80)), ("squash:90x90", True, (90, 90)),
        ("crop:70x70", True, (70, 70)),
    ],
)  # fmt: skip
def test_a_jpeg_that_does_not_fit_is_re_encoded_to_size(resize, upscale, size):
    out = transform(resize, upscale=upscale).apply(encoded(picture(60, 40)))
    assert (out.width, out.height, out.how) == (*size, RE_ENCODED)
    assert decoded(out).mode == "RGB"


def test_a_small_jpeg_is_not_enlarged_unless_asked_for():
    data = encoded(picture(60, 40))
    assert transform("short_edge:80").apply(data).how == COPIED


def test_greyscale_comes_out_as_rgb_when_it_is_re_encoded():
    out = transform("short_edge:20").apply(encoded(picture(60, 40, "L")))
    assert decoded(out).mode == "RGB"


def test_the_content_survives_resizing():
    image = picture(256, 192)
    out = transform("short_edge:96").apply(encoded(image, quality=95))
    assert difference(decoded(out), image.resize((128, 96), Image.Resampling.BICUBIC)) < 4


def sixteen_bit_png(width, height):
    """A grey ramp of 16 bits a sample, which Pillow cannot write from RGB."""
    rows = b"".join(
        b"\0" + b"".join(struct.pack(">H", x * 65535 // (width - 1)) for x in range(width))
        for _ in range(height)
    )

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip


SCENE = picture(96, 64, seed=3)
STRANGERS = {
    "png": encoded(SCENE, "PNG"),
    "png_palette": encoded(SCENE.quantize(256), "PNG"),
    "png_alpha": encoded(SCENE.convert("RGBA"), "PNG"),
    "gif": encoded(SCENE.quantize(256), "GIF"),
    "bmp": encoded(SCENE, "BMP"),
    "webp": encoded(SCENE, "WEBP", lossless=True),
    "tiff": encoded(SCENE, "TIFF"),
    "cmyk": encoded(SCENE.convert("CMYK"), quality=95),
}


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("resize", ["none", "short_edge:32"])
def test_what_trainers_cannot_decode_is_repaired_to_an_rgb_jpeg(kind, resize):
    out = transform(resize, quality=95).apply(STRANGERS[kind])
    assert out.how == REPAIRED
    image = decoded(out)
    assert image.mode == "RGB"
    assert difference(image, SCENE.resize(image.size, Image.Resampling.BICUBIC)) < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_greys_keep_their_range(kind):
    data = sixteen_bit_png(256, 16)
    if kind == "TIFF":
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == "I;16"
            data = encoded(image, "TIFF")
    out = transform(quality=95).apply(data)
    assert out.how == REPAIRED
    ramp = [decoded(out).getpixel((x, 8))[0] for x in range(256)]
    assert max(abs(value - x) for x, value in enumerate(ramp)) <= 4


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_known_white_are_refused(mode):
    data = encoded(Image.new(mode, (8, 8), 7), "TIFF")
    with pytest.raises(BadImage, match="32-bit samples"):
        transform().apply(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "CMYK", "PNG", "WEBP"])
def test_re_encoded_images_are_upright(orientation, kind):
    stored = STORED_AS[orientation]
    if kind == "JPEG":
        data, resize = encoded(stored, exif=exif_of(orientation), quality=95), "squash:32x16"
    elif kind == "CMYK":
        data = encoded(stored.convert("CMYK"), exif=exif_of(orientation), quality=95)
        resize = "none"
    else:
        data, resize = encoded(stored, kind, exif=exif_of(orientation)), "none"
    out = transform(resize).apply(data)
    image = decoded(out)
    assert image.getexif().get(0x0112, 1) == 1
    assert difference(image, QUADRANTS.resize(image.size)) < 14
    assert image.width == 2 * image.height


@pytest.mark.parametrize("orientation", range(1, 9))
def test_whether_an_image_fits_is_decided_on_its_upright_size(orientation):
    data = encoded(STORED_AS[orientation], exif=exif_of(orientation))
    assert transform("squash:64x32").apply(data).how == COPIED
    other = transform("squash:32x64", upscale=True).apply(data)
    assert (other.how, other.width, other.height) == (RE_ENCODED, 32, 64)


def test_broken_exif_does_not_condemn_an_image():
    data = encoded(picture(60, 40))
    for broken in (b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"", b"garbage" * 9):
        payload = b"Exif\0\0" + broken
        segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
        out = transform("short_edge:20").apply(data[:2] + segment + data[2:])
        assert (out.width, out.height, out.how) == (30, 20, RE_ENCODED)


def resized_header(data, width, height):
    """Return a JPEG whose header claims another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def resized_png(width, height):
    data = bytearray(encoded(picture(8, 8), "PNG"))
    struct.pack_into(">II", data, 16, width, height)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("size", [(10_000, 10_000), (20_000, 20_000), (60_000, 60_000)])
@pytest.mark.parametrize("kind", ["jpeg", "cmyk", "png"])
@pytest.mark.parametrize("resize", ["none", "short_edge:64"])
def test_oversize_is_refused_from_the_header_without_decoding(size, kind, resize):
    if kind == "png":
        data = resized_png(*size)
    else:
        mode = "CMYK" if kind == "cmyk" else "RGB"
        data = resized_header(encoded(picture(8, 8, mode)), *size)
    tracemalloc.start()
    with pytest.raises(BadImage, match=r"pixels"):
        transform(resize, max_pixels=64_000_000).apply(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_the_pixel_limit_itself_is_allowed():
    data = encoded(picture(60, 40))
    assert transform(max_pixels=2400).apply(data).how == COPIED
    with pytest.raises(BadImage, match="60x40 pixels, above the limit of 2399"):
        transform(max_pixels=2399).apply(data)


@pytest.mark.parametrize("resize", ["short_edge:20", "crop:20x20"])
def test_a_sliver_is_not_enlarged_beyond_the_pixel_limit(resize):
    data = encoded(picture(1, 200))
    with pytest.raises(BadImage, match="20x4000 pixels, above the limit"):
        transform(resize, upscale=True, max_pixels=10_000).apply(data)


def test_an_edge_that_no_jpeg_can_have_is_refused():
    data = encoded(Image.new("L", (70_000, 2)), "PNG")
    with pytest.raises(BadImage, match="70000x2 pixels, above the 65500"):
        transform().apply(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (HTML, "is no readable image: it starts with b'<!DOCTYPE html><"),
        (bytes(5000), "is no readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "is no readable image"),
        (encoded(picture(60, 40))[:-300], "cut off"),
        (encoded(picture(60, 40), "PNG")[:-300], "cannot be decoded"),
        (encoded(picture(60, 40), "GIF")[:300], "is no readable image"),
        (resized_header(encoded(picture(8, 8, "CMYK")), 8, 4000)[:-2], "cut off"),
        (encoded(picture(8, 8)).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
         "is no readable image"),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_image_is_refused_with_the_same_reason_every_time(data, reason):
    reasons = set()
    for _ in range(2):
        with pytest.raises(BadImage) as caught:
            transform().apply(data)
        reasons.add(caught.value.reason)
        padding = bytearray(1 << 16)  # so that nothing comes to lie at the same address again
    del padding
    assert len(reasons) == 1
    assert reason in reasons.pop()


def test_lossless_and_arithmetic_jpegs_are_never_copied():
    data = encoded(picture(16, 16)).replace(b"\xff\xc0", b"\xff\xc3", 1)
    with pytest.raises(BadImage, match="cannot be decoded"):
        transform().apply(data)


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"II*\0",
            b"RIFF\x40\0\0\0WEBP",
        ]
    ),
    body=st.binary(max_size=120),
    resize=st.sampled_from(["none", "crop:8x8"]),
)
def test_random_bytes_raise_nothing_but_bad_image(head, body, resize):
    try:
        out = transform(resize, max_pixels=10_000).apply(head + body)
    except BadImage:
        return
    if out.how != COPIED:
        decoded(out)


PNG, JPEG, GIF = STRANGERS["png"], encoded(SCENE), STRANGERS["gif"]


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from([PNG, JPEG, GIF, STRANGERS["tiff"], STRANGERS["webp"]]),
    where=st.floats(0, 0.999),
    value=st.binary(min_size=1, max_size=4),
)
def test_damaged_images_raise_nothing_but_bad_image(data, where, value):
    damaged = bytearray(data)
    at = int(where * len(data))
    damaged[at : at + len(value)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            out = transform("crop:8x8", max_pixels=10_000).apply(bytes(damaged))
        except BadImage:
            return
    assert (out.width, out.height) == (probe_jpeg(out.data).width, probe_jpeg(out.data).height)


def test_quality_decides_the_size_of_re_encoded_images():
    data = encoded(picture(200, 200), "PNG")
    sizes = [len(transform(quality=quality).apply(data).data) for quality in (10, 50, 90, 100)]
    assert sizes == sorted(set(sizes))


def test_quality_does_not_touch_copies():
    data = encoded(picture(20, 20))
    assert transform(quality=1).apply(data) == transform(quality=100).apply(data)


@pytest.mark.parametrize("kind", ["png", "cmyk", "gif"])
def test_the_same_image_gives_the_same_bytes(kind):
    first, second = (transform("crop:24x24").apply(STRANGERS[kind]) for _ in range(2))
    assert first == second


def test_the_codecs_that_decide_the_bytes_are_named():
    import PIL

    assert codec_versions()["pillow"] == PIL.__version__
    assert codec_versions()["libjpeg"][0].isdigit()
