"""One image in, the bytes of its record out: copied when it fits, re-encoded when it must."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import PIL
from PIL import Image, ImageOps, features

from imagenet_etl.errors import BadImage
from imagenet_etl.images.geometry import Resize
from imagenet_etl.images.jpeg import is_jpeg, probe_jpeg

COPIED = "copied"
RE_ENCODED = "re-encoded"
REPAIRED = "repaired"
"""Re-encoded because trainers' decoders would choke on it: CMYK, 16 bit, or not a JPEG at all."""


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
        if info.precision != 8 or info.components not in (1, 3):
            return self._encode(data, REPAIRED)
        if self._fits(info.width, info.height):
            return Prepared(data, info.width, info.height, COPIED)
        return self._encode(data, RE_ENCODED)

    def _fits(self, width: int, height: int) -> bool:
        drawn = self.resize.scaled(width, height, upscale=self.upscale)
        return drawn == (width, height) and self.resize.kept(*drawn) == (0, 0, width, height)

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise BadImage(f"{width}x{height} pixels, above the limit of {self.max_pixels}")

    def _encode(self, data: bytes, how: str) -> Prepared:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's notes on broken Exif, its own pixel cap
                with Image.open(io.BytesIO(data)) as opened:
                    self._check_pixels(*opened.size)
                    image = ImageOps.exif_transpose(opened).convert("RGB")
        except BadImage:
            raise
        except Exception as error:
            raise BadImage(f"cannot be decoded: {error}") from error
        image = self._resized(image)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=self.quality)
        return Prepared(out.getvalue(), image.width, image.height, how)

    def _resized(self, image: Image.Image) -> Image.Image:
        size = self.resize.scaled(*image.size, upscale=self.upscale)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        return image.crop(self.resize.kept(*image.size))


def codec_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the bytes of re-encoded images."""
    jpeg = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    return {"pillow": PIL.__version__, "libjpeg": str(jpeg)}
