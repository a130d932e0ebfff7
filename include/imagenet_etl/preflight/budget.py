"""The disk budget: what a run will still write on each file system, before it writes anything."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from imagenet_etl.build import Build
from imagenet_etl.errors import NotEnoughSpace, NotWritable
from imagenet_etl.preflight.archives import known_archives
from imagenet_etl.preflight.disks import ARCHIVES, PLACES, SCRATCH, Disk, disks_of, human
from imagenet_etl.preflight.images import Share, shares_of
from imagenet_etl.preflight.loose import check_loose_files
from imagenet_etl.preflight.needs import (
    Need,
    archive_need,
    pack_need,
    segments_left,
    table_needs,
)
from imagenet_etl.preflight.scratch import scratch_need
from imagenet_etl.receipts import Receipt

log = logging.getLogger(__name__)

_GIB = 1 << 30
_REMEDY = (
    "Free some space or choose another data folder; give archives by path, which are read in place "
    "(--source); ask for fewer formats, or for --shards 0, which writes every byte once. "
    "keep_archives=never gives the archives' room back, but only after the version is verified. "
    "docs/sizing.md says what each dataset takes"
)
_SCRATCH_REMEDY = (
    "Set TMPDIR to a folder with more room on every worker; ask for fewer processes (--workers) or "
    "formats; an LMDB needs twice its largest split, and --shards 0 joins nothing"
)


@dataclass(frozen=True)
class Budget:
    """What a run still needs, and what there is.

    Attributes:
        needs: What each stage will write; stages that are done are left out.
        disks: The file system of each folder in ``needs``, by the folder.
        shares: The images that it will read, by split.
        volume_bytes: Size of a volume that can hold archives, work and output, whole GiB of them;
            None if that cannot be known, and for a bucket. A snapshot of it takes no room on it.
        is_sourced: Whether all archives have a source; else the sizes are the published ones.
    """

    needs: tuple[Need, ...]
    disks: Mapping[str, Disk]
    shares: tuple[Share, ...]
    volume_bytes: int | None
    is_sourced: bool = True

    @property
    def images(self) -> int | None:
        """How many images will be packed, at most; None if nobody knows."""
        counts = [share.images for share in self.shares if share.is_packed]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def image_bytes(self) -> int | None:
        """How many bytes of images will be read, at most; None if nobody knows."""
        sizes = [share.bytes for share in self.shares if share.is_packed]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def by_disk(self) -> list[tuple[Disk, list[Need]]]:
        """Return each file system with what will be written on it."""
        ordered = sorted(self.needs, key=lambda need: self.disks[need.place].device)
        groups = groupby(ordered, key=lambda need: self.disks[need.place].device)
        rows = [list(needs) for _, needs in groups]
        return [(self.disks[needs[0].place], needs) for needs in rows]


def budget_of(build: Build, done: Mapping[str, Receipt] | None = None) -> Budget:
    """Return what each stage will still need on each file system; upper bounds, some ms of work.

    Nothing is hashed, and nothing is asked for over a network but a data folder in a bucket. What
    goes there has no limit; what a worker needs in its temporary folder is held against that. A
    class filter and the choice of validation images may make the output smaller. Images that are
    enlarged may make it larger.

    Args:
        build: The run.
        done: The valid receipts by stage; None to look for them.

    Raises:
        ConfigError, SourceNotFound: The settings' sources cannot be used.
    """
    if done is None:
        done = receipts_of(build)
    archives = known_archives(build)
    shares = shares_of(build, archives, done)
    needs: list[Need] = []
    if "verify" not in done:  # archives may have been let go since
        needs = [archive_need(archives), *table_needs(build, shares, done)]
        if "pack" not in done:
            left = segments_left(build, done)
            needs.append(pack_need(build, shares, left))
            needs += [] if build.storage.on_disk else [scratch_need(build, shares, left)]
    whole = [
        archive_need(archives, whole=True),
        *table_needs(build, shares, {}),
        pack_need(build, shares, None),
    ]
    is_sourced = all(archive.is_given for archive in archives)
    volume = _volume(whole) if build.storage.on_disk else None
    return Budget(tuple(needs), disks_of(build), tuple(shares), volume, is_sourced)


def receipts_of(build: Build) -> dict[str, Receipt]:
    """Return the valid receipts of the stages on this machine, up to the first that has none."""
    from imagenet_etl.pipeline import find_receipt  # noqa: PLC0415 - the stages call this module

    done: dict[str, Receipt] = {}
    for name in build.facts.stages:
        receipt = find_receipt(build, name, done)
        if receipt is None:
            break
        done[name] = receipt
    return done


def check_budget(build: Build, done: Mapping[str, Receipt] | None = None) -> Budget:
    """Log the budget, and refuse a run that would fill a disk in its tenth hour.

    What is surely written decides, not the upper bounds that are logged. Where a source is missing
    nothing is refused: the download says so, and that is what has to be mended first.

    Args:
        build: The run.
        done: As for ``budget_of``.

    Raises:
        NotEnoughSpace: A file system has too few free bytes or inodes for what is known.
        NotWritable: Finished files would have to be moved from one file system to another.
        ConfigError: There would be too many loose files.
        ConfigError, SourceNotFound: The settings' sources cannot be used.
    """
    budget = budget_of(build, done)
    for line in told(budget):
        log.info("%s", line)
    if not budget.is_sourced:
        return budget
    check_loose_files(build.settings, sum(need.least_files for need in budget.needs))
    for disk, needs in budget.by_disk():
        _check_disk(disk, needs)
    _check_renames(budget)
    return budget


def told(budget: Budget) -> list[str]:
    """Return the budget as lines: one for each file system and stage, and the volume to have."""
    rows = [("file system", "free", "stage", "needs", "files")]
    for disk, needs in budget.by_disk():
        for need in needs:
            files = f"{need.files:,}" if need.files else ""
            rows.append((disk.path, _free(disk), need.stage, _needs(need), files))
        rows.append((disk.path, _free(disk), "together", _needs(*needs), ""))
    if not budget.needs:
        return ["disk budget: nothing is left to be written"]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["disk budget, at most:"]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            row[1].rjust(widths[1]),
            row[2].ljust(widths[2]),
            row[3].rjust(widths[3]),
            row[4].rjust(widths[4]),
        ]
        lines.append("  ".join(cells).rstrip())
    if budget.volume_bytes is not None:
        gib = budget.volume_bytes // _GIB
        lines.append(f"a volume for archives, work and output: {gib:,} GiB")
    return lines


def _free(disk: Disk) -> str:
    return "no limit" if disk.free_bytes is None else human(disk.free_bytes)


def _needs(*needs: Need) -> str:
    """Return the upper bound in words, or what is sure where there is no bound."""
    bounds = [need.bytes for need in needs]
    if None not in bounds:
        return human(sum(bound or 0 for bound in bounds))
    least = sum(need.least for need in needs)
    return f"at least {human(least)}" if least else "unknown"


def _volume(needs: list[Need]) -> int | None:
    if any(need.bytes is None for need in needs):
        return None
    # File systems keep a little for themselves, and get slow when they are full.
    total = sum(need.bytes or 0 for need in needs)
    return -(-total * 105 // 100 // _GIB) * _GIB


def _check_disk(disk: Disk, needs: list[Need]) -> None:
    """Compare what is surely needed on one file system with what is free.

    Raises:
        NotEnoughSpace: It is less.
    """
    needed, files = sum(need.least for need in needs), sum(need.least_files for need in needs)
    if disk.free_bytes is not None and needed > disk.free_bytes:
        stages = ", ".join(f"{one.stage} {human(one.least)}" for one in needs if one.least)
        raise NotEnoughSpace(
            f"the file system of {disk.path} is too small for this run",
            expected=f"at least {human(needed)} free ({stages})",
            found=f"{human(disk.free_bytes)}, {human(needed - disk.free_bytes)} are missing",
            remedy=_SCRATCH_REMEDY if needs[0].place == SCRATCH else _REMEDY,
        )
    if disk.free_files is not None and files > disk.free_files:
        raise NotEnoughSpace(
            f"the file system of {disk.path} has too few inodes for loose files",
            expected=f"at least {files:,} free",
            found=f"{disk.free_files:,}, {files - disk.free_files:,} are missing",
            remedy="Leave the ImageFolder format out, or make the file system with more inodes",
        )


def _check_renames(budget: Budget) -> None:
    """Make sure that what is finished in one folder can be renamed into the next.

    Raises:
        NotWritable: The folders lie on different file systems.
    """
    written = {need.place for need in budget.needs if need.bytes != 0}
    if not written:
        return
    used = [place for place in PLACES if place != ARCHIVES or ARCHIVES in written]
    first = budget.disks[used[-1]]
    apart = [place for place in used if budget.disks[place].device != first.device]
    if apart:
        raise NotWritable(
            f"{' and '.join(apart)} and {used[-1]} lie on different file systems",
            expected="one below the data folder, where finished files are renamed into their place",
            found=" and ".join(budget.disks[place].path for place in (*apart, used[-1])),
            remedy="Mount one file system at the data folder; archives that lie elsewhere are read "
            "in place with --source",
        )
