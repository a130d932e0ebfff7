"""One image file in, its bytes for every output out: copied when it fits, drawn when it must."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from PIL import features

from imagenet_etl.errors import BadImage
from imagenet_etl.images.decode import (
    Pixels,
    check_pixels,
    decode_any,
    decode_jpeg,
    rgb_of,
    upright,
)
from imagenet_etl.images.draw import Drawer, decoder_factor
from imagenet_etl.images.encode import check_edges, encode
from imagenet_etl.images.geometry import Placement
from imagenet_etl.images.jpeg import JpegInfo, is_jpeg, probe_jpeg
from imagenet_etl.images.png import PngInfo, is_png, probe_png
from imagenet_etl.images.spec import ImageSpec

COPIED = "copied"
RE_ENCODED = "re-encoded"
REPAIRED = "repaired"
"""Re-encoded because trainers' decoders would choke on it: CMYK, 16 bit, or not a JPEG at all."""

_PLANS = 4096  # ImageNet's images come in few sizes; a quarter of them are 500x375


@dataclass(frozen=True)
class Prepared:
    """An image as it goes into a record.

    Attributes:
        data: A complete JPEG or PNG file.
        width: Pixels.
        height: Pixels.
        how: ``COPIED``, ``RE_ENCODED`` or ``REPAIRED``.
        pixels: ``(height, width, 3) uint8`` RGB, what went into the encoder or, of a copy, what
            the file holds; None unless they were asked for.
    """

    data: bytes
    width: int
    height: int
    how: str
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class _Plan:
    """What becomes of images of one size and encoding, for each distinct spec."""

    placements: tuple[Placement, ...]
    copied: tuple[bool, ...]
    factor: int
    is_decoded: bool


class Transformer:
    """Prepares images for several outputs, one after the other; not for two threads at a time.

    Args:
        specs: What is done to the images of each output.
        max_pixels: Images above this, progressive JPEGs above a quarter of it, are refused from
            their header, before any decoding; so is what would be drawn larger.
        want_pixels: Numbers of the specs whose results carry pixels; for them a file that is
            copied is decoded too.
    """

    def __init__(
        self, specs: Sequence[ImageSpec], max_pixels: int, want_pixels: Collection[int] = ()
    ) -> None:
        self._specs = tuple(dict.fromkeys(specs))
        self._which = [self._specs.index(spec) for spec in specs]
        self._wants = [any(specs[number] == spec for number in want_pixels) for spec in self._specs]
        self._max_pixels = max_pixels
        self._copies_png = any(spec.encoding == "png" for spec in specs)
        self._drawer = Drawer()
        self._plan = lru_cache(_PLANS)(self._plan_of)

    def apply(self, data: bytes) -> list[Prepared]:
        """Return the record's bytes of one image file for each spec, in their order.

        The file is decoded at most once. Equal specs give the identical result.

        Raises:
            BadImage: The file is empty, truncated, too large, or no image.
        """
        if not data:
            raise BadImage("empty file")
        made = self._prepared(data)
        return [made[number] for number in self._which]

    def _prepared(self, data: bytes) -> list[Prepared]:
        if is_jpeg(data):
            info = probe_jpeg(data)
            _check_jpeg(info, self._max_pixels)
            if info.precision == 8 and info.components in (1, 3) and info.is_common:
                return self._of_plain(data, info, "jpeg")
        elif self._copies_png and is_png(data):
            plain = probe_png(data)
            if plain is not None:
                check_pixels(plain.width, plain.height, self._max_pixels)
                return self._of_plain(data, plain, "png")
        stored, orientation = decode_any(data, self._max_pixels)
        pixels = upright(stored, orientation)
        plan = self._plan(pixels.shape[1], pixels.shape[0], "")
        return list(self._drawn(pixels, 1, plan, "").values())

    def _of_plain(self, data: bytes, info: JpegInfo | PngInfo, kind: str) -> list[Prepared]:
        """Prepare an image that trainers' decoders can read as it is."""
        width, height = info.width, info.height
        sideways = info.orientation >= 5
        plan = self._plan(height if sideways else width, width if sideways else height, kind)
        if not plan.is_decoded:
            return [Prepared(data, width, height, COPIED)] * len(self._specs)
        if kind == "jpeg":
            # What is turned would have its rounded-up edges on the other side.
            factor = plan.factor if info.orientation == 1 else 1
            stored, factor = decode_jpeg(data, (width, height), factor)
        else:
            stored, factor = decode_any(data, self._max_pixels)[0], 1
        pixels = upright(stored, info.orientation)
        drawn = self._drawn(pixels, factor, plan, kind)
        return [
            drawn.get(number)
            or Prepared(data, width, height, COPIED, rgb_of(stored) if wanted else None)
            for number, wanted in enumerate(self._wants)
        ]

    def _drawn(self, pixels: Pixels, factor: int, plan: _Plan, kind: str) -> dict[int, Prepared]:
        """Return what is drawn of upright pixels, by the number of the distinct spec."""
        images: dict[tuple[Placement, str, bool], Pixels] = {}
        made = {}
        for number, (spec, placement) in enumerate(zip(self._specs, plan.placements, strict=True)):
            if plan.copied[number]:
                continue
            key = placement, spec.fill, spec.im2rec_compat
            if key not in images:
                images[key] = self._drawer.draw(pixels, factor, *key)
            image = images[key]
            how = RE_ENCODED if kind in ("jpeg", spec.encoding) else REPAIRED
            rgb = rgb_of(image) if self._wants[number] else None
            made[number] = Prepared(encode(image, spec), *placement.canvas, how, rgb)
        return made

    def _plan_of(self, width: int, height: int, kind: str) -> _Plan:
        """Plan for images of an upright size and, if they may be copied, an encoding.

        Raises:
            BadImage: Something would be drawn too large.
        """
        placements = tuple(spec.place(width, height) for spec in self._specs)
        for spec, placement in zip(self._specs, placements, strict=True):
            # A sliver that is enlarged to a short edge would grow without bounds.
            check_pixels(*placement.canvas, self._max_pixels)
            check_edges(*placement.canvas, spec.encoding)
        copied = tuple(
            kind == spec.encoding and not spec.im2rec_compat and placement.keeps(width, height)
            for spec, placement in zip(self._specs, placements, strict=True)
        )
        factors = [
            1 if copy or spec.im2rec_compat else decoder_factor(placement)
            for spec, placement, copy, wanted in zip(
                self._specs, placements, copied, self._wants, strict=True
            )
            if wanted or not copy
        ]
        return _Plan(placements, copied, min(factors, default=1), bool(factors))


def _check_jpeg(info: JpegInfo, max_pixels: int) -> None:
    """Refuse a JPEG that is too large.

    Raises:
        BadImage: It has more than ``max_pixels``, or more than a quarter of them and is
            progressive: the coefficients that are then held take 2 bytes a sample.
    """
    check_pixels(info.width, info.height, max_pixels)
    limit = max_pixels // 4
    if info.is_progressive and info.width * info.height > limit:
        found = f"{info.width}x{info.height} pixels in several scans"
        raise BadImage(f"{found}, above the limit of {limit} for a progressive JPEG")


def codec_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the bytes of re-encoded images.

    simplejpeg carries a libjpeg-turbo of its own, which its version stands for.
    """
    packages = ("pillow", "simplejpeg", "cykooz-resizer")
    jpeg = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    zlib = features.version_feature("zlib_ng") or features.version_codec("zlib")
    versions = {package: version(package) for package in packages}
    return versions | {"libjpeg-turbo": str(jpeg), "zlib": str(zlib)}
