"""Pixels in, a JPEG or PNG file out, without metadata."""

from __future__ import annotations

import io
import zlib

import simplejpeg  # type: ignore[import-untyped]
from PIL import Image

from imagenet_etl.errors import BadImage
from imagenet_etl.images.decode import Pixels, rgb_of
from imagenet_etl.images.spec import ImageSpec

MAX_JPEG_EDGE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
FAST_QUALITY = 90
"""Up to here simplejpeg's encoder is used. It has the fast transform only, which costs 0.1 dB at 90
and 0.5 dB at 95; Pillow's has the accurate one, and gives the bytes that OpenCV's gives."""

_SUBSAMPLINGS = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}


def check_edges(width: int, height: int, encoding: str) -> None:
    """Refuse a size that the encoding cannot have.

    Raises:
        BadImage: An edge is too long for a JPEG.
    """
    if encoding == "jpeg" and max(width, height) > MAX_JPEG_EDGE:
        found = f"{width}x{height} pixels"
        raise BadImage(f"{found}, above the {MAX_JPEG_EDGE} an edge that a JPEG can have")


def encode(pixels: Pixels, spec: ImageSpec) -> bytes:
    """Return a complete file of ``(H, W, 4) uint8`` RGBX pixels."""
    out = io.BytesIO()
    if spec.encoding == "jpeg":
        if spec.quality <= FAST_QUALITY and not spec.im2rec_compat:
            data: bytes = simplejpeg.encode_jpeg(pixels, spec.quality, "RGBX", spec.subsampling)
            return data
        height, width = pixels.shape[:2]
        image = Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)
        image.save(out, "JPEG", quality=spec.quality, subsampling=_SUBSAMPLINGS[spec.subsampling])
        return out.getvalue()
    # Run lengths after PNG's filters: within 2 % of level 6 on photographs, four times as fast.
    Image.fromarray(rgb_of(pixels)).save(out, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return out.getvalue()
