"""Stage ``pack``: segments over a supervised process pool, then the dataset's folder tree."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imagenet_etl.assembly import assemble
from imagenet_etl.build import Build
from imagenet_etl.errors import DatasetDamaged, TooManyBadImages, VersionConflict
from imagenet_etl.held_segments import HeldSegments
from imagenet_etl.images.spec import ImageSpec
from imagenet_etl.manifest import Manifest, is_published_unnoted, read_manifest, version_of
from imagenet_etl.pool import WorkerPool
from imagenet_etl.preflight.loose import check_loose_files
from imagenet_etl.preflight.needs import PNG_GROWTH
from imagenet_etl.progress import Meter, metered
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.records.formats import LOOSE_FORMATS
from imagenet_etl.records.loose import loose_files_intact
from imagenet_etl.segments import READS, SEGMENT_SCHEMA, PackJob, is_final, reads_of
from imagenet_etl.selection import Group, Segment
from imagenet_etl.shuffle import WINDOW
from imagenet_etl.stage import Place, Result
from imagenet_etl.storage import Stat, Storage
from imagenet_etl.storage.many import each, stats_of

log = logging.getLogger(__name__)

WORKER = "imagenet_etl.pack_worker"
"""The module whose processes pack."""

READ_AHEAD = 16
"""Images that a worker asks a disk for at once, where each lies somewhere else."""

_SPACE_RESERVE = 64 << 20


def pack(place: Place) -> Result:
    """Write every format of the dataset into ``tree/`` below the stage's folder.

    Raises:
        VersionConflict: The version's name is taken by something else.
        NotEnoughSpace: There is no room for the result.
        TooManyBadImages: The quarantine budget is spent.
        WorkerDied, WorkerStalled: A worker failed; finished segments are kept.
    """
    build = place.build
    version = version_of(build.settings, place.digest)
    published = read_manifest(build, version)
    if published is not None:
        return _adopt(place, published)
    _check_name_is_free(build, version)
    segments = _segments(place)
    done = _finished(place, segments)
    _check_space(place, [s for s in segments if s.number not in done])
    _pack_segments(place, segments, done)
    return assemble(place, segments, [done[segment.number] for segment in segments])


def pack_group(place: Place, group: Group) -> dict[str, int]:
    """Pack one group of the plan's segments and leave them to ``pack``, which adds the rest.

    Groups may run at once in any number of processes of one run, on any machines that share the
    data folder.

    Returns:
        How many segments and images the group has, and how many images are quarantined; nothing
        of all when the version is published already. Where archives lie in a bucket also what
        reading them took, by ``segments.READS``.

    Raises:
        VersionConflict, NotEnoughSpace, TooManyBadImages, WorkerDied, WorkerStalled: As ``pack``.
    """
    version = version_of(place.build.settings, place.digest)
    published = read_manifest(place.build, version)
    if published is not None:
        _check_is_this(place, published)
        return dict.fromkeys(("segments", "images", "quarantined"), 0)
    _check_name_is_free(place.build, version)
    segments = group.of(_segments(place))
    done = _finished(place, segments)
    _check_space(place, [s for s in segments if s.number not in done])
    _pack_segments(place, segments, done)
    return {
        "segments": len(segments),
        "images": sum(segment.records for segment in segments),
        "quarantined": len(_bad(done)),
        **reads_of(done.values()),
    }


def tree_is_whole(build: Build, receipt: Receipt) -> bool:
    """Return whether a tree has all its loose files and is within the quarantine budget."""
    counts = receipt.counts
    budget = build.settings.max_bad_of(counts["expected"])
    return counts["quarantined"] <= budget and loose_files_intact(build, receipt)


def pack_is_whole(build: Build, packed: Receipt) -> bool:
    """Return whether a tree is whole where its receipt says; ``pack`` adopts one that has moved."""
    return not is_published_unnoted(build, packed) and tree_is_whole(build, packed)


def read_segments(storage: Storage, plan: Receipt) -> list[Segment]:
    """Return the plan's segments in order."""
    listing = storage.read(plan.key_of("segments.json"))
    return [Segment(**item) for item in json.loads(listing or b"[]")]


def _segments(place: Place) -> list[Segment]:
    return read_segments(place.build.storage, place.done["plan_shards"])


def _adopt(place: Place, published: Manifest) -> Result:
    """Accept the published version as this stage's result, if it is.

    Raises:
        VersionConflict: Other settings or another archive made it.
        DatasetDamaged: One of its files is missing or has another size.
    """
    build = place.build
    base = f"{build.published}/{published.version}"
    _check_is_this(place, published)
    expected = published.counts["expected"]
    _check_budget(published.quarantined, build.settings.max_bad_of(expected), expected)
    outputs = []
    stats = stats_of(build.storage, [f"{base}/{file.name}" for file in published.files])
    for file in published.files:
        stat = stats.get(f"{base}/{file.name}")
        if stat is None or stat.size != file.size:
            raise DatasetDamaged(
                f"{base}/{file.name} is damaged",
                expected=f"{file.size:,} bytes",
                found=f"{stat.size:,} bytes" if stat else "nothing",
                remedy="Restore the version from its backup, or remove it and run again",
            )
        outputs.append(Output(file.name, file.size, file.sha256, stat.tag))
    return Result(
        counts=published.counts,
        outputs=tuple(outputs),
        facts={
            "repaired": published.repaired,
            "class_counts": published.class_counts,
            "short_classes": published.short_classes,
        },
        quarantined=published.quarantined,
        base=base,
        identity=place.digest,
    )


