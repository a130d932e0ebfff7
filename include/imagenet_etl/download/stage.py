"""Stage ``download``: every archive on disk and verified, or used where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from imagenet_etl.archives.folder import folder_state
from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.location import ArchiveRef, archives_of
from imagenet_etl.build import Build
from imagenet_etl.download.archive import upstream_changed, verified_archive
from imagenet_etl.download.notes import Note
from imagenet_etl.download.release import is_released
from imagenet_etl.download.sources import Sources, sources_of
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.stage import Place, Result
from imagenet_etl.storage.many import each


def download(place: Place) -> Result:
    """Verify every archive that the run needs, fetching what is missing.

    The facts of the receipt hold ``archives``, an ``ArchiveRef`` by archive name, and ``splits``.

    Raises:
        SourceError, SourceUnavailable, SourceBusy: An archive cannot be had.
        ChecksumMismatch: An archive is not the published one.
    """
    build = place.build
    sources = sources_of(build)
    pairs = [verified_archive(build, s.archive, source=s.place) for s in sources.archives]
    return result_of(place, sources, [note for note, _ in pairs], sum(count for _, count in pairs))


def result_of(place: Place, sources: Sources, notes: Sequence[Note], fetched_bytes: int) -> Result:
    """Return the stage's result once every archive is verified.

    Args:
        place: The stage's place.
        sources: What the run is made of.
        notes: The note of each archive, in the same order.
        fetched_bytes: How much was fetched, in all slices, by the task that completes the stage;
            what tasks of other archives fetched is not known here.
    """
    # An index of a folder holds the mtime of each file, so other mtimes ask for another index.
    told_apart_by = [n.archive.tag for n in notes if n.archive.kind == FOLDER]
    return Result(
        counts={"archives": len(notes), "archive_bytes": sum(n.archive.size for n in notes)},
        outputs=tuple(
            Output(n.archive.name, n.archive.size, n.sha256, n.archive.tag) for n in notes
        ),
        facts={
            "archives": {n.archive.name: asdict(n.archive) for n in notes},
            "sources": {n.archive.name: n.source for n in notes},
            "digests": {n.archive.name: n.digests for n in notes},
            "splits": list(sources.splits),
            "left_out": list(sources.left_out(place.build)),
            "bytes_fetched": fetched_bytes,
        },
        base="",
        identity=" ".join([*sources.splits, *told_apart_by]),
    )


def archives_unchanged(build: Build, receipt: Receipt) -> bool:
    """Return whether every archive has the size and tag that were verified, or was let go since."""
    sha256 = {output.name: output.sha256 for output in receipt.outputs}

    def is_unchanged(ref: ArchiveRef) -> bool:
        return ref.is_unchanged(build.storage) or is_released(
            build.storage, ref, sha256.get(ref.name, "")
        )

    return all(each(build.storage, is_unchanged, list(archives_of(receipt).values())))


def archives_there(build: Build, receipt: Receipt) -> bool:
    """Return whether every archive can be read."""
    refs = list(archives_of(receipt).values())
    return all(each(build.storage, lambda ref: ref.is_unchanged(build.storage), refs))


def sources_unchanged(build: Build) -> bool:
    """Return whether upstream still has what was fetched, where no digest proves it; asks it."""
    return not any(
        upstream_changed(build, s.archive, source=s.place) for s in sources_of(build).archives
    )


def folders_whole(_build: Build, receipt: Receipt) -> bool:
    """Return whether every file of the folders that stand for archives is as it was."""
    return all(
        folder_state(Path(ref.location), ref.name).tag == ref.tag
        for ref in archives_of(receipt).values()
        if ref.kind == FOLDER
    )
