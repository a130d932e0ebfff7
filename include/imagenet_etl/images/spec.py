"""What is done to every image of one output, as text that people write and as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from imagenet_etl.errors import ConfigError
from imagenet_etl.images.geometry import MODES, Placement, Resize, centred, parse_resize

SUBSAMPLINGS = ("444", "422", "420")
ENCODINGS = ("jpeg", "png")
_UNCHANGED = Resize("none")
_MODES = frozenset(mode.partition(":")[0] for mode in MODES)
_SWITCHES = ("upscale", "center_crop", "im2rec_compat")
_WORDS: Mapping[str, tuple[str, str | bool]] = (
    {text: ("subsampling", text) for text in SUBSAMPLINGS}
    | {text: ("encoding", text) for text in ENCODINGS}
    | {name: (name, True) for name in _SWITCHES}
    | {f"no_{name}": (name, False) for name in _SWITCHES}
)
_QUALITY = re.compile(r"q(\d{1,3})")
_FILL = re.compile(r"fill=([0-9A-Fa-f]{6})")
_GRAMMAR = (
    f"a mode ({', '.join(MODES)}), then any of qN, {', '.join((*SUBSAMPLINGS, *ENCODINGS))}, "
    f"{', '.join(_SWITCHES)} (each also with no_ before it), fill=RRGGBB, colons between"
)


def _require(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise ConfigError(f"image {name}", expected=expected, found=repr(value))


@dataclass(frozen=True)
class ImageSpec:
    """What is done to every image of an output.

    Attributes:
        resize: The resize mode.
        upscale: Whether smaller images are enlarged.
        quality: JPEG quality of what is re-encoded, 1 to 100.
        subsampling: Chroma subsampling of re-encoded JPEGs, of ``SUBSAMPLINGS``.
        encoding: ``jpeg`` or ``png``.
        center_crop: Whether the middle square is cut out before the resize, as im2rec's
            ``--center-crop`` does.
        im2rec_compat: Whether images are drawn as ``tools/im2rec.py`` of MXNet 1.9.1 draws them:
            bilinear without antialiasing, long edge rounded down, enlarged, always re-encoded.
        fill: Colour of the padding, RRGGBB.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    resize: Resize = _UNCHANGED
    upscale: bool = False
    quality: int = 90
    subsampling: str = "420"
    encoding: str = "jpeg"
    center_crop: bool = False
    im2rec_compat: bool = False
    fill: str = "000000"

    def __post_init__(self) -> None:
        _require(1 <= self.quality <= 100, "quality", self.quality, "1 to 100")
        ok = self.subsampling in SUBSAMPLINGS
        _require(ok, "subsampling", self.subsampling, " or ".join(SUBSAMPLINGS))
        _require(self.encoding in ENCODINGS, "encoding", self.encoding, " or ".join(ENCODINGS))
        ok = bool(_FILL.fullmatch(f"fill={self.fill}"))
        _require(ok, "fill", self.fill, "six hex digits, RRGGBB")
        object.__setattr__(self, "fill", self.fill.lower())

    @property
    def suffix(self) -> str:
        """The ending of its files' names, with the dot."""
        return ".png" if self.encoding == "png" else ".jpg"

    @property
    def enlarges(self) -> bool:
        """Whether smaller images are enlarged; im2rec always does."""
        return self.upscale or self.im2rec_compat

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Width and height in pixels that every image surely comes out with; None if they vary."""
        mode = self.resize.mode
        if mode == "fill" or (mode in ("squash", "crop", "half_crop") and self.enlarges):
            return self.resize.width, self.resize.height
        return None

    def canonical(self) -> str:
        """Return the full text of the spec, from which parsing gives it back whatever the defaults.

        It goes into digests and manifests, so it never changes for an equal spec.
        """
        resize = self.resize
        size = {
            "none": "",
            "short_edge": f":{resize.width}",
            "long_edge": f":{resize.width}",
        }.get(resize.mode, f":{resize.width}x{resize.height}")
        switches = [name if getattr(self, name) else f"no_{name}" for name in _SWITCHES]
        parts = [f"q{self.quality}", self.subsampling, self.encoding, *switches]
        return ":".join([resize.mode + size, *parts, f"fill={self.fill}"])

    def place(self, width: int, height: int) -> Placement:
        """Return where the pixels of an upright image of ``width`` x ``height`` go."""
        if not self.center_crop:
            return self._resized(width, height)
        side = min(width, height)
        x, y = centred(width, height, side, side)[:2]
        square = self._resized(side, side)
        left, upper, right, lower = square.box
        return replace(square, box=(left + x, upper + y, right + x, lower + y))

    def _resized(self, width: int, height: int) -> Placement:
        upscale, floor = self.enlarges, self.im2rec_compat
        return self.resize.place(width, height, upscale=upscale, floor=floor)


DEFAULT_SPEC = ImageSpec()


def parse_image_spec(text: str, defaults: ImageSpec = DEFAULT_SPEC) -> ImageSpec:
    """Parse what a user says of an output's images, such as ``squash:224x224:q85:444``.

    A mode with its size comes first, if it is said at all; then, in any order, ``qN``, a chroma
    subsampling, an encoding, ``upscale``, ``center_crop``, ``im2rec_compat`` (each also with
    ``no_`` before it) and ``fill=RRGGBB``. What is not said comes from ``defaults``.

    Raises:
        ConfigError: A part is unknown, out of its bounds, or said twice.
    """
    parts = text.split(":") if text else []
    values: dict[str, Resize | str | int | bool] = {}
    if parts and parts[0] in _MODES:
        taken = 1 if parts[0] == "none" else 2
        values["resize"] = parse_resize(":".join(parts[:taken]))
        parts = parts[taken:]
    for part in parts:
        name, value = _parse_part(part, text)
        if name in values:
            raise ConfigError(f"image spec {text!r}", expected=f"{name} once", found=repr(part))
        values[name] = value
    return replace(defaults, **values)  # type: ignore[arg-type]


def _parse_part(part: str, text: str) -> tuple[str, str | int | bool]:
    """Return the field that a part of the text sets, and its value."""
    if part in _WORDS:
        return _WORDS[part]
    if match := _QUALITY.fullmatch(part):
        _require(1 <= int(match[1]) <= 100, f"quality in {text!r}", part, "q1 to q100")
        return "quality", int(match[1])
    if match := _FILL.fullmatch(part):
        return "fill", match[1]
    raise ConfigError(f"image spec {text!r}", expected=_GRAMMAR, found=repr(part))
