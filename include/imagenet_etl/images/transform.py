"""One image in, the bytes of its record out: copied when it fits, re-encoded when it must."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import PIL
from PIL import Image, UnidentifiedImageError, features

from imagenet_etl.errors import BadImage
from imagenet_etl.images.geometry import Resize
from imagenet_etl.images.jpeg import JpegInfo, exif_orientation, is_jpeg, probe_jpeg

COPIED = "copied"
RE_ENCODED = "re-encoded"
REPAIRED = "repaired"
"""Re-encoded because trainers' decoders would choke on it: CMYK, 16 bit, or not a JPEG at all."""

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
"""What may hide behind the name. Pillow's other readers are kept from hostile files: the one for
EPS starts Ghostscript."""

_MAX_JPEG_EDGE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_UNBOUNDED = frozenset({"I", "F"})
# What turns an image upright, by Exif orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Prepared:
    """An image as it goes into a record.

    Attributes:
        data: A complete JPEG file.
        width: Pixels.
        height: Pixels.
        how: ``COPIED``, ``RE_ENCODED`` or ``REPAIRED``.
    """

    data: bytes
    width: int
    height: int
    how: str


@dataclass(frozen=True)
class Transform:
    """What is done to every image.

    Attributes:
        resize: The resize mode.
        upscale: Whether smaller images are enlarged.
        quality: JPEG quality of what is re-encoded, 1 to 100.
        max_pixels: Images above this are refused from their header, before any decoding.
    """

    resize: Resize
    upscale: bool
    quality: int
    max_pixels: int

    def apply(self, data: bytes) -> Prepared:
        """Return the record's bytes for one image file.

        Raises:
            BadImage: The file is empty, truncated, too large, or no image.
        """
        if not data:
            raise BadImage("empty file")
        if not is_jpeg(data):
            return self._encode(data, REPAIRED)
        info = probe_jpeg(data)
        self._check_pixels(info.width, info.height)
        if info.precision != 8 or info.components not in (1, 3) or not info.is_common:
            return self._encode(data, REPAIRED)
        if self._fits(info):
            return Prepared(data, info.width, info.height, COPIED)
        return self._encode(data, RE_ENCODED)

    def _fits(self, info: JpegInfo) -> bool:
        size = info.upright_size
        drawn = self.resize.scaled(*size, upscale=self.upscale)
        return drawn == size and self.resize.kept(*drawn) == (0, 0, *size)

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise BadImage(f"{width}x{height} pixels, above the limit of {self.max_pixels}")

    def _encode(self, data: bytes, how: str) -> Prepared:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's notes on broken Exif, its own pixel cap
                with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
                    self._check_pixels(*opened.size)
                    image = _upright_rgb(opened)
            image = self._resized(image)
            out = io.BytesIO()
            image.save(out, "JPEG", quality=self.quality)
        except (BadImage, MemoryError):
            raise
        except UnidentifiedImageError:
            # Pillow's own text holds an address in memory, and the reason is published.
            raise BadImage(f"is no readable image: it starts with {data[:16]!r}") from None
        except Exception as error:
            raise BadImage(f"cannot be decoded: {error}") from error
        return Prepared(out.getvalue(), image.width, image.height, how)

    def _resized(self, image: Image.Image) -> Image.Image:
        size = self.resize.scaled(*image.size, upscale=self.upscale)
        # A sliver that is enlarged to a short edge would grow without bounds.
        self._check_pixels(*size)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        image = image.crop(self.resize.kept(*image.size))
        if max(image.size) > _MAX_JPEG_EDGE:
            found = f"{image.width}x{image.height} pixels"
            raise BadImage(f"{found}, above the {_MAX_JPEG_EDGE} an edge that a JPEG can have")
        return image


def _upright_rgb(opened: Image.Image) -> Image.Image:
    """Decode to RGB, turned as Exif says; broken Exif says nothing."""
    exif = opened.info.get("exif", b"")
    opened.load()
    turn = _TURNS.get(exif_orientation(exif))
    image = _rgb(opened)
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _UNBOUNDED:
        raise BadImage("has 32-bit samples, whose white is anyone's guess")
    if image.mode in _SIXTEEN_BIT:
        # Pillow's own conversion cuts every value above 255 to white.
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def codec_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the bytes of re-encoded images."""
    jpeg = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    return {"pillow": PIL.__version__, "libjpeg": str(jpeg)}
