"""What the tests of the images package share: files of all kinds, and how results are judged."""

import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageStat
from tests.support.archives import encoded, picture

from imagenet_etl.images.spec import parse_image_spec
from imagenet_etl.images.transform import Transformer

SAMPLES = Path(__file__).parents[3] / "../shared/data/imagenet-samples.tar"
NO_SAMPLES = f"no real photographs at {SAMPLES}"
LIMIT = 10_000_000

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


def apply(data, spec="none", max_pixels=LIMIT):
    """Prepare one file for one output."""
    (prepared,) = Transformer([parse_image_spec(spec)], max_pixels).apply(data)
    return prepared


def pixels_of(data, spec, max_pixels=LIMIT):
    """Return what is drawn of a file, before it is encoded."""
    (prepared,) = Transformer([parse_image_spec(spec)], max_pixels, [0]).apply(data)
    assert prepared.pixels.shape == (prepared.height, prepared.width, 3)
    return prepared.pixels


def decoded(prepared, kind="JPEG"):
    image = Image.open(io.BytesIO(prepared.data))
    image.load()
    assert image.format == kind
    assert image.size == (prepared.width, prepared.height)
    return image


def difference(one, other):
    """Return the mean difference of two images' samples, of 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def psnr(one, other):
    """Return the likeness of two arrays of 8-bit samples in dB."""
    error = (np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2
    return 10 * np.log10(255**2 / max(error.mean(), 1e-9))


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def resized_header(data, width, height):
    """Return a JPEG whose header claims another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def resized_png(width, height):
    data = bytearray(encoded(picture(8, 8), "PNG"))
    struct.pack_into(">II", data, 16, width, height)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


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


def samples(every):
    """Return one in ``every`` of the real photographs."""
    with tarfile.open(SAMPLES) as tar:
        files = [tar.extractfile(member).read() for member in tar if member.isreg()]
    return [data for data in files if data[:2] == b"\xff\xd8"][::every]
