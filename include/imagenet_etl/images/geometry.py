"""Resize modes as arithmetic: which size an image is drawn at and which box is kept of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagenet_etl.errors import ConfigError

MODES = ("none", "short_edge:S", "squash:WxH", "crop:WxH")
MAX_EDGE = 9999
_RESIZE = re.compile(r"none|short_edge:(\d{1,5})|(squash|crop):(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True)
class Resize:
    """A parsed resize mode.

    Attributes:
        mode: ``none``, ``short_edge``, ``squash`` or ``crop``.
        width: Target width in pixels; of the short edge, for ``short_edge``.
        height: Target height in pixels; equal to ``width`` for ``short_edge``.
    """

    mode: str
    width: int = 0
    height: int = 0

    def scaled(self, width: int, height: int, *, upscale: bool) -> tuple[int, int]:
        """Return the size in pixels that an image of ``width`` x ``height`` is drawn at.

        ``short_edge`` and ``crop`` keep the aspect ratio, ``squash`` does not. Without ``upscale``
        no edge grows.
        """
        if self.mode == "none":
            return width, height
        if self.mode == "squash":
            if upscale:
                return self.width, self.height
            return min(width, self.width), min(height, self.height)
        scale = max(self.width / width, self.height / height)
        if scale >= 1 and not upscale:
            return width, height
        # Rounding may not leave the shorter edge a pixel short of what was asked for.
        return max(self.width, round(width * scale)), max(self.height, round(height * scale))

    def kept(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the box (left, upper, right, lower) that stays of a drawn image."""
        if self.mode != "crop":
            return 0, 0, width, height
        keep_w, keep_h = min(width, self.width), min(height, self.height)
        left, upper = (width - keep_w) // 2, (height - keep_h) // 2
        return left, upper, left + keep_w, upper + keep_h


def parse_resize(text: str) -> Resize:
    """Parse a resize setting.

    Raises:
        ConfigError: It is no known mode, or a size is 0 or beyond ``MAX_EDGE``.
    """
    match = _RESIZE.fullmatch(text)
    edges = [int(edge) for edge in (match.group(1, 3, 4) if match else ()) if edge]
    if not match or not all(1 <= edge <= MAX_EDGE for edge in edges):
        raise ConfigError(
            "setting resize",
            expected=f"{', '.join(MODES)} with edges of 1 to {MAX_EDGE} pixels",
            found=repr(text),
        )
    if match[1]:
        return Resize("short_edge", edges[0], edges[0])
    return Resize(match[2], edges[0], edges[1]) if match[2] else Resize("none")
