import io
import random
import struct
import subprocess
import sys
import textwrap
import tracemalloc
import warnings

import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.archives import HTML, encoded, picture
from tests.unit.images.pictures import (
    QUADRANTS,
    STORED_AS,
    apply,
    decoded,
    difference,
    exif_of,
    resized_header,
    resized_png,
    sixteen_bit_png,
)

from imagenet_etl.errors import BadImage
from imagenet_etl.images.jpeg import probe_jpeg
from imagenet_etl.images.transform import COPIED, RE_ENCODED, REPAIRED, Prepared, codec_versions


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "spec", ["none", "short_edge:40", "crop:60x40", "squash:60x40", "long_edge:60", "fill:60x40",
             "half_crop:60x40"],
)  # fmt: skip
@pytest.mark.parametrize("extra", [b"", b"trailing"])
def test_a_jpeg_that_fits_is_copied_byte_for_byte(mode, spec, extra):
    data = (
        encoded(picture(60, 40, mode), quality=71, progressive=True, comment=b"as it was") + extra
    )
    assert apply(data, spec) == Prepared(data, 60, 40, COPIED)


def test_a_small_jpeg_is_not_enlarged_unless_asked_for():
    assert apply(encoded(picture(60, 40)), "short_edge:80").how == COPIED


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
@pytest.mark.parametrize("spec", ["none:q95", "short_edge:32:q95"])
def test_what_trainers_cannot_decode_is_repaired_to_an_rgb_jpeg(kind, spec):
    out = apply(STRANGERS[kind], spec)
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
    out = apply(data, "q95")
    assert out.how == REPAIRED
    ramp = [decoded(out).getpixel((x, 8))[0] for x in range(256)]
    assert max(abs(value - x) for x, value in enumerate(ramp)) <= 4


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_known_white_are_refused(mode):
    data = encoded(Image.new(mode, (8, 8), 7), "TIFF")
    with pytest.raises(BadImage, match="32-bit samples"):
        apply(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "CMYK", "PNG", "WEBP"])
def test_re_encoded_images_are_upright(orientation, kind):
    stored = STORED_AS[orientation]
    if kind == "JPEG":
        data, spec = encoded(stored, exif=exif_of(orientation), quality=95), "squash:32x16"
    elif kind == "CMYK":
        data = encoded(stored.convert("CMYK"), exif=exif_of(orientation), quality=95)
        spec = "none"
    else:
        data, spec = encoded(stored, kind, exif=exif_of(orientation)), "none"
    image = decoded(apply(data, spec))
    assert image.getexif().get(0x0112, 1) == 1
    assert difference(image, QUADRANTS.resize(image.size)) < 14
    assert image.width == 2 * image.height


@pytest.mark.parametrize("orientation", range(1, 9))
def test_whether_an_image_fits_is_decided_on_its_upright_size(orientation):
    data = encoded(STORED_AS[orientation], exif=exif_of(orientation))
    assert apply(data, "squash:64x32").how == COPIED
    other = apply(data, "squash:32x64:upscale")
    assert (other.how, other.width, other.height) == (RE_ENCODED, 32, 64)


def test_broken_exif_does_not_condemn_an_image():
    data = encoded(picture(60, 40))
    for broken in (b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"", b"garbage" * 9):
        payload = b"Exif\0\0" + broken
        segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
        out = apply(data[:2] + segment + data[2:], "short_edge:20")
        assert (out.width, out.height, out.how) == (30, 20, RE_ENCODED)


