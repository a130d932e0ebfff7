"""Archives in a bucket, where the data folder is one, too: verified where they lie, never copied.

Their SHA-256 is the one that a file of the same content has. What vouches for it is asked first
(``vouched``); else the object is read through once, and the note keeps what was found for as long
as the object keeps its ETag.
"""

from __future__ import annotations

import logging

from imagenet_etl.archives.kinds import GZIP, TAR_GZ, kind_of
from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.build import Build
from imagenet_etl.download.asked import Asked
from imagenet_etl.download.hashing import hashed
from imagenet_etl.download.notes import Expected, Note, is_valid, read_note, write_note
from imagenet_etl.errors import BadArchive, CloudNotFound, ConfigError
from imagenet_etl.progress import metered
from imagenet_etl.storage import ReadAt, Storage

log = logging.getLogger(__name__)

_ODD = {"", ".", ".."}


def verified_in_bucket(build: Build, asked: Asked) -> Note:
    """Verify an archive where it lies in a bucket.

    Raises:
        CloudNotFound, AccessDenied, CloudError, CloudUnavailable: It cannot be read.
        ConfigError: It is a folder, or its key is none that can be used in place.
        ChecksumMismatch: It is another one.
        BadArchive: It is of no kind that can be read in place.
        ArchiveChanged: Somebody replaced it meanwhile.
    """
    note = noted_in_bucket(build, asked)
    if note is not None:
        return note
    ref, digests = verified_object(build, asked.facts.name, asked.in_bucket, asked.expected)
    note = Note(ref, asked.shown, digests, fetched=False)
    write_note(build.storage, asked.note_key, note)
    return note


def noted_in_bucket(build: Build, asked: Asked) -> Note | None:
    """Return the note of an archive that was verified in place; None for nothing valid."""
    note = read_note(build.storage, asked.note_key)
    if note is not None and is_valid(build.storage, note, asked.shown, asked.expected):
        return note
    return None


def verified_object(
    build: Build, name: str, uri: str, expected: Expected
) -> tuple[ArchiveRef, dict[str, str]]:
    """Describe an object as an archive that is used in place, and return its digests.

    Args:
        build: The run.
        name: The archive's name.
        uri: The object's.
        expected: What it must be.

    Raises:
        As ``verified_in_bucket``.
    """
    place, key = _place_of(build.storage, uri)
    try:
        with place.open(key) as file:
            expected.check_size(uri, file.stat.size)
            kind = readable_kind(file, name, uri)
            log.info("download %s: %s is a %s of %s bytes, used in place",
                     name, uri, kind, f"{file.stat.size:,}")  # fmt: skip
            digests = _digests(build, uri, file, expected)
            expected.check(uri, file.stat.size, digests)
            return ArchiveRef(name, uri, file.stat.size, file.stat.tag, kind), digests
    except FileNotFoundError:
        raise _missing(build.storage, name, uri) from None


def _digests(build: Build, uri: str, file: ReadAt, expected: Expected) -> dict[str, str]:
    from imagenet_etl.download.vouched import vouched_digests  # noqa: PLC0415 - slow to import

    vouched = vouched_digests(build.client("s3"), uri, file.stat)
    if expected.sha256 and vouched.get("sha256", expected.sha256) != expected.sha256:
        return {"sha256": vouched["sha256"]}  # it is wrong already
    if set(expected.algorithms) <= vouched.keys():
        log.info("%s: its digest is proven without reading it", uri)
        return {algorithm: vouched[algorithm] for algorithm in expected.algorithms}
    with metered(f"check {uri}", file.stat.size, "B") as meter:
        return hashed(file, uri, expected.algorithms, lambda count: meter.add(count, count))


def readable_kind(file: ReadAt, name: str, uri: str) -> str:
    """Return what an archive in a bucket is.

    Raises:
        BadArchive: It is of no kind that can be read in place.
    """
    kind = kind_of(file, uri, may_unpack=name.endswith(f".{TAR_GZ}"))
    if kind == GZIP:
        raise too_large_to_unpack(name, uri, file.stat.size)
    return kind


def too_large_to_unpack(name: str, uri: str, size: int) -> BadArchive:
    """Return the error for a gzipped tar that no memory holds and no disk is there for."""
    tar = uri.removesuffix(".gz").removesuffix(".tar") + ".tar"
    return BadArchive(
        f"{uri} is gzipped and too large to be unpacked in memory; with a data folder in a bucket "
        "there is no disk to unpack it to",
        expected="a plain tar, which is read in place",
        found=f"{size:,} bytes of gzip",
        remedy=f"Unpack it once, aws s3 cp {uri} - | gunzip | aws s3 cp - {tar} "
        f"--expected-size BYTES, and give --source {name}={tar} with --expect any; or unpack it by "
        "a run with a data folder on a disk, and back up its archives",
    )


def _place_of(storage: Storage, uri: str) -> tuple[Storage, str]:
    """Return the object's folder and its name there.

    Raises:
        ConfigError: It is a folder itself, or other names would lead to it as well.
    """
    _, *parts = uri.removeprefix("s3://").split("/")
    if parts and parts[-1] == "":
        raise _is_folder(uri)
    if not parts or _ODD & set(parts):
        raise ConfigError(
            f"{uri} cannot be used in place",
            expected="a key without empty parts and dots between its slashes",
            remedy="Copy the object to another key",
        )
    place, _, key = uri.rpartition("/")
    return storage.at(place), key


def _missing(storage: Storage, name: str, uri: str) -> CloudNotFound | ConfigError:
    if next(iter(storage.at(uri).list(".")), None) is not None:
        return _is_folder(uri)
    return CloudNotFound(
        f"{uri} does not exist", remedy=f"Pass --source {name}=URL; is bucket and key right?"
    )


def _is_folder(uri: str) -> ConfigError:
    return ConfigError(
        f"{uri} is a folder in a bucket",
        expected="an archive: a tar or a zip",
        remedy="Unpacked images are not read from a bucket, a request each: give the archives they "
        "came from, or pack them into a tar",
    )
