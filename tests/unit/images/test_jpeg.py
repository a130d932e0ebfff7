import io
import struct
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.archives import encoded, picture

from imagenet_etl.errors import BadImage
from imagenet_etl.images.jpeg import EOI, exif_orientation, is_jpeg, probe_jpeg

SAMPLES = Path(__file__).parents[3] / "../shared/data/imagenet-samples.tar"


def with_segment(data, code, payload):
    """Insert a marker segment right after the start of the image."""
    return data[:2] + bytes([0xFF, code]) + struct.pack(">H", len(payload) + 2) + payload + data[2:]


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
@pytest.mark.parametrize("progressive", [False, True])
def test_size_and_components_come_from_the_header(mode, components, progressive):
    data = encoded(picture(53, 31, mode), progressive=progressive)
    info = probe_jpeg(data)
    assert (info.width, info.height, info.components, info.precision) == (53, 31, components, 8)
    assert info.is_common
    assert info.is_progressive == progressive
    assert info.orientation == 1


@pytest.mark.parametrize("code", [0xC3, 0xC9, 0xCA, 0xCD])
def test_lossless_and_arithmetic_coding_are_told_from_common_jpegs(code):
    data = encoded(picture(16, 16)).replace(b"\xff\xc0", bytes([0xFF, code]), 1)
    assert not probe_jpeg(data).is_common


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_from_exif_in_either_byte_order(orientation, order):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    data = encoded(picture(20, 10), exif=exif.tobytes())
    assert probe_jpeg(data).orientation == orientation
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x0112] == orientation


TIFF = b"II*\0\x08\0\0\0"
ROTATED = TIFF + struct.pack("<HHHLHHL", 1, 0x0112, 3, 1, 6, 0, 0)


@pytest.mark.parametrize(
    "broken",
    [
        b"", b"II", b"XX*\0\x08\0\0\0", TIFF, TIFF + b"\xff", TIFF + b"\xff\xff",
        b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01", ROTATED[:-6],
        ROTATED.replace(b"\x06\0", b"\x09\0"), ROTATED.replace(b"\x06\0", b"\0\0"),
        ROTATED.replace(b"\x12\x01\x03\0", b"\x12\x01\x02\0"),
    ],
)  # fmt: skip
def test_broken_exif_counts_as_upright(broken):
    assert exif_orientation(b"Exif\0\0" + ROTATED) == 6
    data = with_segment(encoded(picture(20, 10)), 0xE1, b"Exif\0\0" + broken)
    assert probe_jpeg(data).orientation == 1


def test_the_first_of_two_exif_blocks_counts():
    data = with_segment(encoded(picture(20, 10)), 0xE1, b"Exif\0\0" + ROTATED)
    data = with_segment(data, 0xE1, b"Exif\0\0" + ROTATED.replace(b"\x06\0", b"\x03\0"))
    assert probe_jpeg(data).orientation == 3


def test_a_thumbnail_in_exif_is_not_taken_for_the_image():
    thumbnail = encoded(picture(8, 8))
    data = with_segment(encoded(picture(40, 30)), 0xE1, b"Exif\0\0" + TIFF + b"\0\0" + thumbnail)
    assert (probe_jpeg(data).width, probe_jpeg(data).height) == (40, 30)
    cut = data[:-40]
    assert EOI in cut, "the thumbnail's end is there, the image's is not"
    with pytest.raises(BadImage, match="end-of-image marker"):
        probe_jpeg(cut)


def test_a_stuffed_byte_among_the_headers_is_no_marker():
    with pytest.raises(BadImage, match="broken marker structure"):
        probe_jpeg(with_segment(encoded(picture(20, 10)), 0x00, b"payload"))


def test_fill_bytes_before_a_marker_are_passed_over():
    data = encoded(picture(20, 10))
    assert probe_jpeg(data[:2] + b"\xff" * 9 + data[2:]) == probe_jpeg(data)


@pytest.mark.parametrize("garbage", [b"\0", b"trailing" * 99, EOI, bytes(70_000)])
def test_trailing_garbage_is_allowed(garbage):
    data = encoded(picture(20, 10))
    assert probe_jpeg(data + garbage) == probe_jpeg(data)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_truncation_of_a_jpeg_is_refused(mode, progressive):
    data = encoded(picture(24, 16, mode), quality=60, progressive=progressive)
    probe_jpeg(data)
    for length in range(2, len(data)):
        with pytest.raises(BadImage):
            probe_jpeg(data[:length])


def test_a_jpeg_without_a_frame_or_without_pixels_is_refused():
    data = encoded(picture(20, 10))
    at = data.index(b"\xff\xc0")
    for size in (b"\0\0\0\x14", b"\0\x0a\0\0"):
        with pytest.raises(BadImage, match="frame header"):
            probe_jpeg(data[: at + 5] + size + data[at + 9 :])
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    with pytest.raises(BadImage, match="frame header"):
        probe_jpeg(data[:at] + data[at + 2 + length :])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xd8\xff\xd9", "without image data"),
        (b"\xff\xd8\xff\0\0\x02", "broken marker"),
        (b"\xff\xd8\xff\xe0\0\x01\xff", "cut off in its headers"),
        (b"\xff\xd8\xff\xff\xff", "cut off in its headers"),
        (b"\xff\xd8\xff\xd0\0", "broken marker"),
    ],
)
def test_broken_structure_is_refused_with_its_reason(data, reason):
    assert is_jpeg(data)
    with pytest.raises(BadImage, match=reason):
        probe_jpeg(data)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_bad_image(data):
    with suppress(BadImage):
        probe_jpeg(b"\xff\xd8\xff" + data)


SMALL_JPEG = with_segment(encoded(picture(8, 8)), 0xE1, b"Exif\0\0" + ROTATED)


@settings(max_examples=300)
@given(
    at=st.integers(2, len(SMALL_JPEG) - 1),
    value=st.binary(min_size=1, max_size=6),
    cut=st.integers(0, 40),
)
def test_mutated_jpegs_raise_nothing_but_bad_image(at, value, cut):
    data = bytearray(SMALL_JPEG)
    data[at : at + len(value)] = value
    try:
        info = probe_jpeg(bytes(data[: len(data) - cut]))
    except BadImage:
        return
    assert info.width > 0
    assert info.height > 0
    assert 1 <= info.orientation <= 8


@pytest.mark.skipif(not SAMPLES.exists(), reason=f"no real photographs at {SAMPLES}")
def test_real_photographs_are_probed_as_pillow_opens_them():
    with tarfile.open(SAMPLES) as tar:
        files = [tar.extractfile(member).read() for member in tar if member.isreg()]
    photographs = [data for data in files if is_jpeg(data)]
    assert len(photographs) >= 500
    for data in photographs:
        info = probe_jpeg(data)
        with Image.open(io.BytesIO(data)) as image:
            assert (info.width, info.height) == image.size
            assert info.components == len(image.getbands())
            orientation = image.getexif().get(0x0112, 1)
        assert info.orientation == (orientation if orientation in range(1, 9) else 1)