def _check_is_this(place: Place, published: Manifest) -> None:
    """Make sure that a published version is what this stage would make.

    Raises:
        VersionConflict: Other settings or another archive made it.
    """
    if published.pack_digest != place.digest:
        raise VersionConflict(
            f"version {published.version!r} is published with other content",
            expected=f"content {place.digest[:12]}",
            found=published.pack_digest[:12],
            remedy="Choose another version name, or leave it empty",
        )


def _check_name_is_free(build: Build, version: str) -> None:
    """Refuse a name that something else bears, before hours are spent on packing.

    Raises:
        VersionConflict: The folder is there without a manifest, or it is a file.
    """
    key = f"{build.published}/{version}"
    if build.storage.stat(key) or next(build.storage.list(key), None):
        raise VersionConflict(
            f"{build.storage.url}/{key} is there, and is no dataset version",
            remedy="Remove it, or choose another version name",
        )


def _finished(place: Place, segments: list[Segment]) -> dict[int, dict[str, Any]]:
    """Return the receipts of the segments that an earlier try finished."""
    done: dict[int, dict[str, Any]] = {}
    storage = place.build.storage
    keys = [f"{place.base}/segments/{segment.number:05d}.json" for segment in segments]
    read = zip(segments, keys, each(storage, storage.read, keys), strict=True)
    found = [(segment, key, _read_segment(data)) for segment, key, data in read if data is not None]
    noted = {
        f"{place.base}/{item['name']}": Stat(item["size"], item["tag"])
        for _, _, receipt in found
        for item in (receipt or {}).get("outputs", ())
    }
    there = stats_of(storage, noted)
    for segment, key, receipt in found:
        names = [f"{place.base}/{item['name']}" for item in receipt["outputs"]] if receipt else []
        if receipt and all(there.get(name) == noted[name] for name in names):
            done[segment.number] = receipt
        else:
            storage.remove(key)
    return done


def _read_segment(data: bytes) -> dict[str, Any] | None:
    """Return a segment's receipt, None when it is damaged or of another schema: then pack again."""
    try:
        receipt: dict[str, Any] = json.loads(data)
    except ValueError:
        return None
    return receipt if receipt.get("schema_version") == SEGMENT_SCHEMA else None


def _check_space(place: Place, missing: list[Segment]) -> None:
    settings = place.build.settings
    outputs = settings.outputs.items()
    size = sum(_written(segment, name, spec) for segment in missing for name, spec in outputs)
    formats = len(LOOSE_FORMATS & set(settings.outputs))
    # Of the whole plan: a group of it may have few.
    check_loose_files(settings, formats * sum(segment.records for segment in _segments(place)))
    loose = formats * sum(segment.records for segment in missing)
    if missing:
        place.build.storage.check_space(size + _SPACE_RESERVE, loose)


def _written(segment: Segment, output: str, spec: ImageSpec) -> int:
    """Return about how many bytes a segment takes; what is joined later is written twice."""
    growth = PNG_GROWTH if spec.encoding == "png" else 1
    return segment.bytes * growth * (1 if is_final(output, segment) else 2)


def _pack_segments(place: Place, segments: list[Segment], done: dict[int, dict[str, Any]]) -> None:
    build = place.build
    expected = sum(segment.records for segment in segments)
    budget = build.settings.max_bad_of(expected)
    _check_budget(_bad(done), budget, expected)
    missing = [segment for segment in segments if segment.number not in done]
    if not missing:
        return
    workers = min(build.settings.worker_count(), len(missing))
    with (
        HeldSegments(place) as held,
        metered("pack", sum(s.records for s in missing), "images") as meter,
        WorkerPool(WORKER, workers, asdict(_pack_job(place, held.staging))) as pool,
    ):
        jobs = (held.lease(segment) for segment in missing)
        for job, receipt in pool.run(jobs, lambda _, told: _count(meter, told), held.check):
            done[job["segment"]["number"]] = receipt
            held.give_back(job)
            _check_budget(_bad(done), budget, expected)
    _tell_reads(reads_of(done[segment.number] for segment in missing))


def _tell_reads(reads: dict[str, int]) -> None:
    if reads:
        log.info(
            "pack read %s GETs, %s bytes for %s bytes of members",
            *(f"{reads[name]:,}" for name in READS),
        )


def _pack_job(place: Place, staging: Path) -> PackJob:
    settings = place.build.settings
    return PackJob(
        data_dir=settings.data_dir,
        base=place.base,
        plan=place.done["plan_shards"].key_of("plan.parquet"),
        archives=place.done["download"].facts["archives"],
        outputs={name: spec.canonical() for name, spec in settings.outputs.items()},
        max_pixels=place.build.facts.max_pixels,
        # Blocks of neighbours are scattered in windows: each of those is asked for at once, in the
        # archive's order, and waits in the page cache; a bucket is asked for as much as fits into
        # memory.
        read_ahead=WINDOW if settings.shuffle == "blocks" else READ_AHEAD,
        staging=str(staging),
        hardlink=settings.hardlink,
    )


def _bad(done: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for receipt in done.values() for item in receipt["quarantined"]]


def _count(meter: Meter, told: dict[str, int]) -> None:
    meter.add(told["images"], told["bytes"])


def _check_budget(bad: Sequence[dict[str, Any]], budget: int, expected: int) -> None:
    """Compare the quarantined images with what is allowed.

    Raises:
        TooManyBadImages: There are more.
    """
    if len(bad) > budget:
        first = bad[0]
        raise TooManyBadImages(
            "too many images had to be quarantined",
            expected=f"at most {budget} of {expected:,}",
            found=f"{len(bad)}; the first is {first['path']} at byte {first['offset']}: "
            f"{first['reason']}",
            remedy="Get the archive again, or allow more with --max-bad",
        )