@pytest.mark.parametrize("size", [(10_000, 10_000), (20_000, 20_000), (60_000, 60_000)])
@pytest.mark.parametrize("kind", ["jpeg", "cmyk", "png"])
@pytest.mark.parametrize("spec", ["none", "short_edge:64", "short_edge:64:png"])
def test_oversize_is_refused_from_the_header_without_decoding(size, kind, spec):
    if kind == "png":
        data = resized_png(*size)
    else:
        mode = "CMYK" if kind == "cmyk" else "RGB"
        data = resized_header(encoded(picture(8, 8, mode)), *size)
    tracemalloc.start()
    with pytest.raises(BadImage, match=r"pixels"):
        apply(data, spec, max_pixels=64_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_refusing_a_hundred_megapixels_takes_no_memory(tmp_path):
    """In a process of its own, as codecs take memory that Python does not know of."""
    whole = Image.new("L", (10_000, 10_000), 99)
    for kind in ("JPEG", "PNG"):
        (tmp_path / f"100.{kind}").write_bytes(encoded(whole, kind))
    (tmp_path / "400.JPEG").write_bytes(resized_header(encoded(picture(8, 8)), 20_000, 20_000))
    code = """
        import resource, sys
        from pathlib import Path
        from imagenet_etl.errors import BadImage
        from imagenet_etl.images.spec import parse_image_spec
        from imagenet_etl.images.transform import Transformer

        transformer = Transformer([parse_image_spec("short_edge:64:png")], 64_000_000)
        files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for data in files:
            try:
                transformer.apply(data)
            except BadImage as error:
                print(error)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *refusals, grown_mib = out.splitlines()
    assert len(refusals) == 3
    assert all("above the limit of 64000000" in refusal for refusal in refusals)
    assert int(grown_mib) < 20, "decoding the smallest of them takes 100"


def test_the_pixel_limit_itself_is_allowed():
    data = encoded(picture(60, 40))
    assert apply(data, max_pixels=2400).how == COPIED
    with pytest.raises(BadImage, match="60x40 pixels, above the limit of 2399"):
        apply(data, max_pixels=2399)


@pytest.mark.parametrize(
    ("spec", "size"),
    [("short_edge:20", "20x4000"), ("fill:200x100", "200x100"), ("squash:200x100", "200x100")],
)
def test_nothing_is_drawn_beyond_the_pixel_limit(spec, size):
    with pytest.raises(BadImage, match=f"{size} pixels, above the limit"):
        apply(encoded(picture(1, 200)), f"{spec}:upscale", max_pixels=10_000)


def test_of_a_sliver_only_what_is_kept_is_drawn():
    out = apply(encoded(picture(1, 200)), "crop:20x20:upscale", max_pixels=1000)
    assert (out.width, out.height) == (20, 20)


def test_an_edge_that_no_jpeg_can_have_is_refused():
    data = encoded(Image.new("L", (70_000, 2)), "PNG")
    with pytest.raises(BadImage, match="70000x2 pixels, above the 65500"):
        apply(data)
    assert apply(data, "png").how == COPIED
    claims = resized_header(encoded(picture(8, 8)), 65_501, 8)
    with pytest.raises(BadImage, match="65501x8 pixels, above the 65500"):
        apply(claims)


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
@pytest.mark.parametrize("spec", ["none", "crop:8x8", "short_edge:16:png", "im2rec_compat"])
def test_what_is_no_image_is_refused_with_the_same_reason_every_time(data, reason, spec):
    reasons = set()
    for _ in range(2):
        with pytest.raises(BadImage) as caught:
            apply(data, spec)
        reasons.add(caught.value.reason)
        padding = bytearray(1 << 16)  # so that nothing comes to lie at the same address again
    del padding
    assert len(reasons) == 1
    assert reason in reasons.pop()


@pytest.mark.parametrize("spec", ["none", "short_edge:40", "squash:30x20:png"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_truncated_anywhere_is_refused(spec, options, mode):
    data = encoded(picture(400, 300, mode), **options)
    cuts = random.Random(16).sample(range(1, len(data) - 1), 60)
    for cut in cuts:
        with pytest.raises(BadImage):
            apply(data[:cut], spec)


def test_lossless_and_arithmetic_jpegs_are_never_copied():
    data = encoded(picture(16, 16)).replace(b"\xff\xc0", b"\xff\xc3", 1)
    with pytest.raises(BadImage, match="cannot be decoded"):
        apply(data)


HEADS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0",
         b"RIFF\x40\0\0\0WEBP"]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from(HEADS),
    body=st.binary(max_size=120),
    spec=st.sampled_from(["none", "crop:8x8", "png"]),
)
def test_random_bytes_raise_nothing_but_bad_image(head, body, spec):
    try:
        out = apply(head + body, spec, max_pixels=10_000)
    except BadImage:
        return
    if out.how != COPIED:
        decoded(out, "PNG" if spec == "png" else "JPEG")


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from(
        [encoded(SCENE), *(STRANGERS[kind] for kind in ("png", "gif", "tiff", "webp"))]
    ),
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
            out = apply(bytes(damaged), "crop:8x8", max_pixels=10_000)
        except BadImage:
            return
    assert (out.width, out.height) == (probe_jpeg(out.data).width, probe_jpeg(out.data).height)


def test_the_codecs_that_decide_the_bytes_are_named():
    versions = codec_versions()
    assert versions["pillow"] == PIL.__version__
    assert set(versions) == {"pillow", "simplejpeg", "cykooz-resizer", "libjpeg-turbo", "zlib"}
    assert all(text[0].isdigit() for text in versions.values())
