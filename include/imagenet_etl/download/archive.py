"""One archive: fetched and verified, or verified and used where it lies."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from imagenet_etl import leases
from imagenet_etl.archives.folder import folder_state
from imagenet_etl.archives.kinds import FOLDER, kind_of
from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.http import Wanted, fetch
from imagenet_etl.download.notes import Expected, Note, is_valid, read_note, write_note
from imagenet_etl.download.part import PartFile, remove_leftovers
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.urls import local_source, split_digest
from imagenet_etl.errors import (
    AlreadyRunning,
    ArchiveChanged,
    ChecksumMismatch,
    ConfigError,
    SourceBusy,
    SourceNotFound,
)
from imagenet_etl.files import digest_of, hash_file
from imagenet_etl.progress import metered
from imagenet_etl.storage import open_local

log = logging.getLogger(__name__)
_WAIT_FOR_OTHER_S = 600.0
_POLL_S = 1.0


def verified_archive(
    build: Build, facts: ArchiveFacts, patience: Patience | None = None
) -> tuple[Note, int]:
    """Return a verified archive's note and how many bytes were fetched for it."""
    source, sha256 = split_digest(build.settings.sources.get(facts.name, facts.url))
    if not source:
        raise ConfigError(
            f"{facts.name} sits behind a login, so it cannot be fetched for you",
            remedy=f"Log in at {build.facts.terms_url}, download it, and pass "
            f"--source {facts.name}=PATH",
        )
    if build.settings.expect == "published":
        expected = Expected(facts.size, facts.md5, sha256 or facts.sha256)
    else:
        expected = Expected(sha256=sha256)
    path = local_source(source)
    if path is not None and path.is_dir():
        return _use_folder(build, facts, path, sha256), 0
    if path is not None:
        return _use_in_place(build, facts, path, expected), 0
    wanted = Wanted(facts.name, source, facts.kind, expected.size)
    folder = f"archives/{build.facts.name}"
    if build.settings.expect != "published":
        # The published archive keeps its place; a sample from anywhere must not be in its way.
        folder += f"/{sha256[:12] or digest_of(wanted.shown)[:12]}"
    return _download(build, wanted, f"{folder}/{facts.name}", expected, patience or Patience())


def _use_in_place(build: Build, facts: ArchiveFacts, path: Path, expected: Expected) -> Note:
    """Verify an archive where it lies; it is never copied and nothing is written beside it."""
    key = f"{build.work}/download/in-place/{digest_of(str(path))[:16]}.json"
    note = read_note(build.storage, key)
    if note is not None and is_valid(build.storage, note, str(path), expected):
        return note
    if not path.is_file():
        raise SourceNotFound(
            f"{path} is not a file", remedy=f"Pass --source {facts.name}=PATH_OR_URL"
        )
    ref = _looked_at(facts.name, str(path), path)
    return _verify(build, Note(ref, str(path), {}), path, expected, key)


def _use_folder(build: Build, facts: ArchiveFacts, path: Path, sha256: str) -> Note:
    """Use an unpacked archive where it lies; a demanded digest is that of its listing."""
    state = folder_state(path, facts.name)
    digests = {"listing_sha256": state.listing_sha256}
    Expected(sha256=sha256).check(str(path), state.size, {"sha256": state.listing_sha256})
    log.info(
        "download %s: %s is a folder of %s bytes, used in place",
        facts.name,
        path,
        f"{state.size:,}",
    )
    if build.settings.expect == "published":
        log.warning(
            "download %s: size and digest are published for the packed file only; of a folder, "
            "the numbers of images and classes are checked",
            facts.name,
        )
    return Note(
        ArchiveRef(facts.name, str(path), state.size, state.tag, FOLDER), str(path), digests
    )


def _looked_at(name: str, location: str, path: Path) -> ArchiveRef:
    """Describe an archive as it is now.

    Raises:
        BadArchive: It is of no kind that can be read in place.
    """
    with open_local(path) as file:
        kind = kind_of(file, name)
        log.info("download %s: %s is a %s of %s bytes", name, path, kind, f"{file.stat.size:,}")
        return ArchiveRef(name, location, file.stat.size, file.stat.tag, kind)


