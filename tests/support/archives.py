"""Archives for tests: real ones in a dataset's layout, and hostile ones byte by byte."""

from __future__ import annotations

import io
import random
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tests.support.builds import tiny_build

from imagenet_etl.archives.kinds import FOLDER, kind_of
from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.location import ArchiveRef, open_archive
from imagenet_etl.archives.member import Member
from imagenet_etl.build import Build
from imagenet_etl.datasets import TINY_IMAGENET, DatasetFacts, Layout
from imagenet_etl.index import member_of
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples import SampleSize
from imagenet_etl.samples.tiny_imagenet import build_tiny_imagenet
from imagenet_etl.storage import LocalStorage, open_local

ROOT = "tiny-imagenet-200"
ARCHIVE = f"{ROOT}.zip"
STAGES = TINY_IMAGENET.stages
HTML = b"<!DOCTYPE html><html><title>Sign in</title></html>\n"
SMALL = SampleSize(classes=3, train=4, val=2, test=2)
ANYTHING = replace(
    TINY_IMAGENET,
    layout=Layout(
        images={"train": re.compile(r"(?P<file>.*)")},
        class_tars=re.compile(r"[^/]*\.tar"),
        max_members=100_000,
        max_member_bytes=TINY_IMAGENET.layout.max_member_bytes,
    ),
)
"""A dataset to which every file belongs."""


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Return an image of smooth noise that fills its mode's range."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = random.Random(seed).randbytes(8 * 8 * bands)
    small = Image.frombytes(mode, (8, 8), noise)
    return small.resize((width, height), Image.Resampling.BILINEAR)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Return an image as a file of some format."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tiny_members(folder: Path, size: SampleSize = SMALL) -> dict[str, bytes]:
    """Return the files of a Tiny ImageNet sample by their names in the archive."""
    path = folder / "whole.zip"
    build_tiny_imagenet(path, None, size)
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        members = {name: archive.read(name) for name in names}
    path.unlink()
    return members


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write an honest zip."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2015, 2, 10, 0, 0, 0)), data, method)
    return path


def tiny_zip(
    folder: Path, changes: dict[str, bytes | None] | None = None, size: SampleSize = SMALL
) -> Path:
    """Write a Tiny ImageNet sample with members changed, added, or (None) taken out.

    Args:
        folder: Where to write it.
        changes: Content by name below ``tiny-imagenet-200/``.
        size: The sample's size.
    """
    members: dict[str, bytes | None] = dict(tiny_members(folder, size))
    for name, data in (changes or {}).items():
        members[f"{ROOT}/{name}"] = data
    kept = {name: data for name, data in members.items() if data is not None}
    return write_zip(folder / ARCHIVE, kept)


def build_of(folder: Path, archive: Path, **settings: Any) -> Build:
    """Return a build of a Tiny ImageNet archive with its data folder below ``folder``."""
    values = {"expect": "any", "workers": 1, "sources": {ARCHIVE: str(archive)}} | settings
    return tiny_build(folder / "data", **values)


def run_stages(build: Build, last: str = "verify") -> dict[str, Any]:
    """Run the stages up to ``last`` as one locked run; return their receipts."""
    receipts = {}
    with build.locked() as build:
        for name in STAGES[: STAGES.index(last) + 1]:
            receipts[name] = run_stage(build, name).receipt
    return receipts


def ref_of(path: Path) -> ArchiveRef:
    """Return a file or folder as the download stage would note it."""
    if path.is_dir():
        return ArchiveRef(path.name, str(path), 0, "", FOLDER)
    with open_local(path) as file:
        kind = kind_of(file, path.name)
        return ArchiveRef(path.name, str(path), file.stat.size, file.stat.tag, kind)


def listed(path: Path, facts: DatasetFacts = ANYTHING) -> list[Member]:
    """Return an archive's images as the untar stage lists them."""
    ref = ref_of(path)
    with open_archive(LocalStorage(path.parent), ref) as archive:
        tables = list(Sorter(facts, ref.name).images(archive))
        return [member_of(row) for table in tables for row in table.to_pylist()]


def contents(path: Path, facts: DatasetFacts = ANYTHING) -> dict[str, bytes]:
    """Return what an archive's images hold, read as the packer reads them."""
    members = listed(path, facts)
    with open_archive(LocalStorage(path.parent), ref_of(path)) as archive:
        return {member.name: archive.read(member) for member in members}


@dataclass(frozen=True)
class Entry:
    """One member of a hand-made zip; what is None or -1 is told truthfully.

    Attributes:
        name: Raw name.
        data: Content.
        method: 0 stored, 8 deflated, others stored under that number.
        flags: General purpose flags.
        mode: Unix mode.
        size: Declared size.
        crc32: Declared CRC-32.
        local_name: The name in the local header.
        zip64_offset: An offset for a zip64 field in the directory.
    """

    name: bytes
    data: bytes = b"data"
    method: int = 0
    flags: int = 0
    mode: int = stat.S_IFREG | 0o644
    size: int = -1
    crc32: int = -1
    local_name: bytes | None = None
    zip64_offset: int = -1


def raw_zip(entries: Iterable[Entry], comment: bytes = b"", count: int = -1) -> bytes:
    """Return a zip with exactly these headers, lies and all."""
    body, directory, entries = bytearray(), bytearray(), list(entries)
    for entry in entries:
        stored = entry.data
        if entry.method == 8:
            packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
            stored = packer.compress(entry.data) + packer.flush()
        size = len(entry.data) if entry.size < 0 else entry.size
        crc = zlib.crc32(entry.data) if entry.crc32 < 0 else entry.crc32
        shared = struct.pack("<4H3L", entry.flags, entry.method, 0, 0x4821, crc, len(stored), size)
        local_name = entry.name if entry.local_name is None else entry.local_name
        extra = b""
        offset = len(body)
        if entry.zip64_offset >= 0:
            extra, offset = struct.pack("<HHQ", 1, 8, entry.zip64_offset), 0xFFFFFFFF
        directory += b"PK\1\2" + struct.pack("<2H", 3 << 8 | 20, 20) + shared
        directory += struct.pack("<5H", len(entry.name), len(extra), 0, 0, 0)
        directory += struct.pack("<2L", entry.mode << 16, offset) + entry.name + extra
        body += b"PK\3\4" + struct.pack("<H", 20) + shared
        body += struct.pack("<2H", len(local_name), 0) + local_name + stored
    number = len(entries) if count < 0 else count
    end = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, number & 0xFFFF, number & 0xFFFF, len(directory), len(body),
        len(comment),
    )  # fmt: skip
    return bytes(body + directory + end + comment)
