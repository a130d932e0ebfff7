"""An image file in, its pixels out: libjpeg-turbo for plain JPEGs, Pillow for all the rest.

Pixels are ``(H, W, 4) uint8`` RGBX arrays: the codecs and the resizer are faster with four bytes a
pixel than with three. The fourth is of no meaning.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from imagenet_etl.errors import BadImage
from imagenet_etl.images.jpeg import exif_orientation

Pixels = NDArray[np.uint8]

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
"""What may hide behind the name. Pillow's other readers are kept from hostile files: the one for
EPS starts Ghostscript."""

_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_UNBOUNDED = frozenset({"I", "F"})


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image that is too large.

    Raises:
        BadImage: It has more than ``max_pixels``.
    """
    if width * height > max_pixels:
        raise BadImage(f"{width}x{height} pixels, above the limit of {max_pixels}")


def decode_jpeg(data: bytes, size: tuple[int, int], factor: int) -> tuple[Pixels, int]:
    """Decode a plain JPEG as it is stored, scaled down by ``factor`` if that can be had.

    Args:
        data: The file.
        size: Width and height in pixels, from its header.
        factor: 1, 2, 4 or 8. Scaling by these happens within the decoder's own transform.

    Returns:
        The pixels and the factor that was used; edges are rounded up.

    Raises:
        BadImage: It cannot be decoded, or not to that size.
    """
    width, height = (-(-edge // factor) for edge in size)
    try:
        if factor == 1:
            pixels = simplejpeg.decode_jpeg(data, "RGBX")
        else:
            pixels = simplejpeg.decode_jpeg(data, "RGBX", min_height=height, min_width=width)
    except ValueError:
        # It refuses at every warning and for unusual sampling; Pillow tells what is beyond use.
        pixels = decode_any(data, size[0] * size[1])[0]
    if pixels.shape[:2] == (height, width):
        return pixels, factor
    if pixels.shape[:2] == (size[1], size[0]):
        return pixels, 1
    found = f"{pixels.shape[1]}x{pixels.shape[0]}"
    raise BadImage(f"decodes to {found} pixels, its header says {size[0]}x{size[1]}")


def decode_any(data: bytes, max_pixels: int) -> tuple[Pixels, int]:
    """Decode an image of any accepted format as it is stored.

    Returns:
        The pixels and the Exif orientation, 1 (upright) to 8; broken Exif says nothing.

    Raises:
        BadImage: It is no image, is damaged or truncated, or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's notes on broken Exif, its own pixel cap
            with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
                check_pixels(*opened.size, max_pixels)
                exif = opened.info.get("exif", b"")
                opened.load()
                pixels = np.asarray(_rgb(opened).convert("RGBX"))
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError:
        # Pillow's own text holds an address in memory, and the reason is published.
        raise BadImage(f"is no readable image: it starts with {data[:16]!r}") from None
    except Exception as error:
        raise BadImage(f"cannot be decoded: {error}") from error
    return pixels, exif_orientation(exif)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _UNBOUNDED:
        raise BadImage("has 32-bit samples, whose white is anyone's guess")
    if image.mode in _SIXTEEN_BIT:
        # Pillow's own conversion cuts every value above 255 to white.
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels as their Exif orientation says (Exif 2.3, tag 0x0112)."""
    if orientation == 1:
        return pixels
    view: Any = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    if orientation in (2, 3, 6, 7):
        view = view[:, ::-1]
    if orientation in (3, 4, 7, 8):
        view = view[::-1]
    return np.ascontiguousarray(view)


def rgb_of(pixels: Pixels) -> Pixels:
    """Return ``(H, W, 4)`` pixels as ``(H, W, 3)``; read-only."""
    height, width = pixels.shape[:2]
    image = Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)
    # Pillow drops every fourth byte ten times as fast as numpy does.
    return np.frombuffer(image.tobytes("raw", "RGB"), np.uint8).reshape(height, width, 3)
