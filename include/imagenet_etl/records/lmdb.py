"""LMDB as DIGITS and Caffe make it: ``<split>_db/data.mdb`` of ``Datum`` messages.

LMDB has one writer and orders its pages as it likes, so workers write parts (length, length, key,
value), and ``write_database`` fills the database from them in the order of its keys. Source: NVIDIA
DIGITS ``tools/create_db.py`` (key ``%08d_%d`` of position and label, mean files), LMDB's
``lmdb.h`` (append mode, map size).
"""

from __future__ import annotations

import errno
import io
import mmap
import shutil
import struct
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from imagenet_etl.errors import EtlError, NotEnoughSpace, NotWritable, RecordError
from imagenet_etl.records.base import Content, Placed, Record, Written
from imagenet_etl.records.caffe import Datum, blob_proto, datum_parts, parse_datum
from imagenet_etl.records.shard import ShardWriter

DATABASE, MEAN = "data.mdb", "mean.binaryproto"
LOCK = "lock.mdb"
"""LMDB's readers leave this file beside a database unless they are told not to."""

MAX_MEAN_PIXELS = 1 << 20
"""No mean is taken of larger images: the sum takes 24 bytes a pixel in every worker."""

_LENGTHS = struct.Struct("<II")
_MAX_KEY_BYTES = 511
_RESERVE = 16 << 20
_COMMIT_BYTES = 32 << 20
_READ_BYTES = 4 << 20


def key_of(position: int, label: int) -> bytes:
    """Return the key of a record: its position in the split and its label."""
    return b"%08d_%d" % (position, label)


class LmdbPartWriter(ShardWriter):
    """Writes a segment of a database: messages, list lines, and the sum of its images' pixels.

    The sum is left empty unless all images come with pixels and have one size, at most
    ``MAX_MEAN_PIXELS``. Of no images at all it is 0.
    """

    suffixes = (".datums", ".txt", ".sum.npy")

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self._sum: np.ndarray | None = np.zeros((), np.uint64)

    def write(self, record: Record) -> Placed:
        """Append a message and its line of the list."""
        datums, listing, _ = self._files
        key = key_of(record.position, record.label)
        datum = Datum(record.height, record.width, record.label, record.data)
        value = datum_parts(datum)
        datums.write(_LENGTHS.pack(len(key), sum(map(len, value))) + key, *value)
        listing.write(f"{record.path} {record.label}\n".encode())
        self._add(record.pixels)
        return Placed(DATABASE, record.position)

    def _add(self, pixels: np.ndarray | None) -> None:
        if self._sum is None:
            return
        if pixels is None or pixels.shape[0] * pixels.shape[1] > MAX_MEAN_PIXELS:
            self._sum = None
        elif not self._sum.ndim:
            self._sum = pixels.astype(np.uint64)
        elif pixels.shape == self._sum.shape:
            self._sum += pixels
        else:
            self._sum = None

    def commit(self) -> list[Written]:
        """Finish the files and return them."""
        if self._sum is not None:
            out = io.BytesIO()
            np.save(out, self._sum)
            self._files[2].write(out.getvalue())
        return super().commit()


