"""The small datasets that the clients open, and what ``records.parquet`` says of them."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.data import NAME, add_member, class_tar, sample_images
from benchmarks.measure import Step, run
from benchmarks.ours import prepare, version_of
from benchmarks.places import ROOT

CLASSES, IMAGES = 6, 7
FORMATS = ("recordio", "webdataset", "lmdb:squash:224x224:q90:upscale", "imagefolder")
_OTHERS = ("ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")
# Its records have to be split: it holds RecordIO's magic on 4-byte boundaries.
_MAGIC_IMAGE = ROOT / "tests/golden/recordio/tree/n00000022/n00000022_3.JPEG"


@dataclass(frozen=True)
class Prepared:
    """A version and what it should hold.

    Attributes:
        archive: The tar it was made from.
        version: The version's folder.
        expected: ``records.parquet`` as JSON, for clients without pyarrow.
    """

    archive: Path
    version: Path
    expected: Path


def prepared(folder: Path, options: Sequence[str], *, odd: bool) -> Prepared:
    """Build an archive and prepare it by the command line.

    Args:
        folder: An empty folder.
        options: What is asked of ``prepare``.
        odd: Whether a PNG, a CMYK and a grey image and one with RecordIO's magic are among them.
    """
    folder.mkdir(parents=True)
    archive = folder / NAME
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as outer:
        for wnid, images in _classes(odd=odd):
            add_member(outer, f"{wnid}.tar", class_tar(wnid, images))
    return _prepared(archive, folder, options)


def prepared_whole(folder: Path, options: Sequence[str]) -> Prepared:
    """Build all archives of the set, with validation images and devkit, and prepare them.

    Args:
        folder: An empty folder.
        options: What is asked of ``prepare``.
    """
    folder.mkdir(parents=True)
    archives = folder / "archives"
    command: list[str | Path] = [
        sys.executable, "-m", "imagenet_etl", "sample", "ilsvrc2012", "--out", archives,
        "--classes", str(CLASSES), "--train", str(IMAGES),
    ]  # fmt: skip
    run([Step(command, folder, {"PYTHONPATH": str(ROOT / "include")})])
    sources = [word for name in _OTHERS for word in ("--source", f"{name}={archives / name}")]
    return _prepared(archives / NAME, folder, [*sources, *options])


def _prepared(archive: Path, folder: Path, options: Sequence[str]) -> Prepared:
    run(prepare(*options, shards=3)(archive, folder))
    version = version_of(folder)
    expected = folder / "expected.json"
    _describe(version / "records.parquet", expected)
    return Prepared(archive, version, expected)


def _classes(*, odd: bool) -> Iterator[tuple[str, list[bytes]]]:
    pool = cycle(data for _, data in sample_images())
    for number in range(CLASSES):
        images = [next(pool) for _ in range(IMAGES)]
        if odd:
            images[number] = _odd(images[number])[number % 4]
        yield f"n{number + 1:08d}", images


def _odd(image: bytes) -> list[bytes]:
    from PIL import Image  # noqa: PLC0415 (heavy)

    opened = Image.open(io.BytesIO(image)).convert("RGB")
    outs = [io.BytesIO() for _ in range(3)]
    opened.save(outs[0], "PNG")
    opened.convert("CMYK").save(outs[1], "JPEG")
    opened.convert("L").save(outs[2], "JPEG")
    return [_MAGIC_IMAGE.read_bytes(), *(out.getvalue() for out in outs)]


def _describe(table: Path, expected: Path) -> None:
    # In a process of its own: this one stays small, for children inherit its peak memory.
    code = (
        "import json, sys, pyarrow.parquet as pq;"
        "rows = pq.read_table(sys.argv[1]).to_pylist();"
        "json.dump(rows, open(sys.argv[2], 'w'))"
    )
    subprocess.run([sys.executable, "-c", code, table, expected], check=True)
