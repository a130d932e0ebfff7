"""What the command ``preflight`` prints: the disk budget, and hours of reading."""

from __future__ import annotations

from imagenet_etl.build import Build
from imagenet_etl.costs import left_behind
from imagenet_etl.preflight.archives import known_archives
from imagenet_etl.preflight.budget import budget_of
from imagenet_etl.preflight.budget import told as budget_told
from imagenet_etl.preflight.on_volume import archives_planned
from imagenet_etl.preflight.read_speed import files_to_read, hours, measure_reads
from imagenet_etl.preflight.read_speed import told as speed_told


def preflight_lines(build: Build) -> list[str]:
    """Return budget and reading hours as lines; takes about three seconds, refuses nothing.

    Raises:
        ConfigError, SourceNotFound: The settings' sources cannot be used.
    """
    budget = budget_of(build)
    return [
        *budget_told(budget),
        *reading_lines(build, budget.images, budget.image_bytes),
        *_cost_lines(build, budget.image_bytes),
    ]


def _cost_lines(build: Build, image_bytes: int | None) -> list[str]:
    """Return what the run would leave behind in the cloud, with images as they are."""
    if image_bytes is None:
        return []
    size = image_bytes * len(build.settings.outputs)
    archives = known_archives(build)
    archive_bytes = sum(one.size or 0 for one in archives)
    return left_behind(size, build.settings, archive_bytes, archives_planned(build, archives))


def reading_lines(build: Build, images: int | None, stored: int | None) -> list[str]:
    """Measure the disk of the archives and return the hours of reading as lines.

    The largest archive that is on this machine stands for all: they lie on one disk, mostly.

    Args:
        build: The run.
        images: How many images will be read; None if nobody knows.
        stored: Their bytes.

    Raises:
        ConfigError, SourceNotFound: The settings' sources cannot be used.
    """
    if not build.storage.on_disk:
        return ["reading speed: the archives are read from buckets, where nothing seeks"]
    here = [one for one in known_archives(build) if one.path is not None and one.splits]
    if not here:
        return ["reading speed: no archive is on this machine yet"]
    archive = max(here, key=lambda one: one.size or 0)
    assert archive.path is not None
    if images is None or stored is None:
        return [f"reading speed: nobody knows how many images {archive.path} holds"]
    speed = measure_reads(files_to_read(archive.path))
    if speed is None:
        return [f"reading speed: {archive.path} holds too little in one file to tell"]
    settings = build.settings
    times = hours(speed, images, stored, settings.worker_count())
    return speed_told(speed, times, settings.shuffle)