def read_part(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and message of each record of a part.

    Raises:
        RecordError: The part is cut off.
    """
    with path.open("rb", buffering=_READ_BYTES) as file:
        left = path.stat().st_size
        while lengths := file.read(_LENGTHS.size):
            sizes = _LENGTHS.unpack(lengths) if len(lengths) == _LENGTHS.size else (0, 0)
            left -= _LENGTHS.size + sum(sizes)
            if not 0 < sizes[0] <= _MAX_KEY_BYTES or left < 0:
                raise RecordError(f"{path} is cut off or damaged")
            yield file.read(sizes[0]), file.read(sizes[1])


def map_bytes(parts: Sequence[Path], records: int) -> int:
    """Return a map size that holds these parts for sure: each message takes whole pages."""
    return sum(part.stat().st_size for part in parts) + 3 * mmap.PAGESIZE * records + _RESERVE


def write_database(parts: Sequence[Path], folder: Path, map_size: int) -> Path:
    """Fill ``folder/data.mdb`` from parts whose keys ascend; return its path, synced.

    Args:
        parts: They are left alone.
        folder: Must not exist; after an error it does not exist either.
        map_size: Bytes that the database may grow to.

    Raises:
        NotEnoughSpace: The disk or the map is full.
        NotWritable: The disk refuses in another way.
        RecordError: A part is cut off or its keys do not ascend.
    """
    folder.mkdir(parents=True)
    try:
        # The mutex file of readers and writers is of no use to a database that is still nameless.
        # Without meminit, LMDB would fill its pages up with what this process had in its memory.
        with lmdb.open(
            str(folder), map_size=map_size, lock=False, sync=False, metasync=False, meminit=True
        ) as database:
            _fill(database, chain.from_iterable(map(read_part, parts)))
            database.sync(True)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, lmdb.Error):
            raise _typed(error, folder / DATABASE, map_size) from error
        raise
    return folder / DATABASE


def _typed(error: lmdb.Error, path: Path, map_size: int) -> EtlError:
    what = f"{path} could not be written"
    # A disk that is full in the middle of a write shows as an input/output error.
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError) or error.code in full:
        return NotEnoughSpace(
            what,
            expected=f"room for up to {map_size:,} bytes",
            found=error,
            remedy="Free some space, check the disk's health, and run again; "
            "finished segments are kept",
        )
    return NotWritable(what, found=error, remedy="Check the folder's owner and mount")


def _fill(database: lmdb.Environment, records: Iterable[tuple[bytes, bytes]]) -> None:
    pending = 0
    transaction = database.begin(write=True)
    try:
        for key, value in records:
            if not transaction.put(key, value, append=True, overwrite=False):
                raise RecordError(f"key {key!r} is out of order")
            pending += len(value)
            if pending > _COMMIT_BYTES:
                transaction.commit()
                transaction, pending = database.begin(write=True), 0
        transaction.commit()
    except BaseException:
        transaction.abort()
        raise


def read_database(path: Path) -> Generator[tuple[bytes, bytes], None, None]:
    """Yield key and message of every record in the order of the keys.

    The database is closed at the end, or when the generator is.

    Raises:
        RecordError: It is no database.
    """
    try:
        with (
            lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=True) as opened,
            opened.begin() as transaction,
        ):
            yield from transaction.cursor()
    except lmdb.Error as error:
        raise RecordError(f"{path} cannot be read as LMDB", found=error) from error


def read_record(message: bytes | memoryview) -> Content:
    """Return what one message holds.

    Raises:
        RecordError: It is no ``Datum`` of an encoded image.
    """
    datum = parse_datum(message)
    return Content(float(datum.label), datum.data)


def mean_image(sums: Sequence[Path], records: int) -> np.ndarray | None:
    """Return the mean of all images as (H, W, 3) floats, None when they differ in size.

    Args:
        sums: What ``LmdbPartWriter`` summed up, a file a segment.
        records: How many images that are in all.

    Raises:
        RecordError: A sum is damaged.
    """
    total = np.zeros((), np.uint64)
    for path in sums:
        if not path.stat().st_size:
            return None
        try:
            part = np.load(path)
        except (ValueError, EOFError) as error:
            raise RecordError(f"{path} is cut off or damaged", found=error) from error
        if part.ndim and total.ndim and part.shape != total.shape:
            return None
        total = total + part
    return total / records if total.ndim else None


def mean_files(mean: np.ndarray) -> dict[str, bytes]:
    """Return ``MEAN`` for Caffe and ``mean.jpg`` for people."""
    out = io.BytesIO()
    Image.fromarray(mean.round().astype(np.uint8), "RGB").save(out, "JPEG", quality=90)
    return {MEAN: blob_proto(mean), "mean.jpg": out.getvalue()}
