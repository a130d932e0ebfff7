"""What each stage still has to write, and to which folder of the data folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.images.spec import ImageSpec
from imagenet_etl.preflight.archives import Known
from imagenet_etl.preflight.disks import ARCHIVES, WORK
from imagenet_etl.preflight.images import Share
from imagenet_etl.receipts import Receipt, stage_digest_of
from imagenet_etl.records.formats import DATABASE, FORMATS, LOOSE, SHARDS
from imagenet_etl.segments import is_final
from imagenet_etl.selection import Segment

PNG_GROWTH = 5
"""A photograph as PNG is about so many times its JPEG; packing reckons with the same."""

TABLE_BYTES = {
    "untar": 2 * 90,  # in parts first
    "restructure_val": 90,
    "plan_shards": 110 + 150,  # the plan, and what sorting it takes
}
"""Bytes of tables an image, by stage; those that are not named write next to nothing."""

RECORD_BYTES = 2 * 150
"""Of ``records.parquet`` for a record, by segment first and then whole."""

OVERHEAD_BYTES = {
    "recordio": 128,  # two headers, padding, a line in .idx and in .lst
    "webdataset": 1200,  # a block for the class and its header, half a block, a line of the index
    "lmdb": 2200,  # values begin on pages of 4 KiB; a line in train.txt
    "imagefolder": 2200,  # files take whole blocks of 4 KiB; a line in files.parquet
}
"""Bytes a record beside those that a tar has for the same image."""

_SURE_SHARE = 0.85


@dataclass(frozen=True)
class Need:
    """What one stage still has to write.

    Attributes:
        stage: The stage.
        place: The folder of the data folder, of ``disks.PLACES``.
        bytes: How much, as an upper bound; None for what cannot be known.
        files: How many loose files, as an upper bound.
        least: Bytes that are surely written; a run is refused on these alone.
        least_files: Loose files that surely are.
    """

    stage: str
    place: str
    bytes: int | None
    files: int = 0
    least: int = 0
    least_files: int = 0

    @classmethod
    def of(
        cls, stage: str, place: str, size: int | None, files: int = 0, sure: float = 1.0
    ) -> Need:
        """Return a need of which a share, 0 to 1, is sure."""
        return cls(stage, place, size, files, int((size or 0) * sure), int(files * sure))


def archive_need(archives: Sequence[Known], *, whole: bool = False) -> Need:
    """Return what is to be fetched and unpacked.

    Args:
        archives: The run's archives.
        whole: Whether to count as well what is there already.
    """
    sizes = [one.whole if whole else one.missing for one in archives]
    known = sum(size for size in sizes if size is not None)
    # An archive of unknown length beside known ones makes a lower bound, which is of use, too.
    return Need("download", ARCHIVES, None if None in sizes else known, least=known)


def table_needs(build: Build, shares: Sequence[Share], done: Mapping[str, Receipt]) -> list[Need]:
    """Return what the stages between download and packing will write."""
    images = None if any(one.images is None for one in shares) else _images(shares)
    needs = []
    for stage in build.facts.stages:
        if stage in TABLE_BYTES and stage not in done:
            size = None if images is None else images * TABLE_BYTES[stage]
            # Only what comes after the filter goes by what it leaves.
            sure = sure_share(build.facts, build.settings) if stage == "plan_shards" else 1.0
            needs.append(Need.of(stage, WORK, size, sure=sure))
    return needs


def sure_share(facts: DatasetFacts, settings: Settings) -> float:
    """Return the share of the images, 0 to 1, that the class filter is sure to leave.

    The published rule keeps 87 % of fall11's images, as others report, and winter21's classes are
    much the same. Of classes that are named, of a stricter rule, and of samples nothing is known
    before they are counted.
    """
    if settings.keep_classes or settings.drop_classes:
        return 0.0
    if settings.min_images_per_class <= 1:
        return 1.0
    published_rule = facts.defaults.get("min_images_per_class", 0)
    is_known = settings.expect == "published" and settings.min_images_per_class <= published_rule
    return _SURE_SHARE if is_known else 0.0


def _images(shares: Sequence[Share]) -> int:
    return sum(share.images or 0 for share in shares)


def pack_need(build: Build, shares: Sequence[Share], segments: Sequence[Segment] | None) -> Need:
    """Return what packing will write, which publishing only renames.

    Args:
        build: The run.
        shares: What every split holds.
        segments: The plan's segments that are still to be packed; None where there is no plan yet.
    """
    outputs = build.settings.outputs
    if segments is not None:
        needed = sum(
            output_bytes(name, spec, one.records, one.bytes, twice=not is_final(name, one))
            for name, spec in outputs.items()
            for one in segments
        )
        images = sum(one.records for one in segments)
        return Need.of("pack", WORK, needed, images * _loose(build))
    packed = [share for share in shares if share.is_packed]
    if any(share.images is None or share.bytes is None for share in packed):
        return Need("pack", WORK, None)
    needed = sum(
        output_bytes(name, spec, one.images or 0, one.bytes or 0, twice=_twice(name, one))
        for name, spec in outputs.items()
        for one in packed
    )
    # Without a plan nobody knows whether a version that is published already is what is asked for.
    is_new = build.storage.stat(f"{build.published}/registry.json") is None
    sure = sure_share(build.facts, build.settings) if is_new else 0.0
    return Need.of("pack", WORK, needed, _images(packed) * _loose(build), sure)


def _loose(build: Build) -> int:
    """Return how many of the formats have a file for each image."""
    return sum(FORMATS[name].kind == LOOSE for name in build.settings.outputs)


def _twice(output: str, share: Share) -> bool:
    kind = FORMATS[output].kind
    return kind == DATABASE or (kind == SHARDS and share.is_joined)


def output_bytes(output: str, spec: ImageSpec, images: int, stored: int, *, twice: bool) -> int:
    """Return about how many bytes images take; parts stay beside what they are joined to."""
    growth = PNG_GROWTH if spec.encoding == "png" else 1
    once = stored * growth + images * OVERHEAD_BYTES[output]
    return once * (2 if twice else 1) + images * RECORD_BYTES


def segments_left(build: Build, done: Mapping[str, Receipt]) -> list[Segment] | None:
    """Return the segments that no earlier try has packed; None where there is no plan yet."""
    from imagenet_etl.pipeline import STAGES  # noqa: PLC0415 - the stages call this module

    plan = done.get("plan_shards")
    if plan is None:
        return None
    listing = build.storage.read(plan.key_of("segments.json")) or b"[]"
    stage = STAGES["pack"]
    settings = build.settings.select(stage.reads)
    inputs = {plan.stage: plan.digest}
    digest = stage_digest_of(stage.name, stage.version, settings, inputs, stage.tools())
    folder = f"{build.work}/pack/{digest}/segments"
    packed = {key.rpartition("/")[2] for key, _ in build.storage.list(folder)}
    segments = [Segment(**item) for item in json.loads(listing)]
    return [one for one in segments if f"{one.number:05d}.json" not in packed]
