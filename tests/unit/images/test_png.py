import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.archives import encoded, picture

from imagenet_etl.images.png import PngInfo, is_png, probe_png


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(data, kind, payload):
    """Insert a chunk right after the header."""
    return data[:33] + chunk(kind, payload) + data[33:]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_plain_pngs_tell_their_size(mode):
    assert probe_png(encoded(picture(53, 31, mode), "PNG")) == PngInfo(53, 31)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
def test_other_samples_than_eight_bit_grey_or_rgb_are_not_plain(mode):
    data = encoded(Image.new(mode, (8, 8)), "PNG")
    assert is_png(data)
    assert probe_png(data) is None


def test_transparency_and_animation_are_not_plain():
    data = encoded(picture(8, 8), "PNG")
    assert probe_png(with_chunk(data, b"tEXt", b"a\0b")) == PngInfo(8, 8)
    assert probe_png(with_chunk(data, b"tRNS", bytes(6))) is None
    frames = [picture(8, 8, seed=seed) for seed in (1, 2)]
    assert probe_png(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_the_exif_chunk(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(8, 4), "PNG", exif=exif.tobytes())
    assert probe_png(data) == PngInfo(8, 4, orientation)
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x0112] == orientation


def test_no_truncated_png_is_whole():
    data = encoded(picture(24, 16), "PNG")
    assert probe_png(data + b"trailing") == PngInfo(24, 16)
    assert all(probe_png(data[:length]) is None for length in range(8, len(data)))


def test_no_png_with_a_flipped_bit_is_whole():
    data = encoded(picture(12, 12), "PNG")
    for at in range(8, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        assert probe_png(bytes(damaged)) is None


def test_a_png_without_header_or_pixels_is_not_whole():
    data = encoded(picture(8, 8), "PNG")
    head, end = data[8:33], chunk(b"IEND", b"")
    assert probe_png(data[:8] + end) is None
    assert probe_png(data[:8] + head + end) is None
    assert probe_png(data[:8] + chunk(b"IHDR", b"short") + data[33:]) is None
    empty = struct.pack(">IIBBBBB", 0, 8, 8, 2, 0, 0, 0)
    assert probe_png(data[:8] + chunk(b"IHDR", empty) + data[33:]) is None


@settings(max_examples=200)
@given(body=st.binary(max_size=200))
def test_random_bytes_are_no_whole_png(body):
    assert probe_png(b"\x89PNG\r\n\x1a\n" + body) is None
