"""The frozen settings of a run, checked once, and what each of them may be."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePath
from typing import Any

from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import ConfigError
from imagenet_etl.images.geometry import parse_resize

FORMATS = ("recordio", "imagefolder")
EXPECTATIONS = ("published", "any")
SEGMENT_RECORDS = 4096
"""The most records in a segment, the unit of work and of retry."""

BOUNDS: dict[str, tuple[int, int]] = {
    "quality": (1, 100),
    "shards": (0, 100_000),
    "val_shards": (1, 10_000),
    "seed": (0, 2**63 - 1),
    "workers": (0, 512),
}
"""Inclusive bounds of the whole-number settings; the form and the command line show them too."""

_VERSION = re.compile(r"(?!registry\.json$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXTS = ("dataset", "data_dir", "version", "resize", "expect", "s3_uri", "ebs_volume_id")
_VOLUME = re.compile(r"vol-[0-9a-f]{8,17}")


@dataclass(frozen=True)
class Settings:
    """What one run is asked to do.

    Attributes:
        dataset: Name of the dataset.
        data_dir: Folder that holds ``archives/``, ``work/`` and ``datasets/``.
        version: Name of the published version; empty for the pack digest's first eight digits.
        sources: Path or URL by archive name, in place of the publisher's URL.
        formats: Output formats, of ``FORMATS``.
        resize: ``none``, ``short_edge:S``, ``squash:WxH`` or ``crop:WxH``; S, W and H in pixels.
        upscale: Whether images smaller than that are enlarged.
        quality: JPEG quality of re-encoded images, 1 to 100.
        shards: Number of training shards; 0 gives one shard for each segment.
        val_shards: Number of validation shards.
        seed: Seed of the shuffle; 100 is im2rec's.
        max_bad: Images that may be quarantined; None for 0.01 % of them and at least one.
        expect: ``published`` demands the published counts and digests, ``any`` takes samples.
        workers: Packing processes; 0 for one a core.
        s3_uri: Where to back the dataset up; empty for nowhere.
        ebs_volume_id: The volume to snapshot; empty for none.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    dataset: str
    data_dir: str
    version: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ("recordio",)
    resize: str = "none"
    upscale: bool = False
    quality: int = 90
    shards: int = 0
    val_shards: int = 1
    seed: int = 100
    max_bad: int | None = None
    expect: str = "published"
    workers: int = 0
    s3_uri: str = ""
    ebs_volume_id: str = ""

    def __post_init__(self) -> None:
        self._check_types()
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            _require(low <= value <= high, name, value, f"{low} to {high}")
        _require(_is_place(self.data_dir), "data_dir", self.data_dir, "an absolute path")
        for archive, place in self.sources.items():
            # Relative to what? Tasks and their retries run on different machines.
            _require(_is_place(place), f"sources[{archive}]", place, "an absolute path or a URL")
        _require(bool(self.formats), "formats", self.formats, "at least one format")
        for name in self.formats:
            _require(name in FORMATS, "formats", name, " or ".join(FORMATS))
        # The same formats in another order are the same dataset and must have the same digest.
        object.__setattr__(self, "formats", tuple(f for f in FORMATS if f in self.formats))
        _require(self.expect in EXPECTATIONS, "expect", self.expect, " or ".join(EXPECTATIONS))
        ok = not self.version or bool(_VERSION.fullmatch(self.version))
        _require(
            ok, "version", self.version, "letters, digits, dot, dash, underscore; not registry.json"
        )
        if self.max_bad is not None:
            _require(self.max_bad >= 0, "max_bad", self.max_bad, "0 or more")
        ok = not self.ebs_volume_id or bool(_VOLUME.fullmatch(self.ebs_volume_id))
        _require(ok, "ebs_volume_id", self.ebs_volume_id, "vol- and hex digits")
        ok = not self.s3_uri or _is_s3_uri(self.s3_uri)
        _require(ok, "s3_uri", self.s3_uri, "s3://bucket/prefix")
        parse_resize(self.resize)

    def _check_types(self) -> None:
        """Refuse what a form, a JSON file or the environment may give: "90", "false", null."""
        for name in (*BOUNDS, *(["max_bad"] if self.max_bad is not None else [])):
            value = getattr(self, name)
            _require(type(value) is int, name, value, "a whole number")
        for name in _TEXTS:
            value = getattr(self, name)
            _require(isinstance(value, str), name, value, "text")
        _require(isinstance(self.upscale, bool), "upscale", self.upscale, "true or false")
        ok = isinstance(self.formats, tuple | list)
        _require(ok, "formats", self.formats, "a list of formats")
        ok = isinstance(self.sources, dict) and all(
            isinstance(text, str) for pair in self.sources.items() for text in pair
        )
        _require(ok, "sources", self.sources, "a path or URL for each archive name")

    def select(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the named settings, JSON-ready: what a stage's digest is taken over."""
        return {name: asdict(self)[name] for name in names}

    def worker_count(self) -> int:
        """Return the number of packing processes to start."""
        return self.workers or len(os.sched_getaffinity(0))

    def max_bad_of(self, expected: int) -> int:
        """Return how many of ``expected`` images may be quarantined."""
        return self.max_bad if self.max_bad is not None else max(1, expected // 10_000)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)

    @staticmethod
    def from_json(text: str | bytes) -> Settings:
        """Read what ``to_json`` gave; unknown names are refused.

        Raises:
            ConfigError: A name is unknown or missing.
        """
        values = json.loads(text)
        missing = sorted({"dataset", "data_dir"} - set(values))
        if missing:
            raise ConfigError(f"missing settings: {', '.join(missing)}")
        unknown = sorted(set(values) - {item.name for item in fields(Settings)})
        if unknown:
            raise ConfigError(f"unknown settings: {', '.join(unknown)}")
        return Settings(**values)


def _is_place(text: str) -> bool:
    return "://" in text or PurePath(text).is_absolute()


def _require(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise ConfigError(f"setting {name}", expected=expected, found=repr(value))


def _is_s3_uri(text: str) -> bool:
    try:
        parse_s3_uri(text)
    except ConfigError:
        return False
    return True
