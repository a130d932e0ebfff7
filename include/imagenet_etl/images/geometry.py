"""Resize modes as arithmetic: what of an image is drawn, how large, and where on the result.

The modes of Caffe's users are those of DIGITS 6 (``resize_image`` in ``digits/utils/image.py``):
``squash``, ``crop``, ``fill`` and ``half_crop``, whose scale is the mean of the other two's ratios.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagenet_etl.errors import ConfigError

MODES = ("none", "short_edge:S", "long_edge:S", "squash:WxH", "crop:WxH", "fill:WxH",
         "half_crop:WxH")  # fmt: skip
MAX_EDGE = 9999
_RESIZE = re.compile(
    r"none|(short_edge|long_edge):(\d{1,5})|(squash|crop|fill|half_crop):(\d{1,5})x(\d{1,5})"
)


@dataclass(frozen=True)
class Placement:
    """Where the pixels of an image go.

    Attributes:
        box: Left, upper, right and lower edge of what is drawn of the image, in its pixels;
            fractions of a pixel occur.
        drawn: Width and height that the box is drawn at.
        canvas: Width and height of the result.
        offset: Left and upper edge of the drawn box on the canvas; around it is padding.
    """

    box: tuple[float, float, float, float]
    drawn: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    def keeps(self, width: int, height: int) -> bool:
        """Tell whether an image of that size comes out as it went in."""
        whole = (0, 0, width, height)
        return self.box == whole and self.drawn == self.canvas == (width, height)

    @property
    def shrinkage(self) -> float:
        """How many pixels become one, along the edge that shrinks less; below 1 it grows."""
        left, upper, right, lower = self.box
        return min((right - left) / self.drawn[0], (lower - upper) / self.drawn[1])

    @property
    def shrinks(self) -> bool:
        """Whether pixels become fewer along any edge."""
        left, upper, right, lower = self.box
        return right - left > self.drawn[0] or lower - upper > self.drawn[1]


@dataclass(frozen=True)
class Resize:
    """A parsed resize mode.

    Attributes:
        mode: The name of one of ``MODES``.
        width: Target width in pixels; of the edge, for ``short_edge`` and ``long_edge``.
        height: Target height in pixels; equal to ``width`` for those two.
    """

    mode: str
    width: int = 0
    height: int = 0

    def scaled(self, width: int, height: int, *, upscale: bool) -> tuple[int, int]:
        """Return the size in pixels that an image of ``width`` x ``height`` is drawn at.

        All modes but ``squash`` keep the aspect ratio. Without ``upscale`` no edge grows.
        """
        if self.mode == "none":
            return width, height
        if self.mode == "squash":
            if upscale:
                return self.width, self.height
            return min(width, self.width), min(height, self.height)
        scale = self._scale(width, height)
        if scale >= 1 and not upscale:
            return width, height
        drawn = max(1, round(width * scale)), max(1, round(height * scale))
        # Rounding may not leave an edge a pixel short of what is covered, or beyond what is filled.
        if self.mode in ("short_edge", "crop"):
            return max(self.width, drawn[0]), max(self.height, drawn[1])
        if self.mode in ("long_edge", "fill"):
            return min(self.width, drawn[0]), min(self.height, drawn[1])
        return drawn

    def kept(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the box (left, upper, right, lower) that stays of a drawn image."""
        if self.mode not in ("crop", "half_crop"):
            return 0, 0, width, height
        return centred(width, height, min(width, self.width), min(height, self.height))

    def place(self, width: int, height: int, *, upscale: bool, floor: bool = False) -> Placement:
        """Return where the pixels of an image of ``width`` x ``height`` go.

        Without ``upscale``, ``fill`` only pads a smaller image. ``half_crop`` pads what it need not
        enlarge; of an image that it would have to enlarge it only cuts off what is too long.

        Args:
            width: Pixels.
            height: Pixels.
            upscale: Whether the image may be enlarged.
            floor: Whether the long edge of ``short_edge`` is rounded down.
        """
        drawn_w, drawn_h = self.scaled(width, height, upscale=upscale)
        if floor and self.mode == "short_edge":
            drawn_w = max(self.width, width * self.width // height)
            drawn_h = max(self.width, height * self.width // width)
        left, upper, right, lower = self.kept(drawn_w, drawn_h)
        # In this order the edges of the whole image come out exact.
        box = (
            left * width / drawn_w,
            upper * height / drawn_h,
            right * width / drawn_w,
            lower * height / drawn_h,
        )
        size = right - left, lower - upper
        canvas = size
        if self.mode == "fill" or (
            self.mode == "half_crop" and (upscale or self._scale(width, height) <= 1)
        ):
            canvas = self.width, self.height
        return Placement(box, size, canvas, centred(*canvas, *size)[:2])

    def _scale(self, width: int, height: int) -> float:
        across, down = width / self.width, height / self.height
        if self.mode in ("short_edge", "crop"):
            return 1 / min(across, down)
        if self.mode in ("long_edge", "fill"):
            return 1 / max(across, down)
        return 2 / (across + down)


def centred(width: int, height: int, inner_w: int, inner_h: int) -> tuple[int, int, int, int]:
    """Return the box (left, upper, right, lower) of that inner size in the middle."""
    left, upper = (width - inner_w) // 2, (height - inner_h) // 2
    return left, upper, left + inner_w, upper + inner_h


def parse_resize(text: str) -> Resize:
    """Parse a resize setting.

    Raises:
        ConfigError: It is no known mode, or a size is 0 or beyond ``MAX_EDGE``.
    """
    match = _RESIZE.fullmatch(text)
    edges = [int(edge) for edge in (match.group(2, 4, 5) if match else ()) if edge]
    if not match or not all(1 <= edge <= MAX_EDGE for edge in edges):
        raise ConfigError(
            "setting resize",
            expected=f"{', '.join(MODES)} with edges of 1 to {MAX_EDGE} pixels",
            found=repr(text),
        )
    if not edges:
        return Resize("none")
    return Resize(match[1] or match[3], edges[0], edges[-1])
