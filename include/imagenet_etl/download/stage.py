"""Stage ``download``: every archive on disk and verified, or used where it lies."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from imagenet_etl.archives.folder import folder_state
from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.location import archives_of
from imagenet_etl.build import Build
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.stage import Place, Result


def download(place: Place) -> Result:
    """Verify every archive of the dataset, fetching what is missing.

    The facts of the receipt hold ``archives``: an ``ArchiveRef`` by archive name.

    Raises:
        SourceError, SourceUnavailable, SourceBusy: An archive cannot be had.
        ChecksumMismatch: An archive is not the published one.
    """
    pairs = [verified_archive(place.build, facts) for facts in place.build.facts.archives]
    notes = [note for note, _ in pairs]
    return Result(
        counts={"archives": len(notes), "archive_bytes": sum(n.archive.size for n in notes)},
        outputs=tuple(
            Output(n.archive.name, n.archive.size, n.sha256, n.archive.tag) for n in notes
        ),
        facts={
            "archives": {n.archive.name: asdict(n.archive) for n in notes},
            "sources": {n.archive.name: n.source for n in notes},
            "digests": {n.archive.name: n.digests for n in notes},
            "bytes_fetched": sum(count for _, count in pairs),
        },
        base="",
        # An index of a folder holds the mtime of each file, so other mtimes ask for another index.
        identity=" ".join(n.archive.tag for n in notes if n.archive.kind == FOLDER),
    )


def archives_unchanged(build: Build, receipt: Receipt) -> bool:
    """Return whether every archive still has the size and tag that were verified."""
    return all(ref.is_unchanged(build.storage) for ref in archives_of(receipt).values())


def folders_whole(_build: Build, receipt: Receipt) -> bool:
    """Return whether every file of the folders that stand for archives is as it was."""
    return all(
        folder_state(Path(ref.location), ref.name).tag == ref.tag
        for ref in archives_of(receipt).values()
        if ref.kind == FOLDER
    )
