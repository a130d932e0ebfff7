"""Tars for tests: honest ones, hostile ones header by header, and large ones in no time."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tests.support.builds import no_aws

from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.location import ArchiveRef, open_archive
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import ILSVRC2012
from imagenet_etl.index import INDEX
from imagenet_etl.leases import Owner
from imagenet_etl.storage import LocalStorage
from imagenet_etl.tables import write_batches
from imagenet_etl.untar import regrouped

ARCHIVE = "ILSVRC2012_img_train.tar"
BLOCK = 512
END = bytes(2 * BLOCK)
USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)


@dataclass(frozen=True)
class Entry:
    """One member of a hand-made tar; what is None is told truthfully.

    Attributes:
        name: Raw name, at most 100 bytes.
        data: Content, padded to whole blocks.
        kind: Type flag.
        size: Raw size field.
        checksum: Raw checksum field.
        magic: Magic and version.
        link: Name of a link's target.
        prefix: ustar's prefix of the name.
    """

    name: bytes
    data: bytes = b"data"
    kind: bytes = b"0"
    size: bytes | None = None
    checksum: bytes | None = None
    magic: bytes = USTAR
    link: bytes = b""
    prefix: bytes = b""

    def header(self) -> bytes:
        """Return the header block."""
        size = b"%011o\0" % len(self.data) if self.size is None else self.size
        head = self.name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size
        head += b"%011o\0" % 1_340_000_000 + b" " * 8 + self.kind + self.link.ljust(100, b"\0")
        head += self.magic + bytes(80) + self.prefix
        head = head.ljust(BLOCK, b"\0")
        checksum = b"%06o\0 " % sum(head) if self.checksum is None else self.checksum
        return head[:148] + checksum + head[156:]

    def __bytes__(self) -> bytes:
        return self.header() + self.data + bytes(-len(self.data) % BLOCK)


def raw_tar(entries: Iterable[Entry], end: bytes = END) -> bytes:
    """Return a tar with exactly these headers, lies and all."""
    return b"".join(map(bytes, entries)) + end


def long_name(name: bytes, kind: bytes = b"L") -> Entry:
    """Return GNU's header for a name that does not fit."""
    return Entry(b"././@LongLink", name + b"\0", kind, magic=GNU)


def pax(records: dict[str, str | bytes], kind: bytes = b"x") -> Entry:
    """Return a PAX header with these records."""
    data = b""
    for key, value in records.items():
        rest = b" %b=%b\n" % (key.encode(), value if isinstance(value, bytes) else value.encode())
        size = len(rest) + 1
        while len(b"%d" % size) + len(rest) != size:
            size = len(b"%d" % size) + len(rest)
        data += b"%d" % size + rest
    return Entry(b"PaxHeaders/x", data, kind)


def class_tar(wnid: str, members: dict[str, bytes]) -> Entry:
    """Return a tar of images as a member of the outer tar."""
    inner = raw_tar(Entry(name.encode(), data) for name, data in members.items())
    return Entry(f"{wnid}.tar".encode(), inner)


def train_tar(path: Path, classes: dict[str, dict[str, bytes]]) -> Path:
    """Write a tar of class tars."""
    path.write_bytes(raw_tar(class_tar(wnid, members) for wnid, members in classes.items()))
    return path


def train_build(folder: Path, archive: Path, **settings: Any) -> Build:
    """Return a build of an ILSVRC2012 training archive with its data folder below ``folder``."""
    values = {"expect": "any", "workers": 1, "sources": {ARCHIVE: str(archive)}} | settings
    chosen = Settings(dataset="ilsvrc2012", data_dir=str(folder / "data"), **values)
    return new_build(chosen, Owner("run-1"), no_aws)


def write_large(path: Path, members: int, per_class: int = 1300) -> Path:
    """Write a tar of class tars with many members of 0 to 100 bytes, a class at a time."""
    with path.open("wb") as file:
        for number, first in enumerate(range(0, members, per_class)):
            inner = b"".join(_small_members(number, min(per_class, members - first))) + END
            file.write(Entry(b"n%08d.tar" % number, b"", size=b"%011o\0" % len(inner)).header())
            file.write(inner)
        file.write(END)
    return path


def _small_members(number: int, count: int) -> Iterator[bytes]:
    """Yield headers with data; made of one header, since a million by hand take their time."""
    blocks = np.zeros((count, BLOCK), np.uint8)
    blocks[:] = np.frombuffer(Entry(b"", b"").header(), np.uint8)
    names = [b"n%08d_%d.JPEG" % (number, k) for k in range(count)]
    blocks[:, :32] = np.array(names, "S32").view(np.uint8).reshape(count, 32)
    sizes = np.arange(count) % 101
    digits = np.array([b"%011o" % size for size in sizes], "S11").view(np.uint8)
    blocks[:, 124:135] = digits.reshape(count, 11)
    blocks[:, 148:156] = ord(" ")
    sums = np.array([b"%06o" % total for total in blocks.sum(axis=1, dtype=np.int64)], "S6")
    blocks[:, 148:154] = sums.view(np.uint8).reshape(count, 6)
    blocks[:, 154] = 0
    for block, size in zip(blocks, sizes.tolist(), strict=True):
        yield block.tobytes()
        yield (b"x" * size).ljust(BLOCK if size else 0, b"\0")


def time_index(archive: Path, images: Path) -> tuple[int, float]:
    """Make the index of a training archive; return its rows and the seconds that it took."""
    state = archive.stat()
    ref = ArchiveRef(ARCHIVE, str(archive), state.st_size, str(state.st_mtime_ns), "tar")
    start = time.perf_counter()
    with open_archive(LocalStorage(archive.parent), ref) as opened:
        rows = write_batches(images, INDEX, regrouped(_images(opened)))
    return rows, time.perf_counter() - start


def _images(opened: Any) -> Iterator[pa.Table]:
    yield from Sorter(ILSVRC2012, ARCHIVE).images(opened)
    opened.check()


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
