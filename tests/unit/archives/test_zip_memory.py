"""A zip of any number of entries is listed as a stream: memory follows names, not entries."""

import struct
import subprocess
import sys

LISTING = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.support.archives import ref_of
from tests.support.tars import peak_mb
from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.location import open_archive
from imagenet_etl.datasets import TINY_IMAGENET
from imagenet_etl.index import INDEX
from imagenet_etl.storage import LocalStorage
from imagenet_etl.tables import write_batches
from imagenet_etl.untar import regrouped
path = Path(sys.argv[1])
facts = replace(TINY_IMAGENET, layout=replace(TINY_IMAGENET.layout, max_members=2_000_000))
with open_archive(LocalStorage(path.parent), ref_of(path)) as opened:
    images = regrouped(Sorter(facts, path.name).images(opened))
    rows = write_batches(path.with_suffix(".parquet"), INDEX, images)
print(rows, peak_mb())
"""
LOCAL, CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
END64, LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
END = struct.Struct("<4s4H2LH")


def write_entries(path, count):
    """Write a zip64 of empty images, made by hand since ``zipfile`` takes its time."""
    names = [b"train/n%08d/images/n%08d_%d.JPEG" % (k // 500, k // 500, k) for k in range(count)]
    at, central = 0, bytearray()
    with path.open("wb") as file:
        for name in names:
            file.write(LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name)
            central += CENTRAL.pack(
                b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, at
            )
            central += name
            at += LOCAL.size + len(name)
        size = len(central)
        file.write(central)
        file.write(END64.pack(b"PK\6\6", END64.size - 12, 45, 45, 0, 0, count, count, size, at))
        file.write(LOCATOR.pack(b"PK\6\7", 0, at + size, 1))
        file.write(END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    return path


def peak_bytes(path, count):
    """List such a zip as ``untar`` does; return the most memory that its process had."""
    command = [sys.executable, "-c", LISTING, write_entries(path, count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows, peak = done.stdout.split()
    assert int(rows) == count
    return float(peak) * (1 << 20)


def test_each_entry_adds_so_little_that_1_3_million_fit_into_a_gibibyte(tmp_path):
    few, many = 40_000, 140_000
    less, more = peak_bytes(tmp_path / "few.zip", few), peak_bytes(tmp_path / "many.zip", many)
    growth = (more - less) / (many - few)
    assert growth < 700
    assert less + growth * (1_300_000 - few) < 1 << 30
