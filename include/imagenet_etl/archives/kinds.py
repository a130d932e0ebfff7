"""What an archive is, found by looking at it rather than by its name."""

from __future__ import annotations

from imagenet_etl.archives.tar_gz import MAX_PACKED_BYTES
from imagenet_etl.archives.tar_header import BLOCK, ZEROS, check_header, compressed, compression_of
from imagenet_etl.archives.zip import is_zip
from imagenet_etl.errors import BadArchive
from imagenet_etl.storage import ReadAt

ZIP, TAR, TAR_GZ, FOLDER = "zip", "tar", "tar.gz", "folder"
GZIP = "gzip"
"""A gzipped tar that is too large for memory: it is never read itself, but unpacked to a tar."""
_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")
_HTML = (b"<!doctype html", b"<html")


def kind_of(file: ReadAt, what: str, *, may_unpack: bool = False) -> str:
    """Return ``zip``, ``tar``, or ``tar.gz`` for one that is small enough for memory.

    Args:
        file: The open archive.
        what: Its name, for errors.
        may_unpack: Whether a larger gzip file is accepted, as ``gzip``.

    Raises:
        BadArchive: It is none of them.
    """
    head = file.read_at(0, BLOCK)
    if _is_tar(head):
        return TAR
    if head.startswith(_ZIP_MAGIC) or is_zip(file):  # a zip may have foreign bytes in front
        return ZIP
    kind = compression_of(head)
    if kind == GZIP and file.stat.size <= MAX_PACKED_BYTES:
        return TAR_GZ
    if kind == GZIP and may_unpack:
        return GZIP
    if kind:
        raise compressed(what, kind)
    if head.lstrip().lower().startswith(_HTML):
        raise BadArchive(
            f"{what} is no archive that can be read in place",
            expected="a tar, a zip or a folder",
            found="an HTML page, probably the site's login page",
            remedy="Log in there first. Download it again",
        )
    raise BadArchive(
        f"{what} is no archive that can be read in place",
        expected="a tar, a zip or a folder",
        found=f"{head[:16]!r} at its start" if head else "an empty file",
        remedy="Is it the right file? Download it again",
    )


def _is_tar(head: bytes) -> bool:
    if head == ZEROS:
        return True  # the end blocks alone: a tar without members
    if len(head) < BLOCK:
        return False
    try:
        check_header(head, "", 0)
    except BadArchive:
        return head[257:262] == b"ustar"  # a damaged one; the listing says where
    return True
