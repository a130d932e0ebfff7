"""Pixels in, pixels of the wanted size out: antialiased, or as im2rec draws them."""

from __future__ import annotations

import math

import numpy as np
from cykooz_resizer import (  # type: ignore[import-untyped]
    Algorithm,
    CropBox,
    FilterType,
    ResizeAlg,
    ResizeOptions,
    Resizer,
)
from PIL import Image

from imagenet_etl.images.decode import Pixels
from imagenet_etl.images.geometry import Placement

DCT_MARGIN = 1.5
"""The decoder may scale down to no less than this times the drawn size: what is left for the filter
is then enough to keep its quality (docs/adr/0006)."""

_FACTORS = (8, 4, 2)


def decoder_factor(placement: Placement) -> int:
    """Return by how much the decoder may scale an image down before it is drawn: 1, 2, 4 or 8."""
    shrinkage = placement.shrinkage
    return next((f for f in _FACTORS if shrinkage >= DCT_MARGIN * f), 1)


class Drawer:
    """Draws images one after the other, on the calling thread alone; not for two at a time."""

    def __init__(self) -> None:
        self._resizer = Resizer()
        self._antialiased = ResizeOptions(ResizeAlg.convolution(FilterType.catmull_rom))
        # A sharper filter would cost an eighth of drawing more, and adds nothing that is there.
        self._enlarging = ResizeOptions(ResizeAlg.convolution(FilterType.bilinear))
        # OpenCV's INTER_LINEAR, to within 1 of 255: a kernel that is not widened when shrinking.
        self._as_im2rec = ResizeOptions()
        self._as_im2rec.rust_options = self._as_im2rec.rust_options.set_resize_alg(
            Algorithm.interpolation.value, FilterType.bilinear.value, 2
        )

    def draw(
        self, pixels: Pixels, factor: int, placement: Placement, fill: str, as_im2rec: bool
    ) -> Pixels:
        """Return a new image.

        Args:
            pixels: ``(H, W, 4) uint8``, upright.
            factor: By how much it was scaled down while it was decoded.
            placement: Where its pixels go, in pixels of the unscaled image.
            fill: Colour of the padding, RRGGBB.
            as_im2rec: Whether it is drawn without antialiasing.
        """
        left, upper, right, lower = (edge / factor for edge in placement.box)
        width, height = placement.drawn
        if all(edge.is_integer() for edge in (left, upper, right, lower)):
            # Nothing from beyond the box may shine through at its edges.
            pixels = pixels[int(upper) : int(lower), int(left) : int(right)]
            left, upper, right, lower = 0.0, 0.0, right - left, lower - upper
        drawn = pixels
        if pixels.shape[:2] != (height, width) or (right, lower) != (width, height):
            if as_im2rec:
                options = self._as_im2rec
            else:
                options = self._antialiased if placement.shrinks else self._enlarging
            box = left, upper, right, lower
            drawn = self._resized(np.ascontiguousarray(pixels), box, (width, height), options)
        if placement.canvas == placement.drawn:
            return np.ascontiguousarray(drawn)
        canvas = _blank(*placement.canvas, fill)
        x, y = placement.offset
        canvas[y : y + height, x : x + width] = drawn
        return canvas

    def _resized(
        self,
        pixels: Pixels,
        box: tuple[float, float, float, float],
        size: tuple[int, int],
        options: ResizeOptions,
    ) -> Pixels:
        height, width = pixels.shape[:2]
        if box != (0, 0, width, height):
            options = options.copy()
            options.crop_box = CropBox(
                box[0], box[1], _extent(box[0], box[2], width), _extent(box[1], box[3], height)
            )
        drawn = np.empty((size[1], size[0], 4), np.uint8)
        self._resizer.resize_pil(_view(pixels), _view(drawn), options)
        return drawn


def _blank(width: int, height: int, fill: str) -> Pixels:
    # A pixel at a time; numpy fills bytes forty times as slowly.
    pixel = np.frombuffer(bytes.fromhex(fill) + b"\xff", np.uint32)[0]
    return np.full((height, width), pixel).view(np.uint8).reshape(height, width, 4)


def _extent(start: float, end: float, limit: int) -> float:
    """Return ``end - start``, less what rounding would put beyond the limit."""
    extent = end - start
    while start + extent > limit:
        extent = math.nextafter(extent, 0)
    return extent


def _view(pixels: Pixels) -> Image.Image:
    """Return an image whose memory is that of the array; what is drawn on it is in the array.

    The mode stands for four bands that are treated alike, which RGBA's are not.
    """
    height, width = pixels.shape[:2]
    return Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK", 0, 1)