def _verify(build: Build, note: Note, path: Path, expected: Expected, key: str) -> Note:
    expected.check_size(str(path), note.archive.size)
    note = replace(note, digests=hash_file(path, *expected.algorithms))
    if not note.archive.is_unchanged(build.storage):
        raise ArchiveChanged(
            f"{path} changed while it was verified", remedy="Run again when it is at rest"
        )
    expected.check(str(path), note.archive.size, note.digests)
    write_note(build.storage, key, note)
    return note


def _download(
    build: Build, wanted: Wanted, key: str, expected: Expected, patience: Patience
) -> tuple[Note, int]:
    storage = build.storage
    note_key = f"{key}.receipt.json"
    with _only_downloader(build, wanted.name) as (lease, heartbeat):
        note = read_note(storage, note_key)
        if note is not None and is_valid(storage, note, wanted.shown, expected):
            return note, 0
        stat, path = storage.stat(key), storage.local_path(key)
        if path is None:
            raise ConfigError("downloads need a data folder on this machine")
        staged = path.with_name(path.name + ".part")
        if stat is not None:
            if note is not None and note.source == wanted.shown and not expected.is_proof:
                expected = Expected(sha256=note.digests["sha256"])
            note = Note(_looked_at(wanted.name, key, path), wanted.shown, {})
            note = _adopt(build, note, path, expected, note_key)
            remove_leftovers(staged)
            return note, 0
        with PartFile(staged, heartbeat.check) as part:
            digests, fetched = _fetch_verified(wanted, part, expected, patience)
            note = Note(_looked_at(wanted.name, key, staged), wanted.shown, digests)
            # The note comes first, since it vouches for nothing until a file of that size and
            # time bears the name: so a crash never leaves an archive that nothing vouches for.
            lease.check()
            write_note(storage, note_key, note)
            storage.publish(key, staged)
            part.forget()
        return note, fetched


def _adopt(build: Build, note: Note, path: Path, expected: Expected, key: str) -> Note:
    """Take over a file that bears the archive's name, if a digest can prove that it is it.

    Raises:
        ConfigError: Nothing can prove it, and it is not ours to replace.
        ChecksumMismatch: It is another file.
    """
    if not expected.is_proof:
        raise ConfigError(
            f"{path} is there already, and nothing proves that it came from {note.source}",
            remedy=f"Use it with --source {note.archive.name}={path}, or remove it to fetch anew",
        )
    return _verify(build, note, path, expected, key)


def _fetch_verified(
    wanted: Wanted, part: PartFile, expected: Expected, patience: Patience
) -> tuple[dict[str, str], int]:
    """Complete the partial file and check it; one clean retry is given to wrong content."""
    fetched = 0
    for last_try in (False, True):
        with metered(f"download {wanted.name}", wanted.size or 0, "B") as meter:
            fetch(wanted, part, meter, patience)
            fetched += meter.bytes
        digests = part.digests()
        try:
            expected.check(wanted.shown, part.size, digests)
        except ChecksumMismatch as error:
            aside = part.set_aside()
            if last_try:
                error.remedy = f"What arrived is kept as {aside}. {error.remedy}"
                raise
            log.warning("%s; what arrived is kept as %s, fetching once more", error, aside)
        else:
            break
    return digests, fetched


@contextmanager
def _only_downloader(build: Build, name: str) -> Iterator[tuple[leases.Lease, leases.Heartbeat]]:
    """Hold the archive's lease; runs of other versions wait for the one that downloads.

    Raises:
        SourceBusy: It is still not done after ten minutes.
    """
    key = f"{build.work}/locks/download-{name}"
    try:
        lease = leases.acquire_patiently(
            build.storage,
            key,
            build.owner,
            wait_s=_WAIT_FOR_OTHER_S,
            pause_s=_POLL_S,
            notice=f"another run is downloading {name}; waiting for it",
        )
    except AlreadyRunning as error:
        raise SourceBusy(
            f"another run is still downloading {name}",
            found=error.found,
            remedy="It will be used as soon as it is complete: run again later",
        ) from error
    try:
        with leases.kept_alive(build.storage, lease) as heartbeat:
            yield lease, heartbeat
    finally:
        lease.release()
