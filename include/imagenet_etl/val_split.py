"""Stage ``split_val``: draw validation images where the publisher gives none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.config import Settings
from imagenet_etl.errors import ConfigError
from imagenet_etl.index import VAL_IMAGES
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import row_groups, write_batches

SPLIT_SETTINGS = ("val_images_per_class", "seed")
"""The settings that split_val reads."""

VAL_FILE = "val_images.parquet"
_DRAWN = pa.schema([*VAL_IMAGES, ("code", pa.int32()), ("rank", pa.uint64())])


def why_not_split(settings: Settings) -> str:
    """Return why no validation image is drawn, nothing when some are."""
    return "" if settings.val_images_per_class else "val_images_per_class is 0"


def split_val(place: Place) -> Result:
    """Write ``val_images.parquet``: the same number of training images of every kept class.

    They are the first of their class in the order of ``name_hash``. So they are the same whatever
    other classes are kept and in whatever order the archive holds them, and an image that is added
    to a class, or removed, changes one of them at most.

    Raises:
        ConfigError: A class would have no image left for training.
    """
    settings, kept = place.build.settings, place.done["filter_classes"]
    wanted = settings.val_images_per_class
    if not wanted:
        return Result(counts={"val_images": 0}, outputs=())
    wnids = sorted(entry["wnid"] for entry in kept.facts["classes"])
    sizes = np.zeros(len(wnids), np.int64)
    drawn: list[pa.Table] = []
    for table in _candidates(place, wnids):
        sizes += np.bincount(table["code"].to_numpy(), minlength=len(wnids))
        drawn.append(first_of_classes(table, wanted))
    for code in np.flatnonzero(sizes <= wanted).tolist():
        raise ConfigError(
            f"class {wnids[code]} has {sizes[code]:,} images: {wanted:,} of them for validation "
            "leave none for training",
            remedy="Lower val_images_per_class, or leave small classes out, by name or by "
            "min_images_per_class",
        )
    val = first_of_classes(pa.concat_tables(drawn), wanted).select(VAL_IMAGES.names)
    val = val.sort_by([("wnid", "ascending"), ("file_name", "ascending")])
    path = place.scratch()
    write_batches(path, VAL_IMAGES, [val])
    return Result(
        counts={"val_images": val.num_rows, "val_images_per_class": wanted},
        outputs=(place.publish(VAL_FILE, path),),
    )


def _candidates(place: Place, wnids: list[str]) -> Iterator[pa.Table]:
    """Yield the training images of the classes ``wnids``, after ``_DRAWN``."""
    storage, seed, start = place.build.storage, place.build.settings.seed, 0
    known = pa.array(wnids, pa.string())
    index = place.done["filter_classes"].key_of("images.parquet")
    for table in row_groups(storage, index, ["split", "wnid", "file_name"]):
        codes = pc.index_in(table["wnid"], value_set=known)
        is_one = pc.and_(pc.equal(table["split"], "train"), codes.is_valid())
        rows = pa.array(np.arange(start, start + table.num_rows))
        start += table.num_rows
        one = table.append_column("row", rows).append_column("code", codes).filter(is_one)
        names = pc.binary_join_element_wise(one["wnid"], one["file_name"], "/")
        one = one.append_column("rank", pa.array(name_hash(names, seed)))
        yield one.select(_DRAWN.names).cast(_DRAWN)


def name_hash(names: pa.ChunkedArray, seed: int) -> npt.NDArray[np.uint64]:
    """Return BLAKE2b of each name, 8 bytes long, read as a big-endian number.

    Args:
        names: ``<wnid>/<file name>`` of each image.
        seed: The key, as 8 bytes, little-endian.
    """
    keyed = hashlib.blake2b(key=seed.to_bytes(8, "little"), digest_size=8)

    def digest(name: bytes) -> bytes:
        state = keyed.copy()
        state.update(name)
        return state.digest()

    found = b"".join(map(digest, names.cast(pa.binary()).to_pylist()))
    return np.frombuffer(found, ">u8").astype(np.uint64)


def first_of_classes(table: pa.Table, count: int) -> pa.Table:
    """Return the ``count`` rows of each class with the lowest ranks, fewer where there are fewer.

    Args:
        table: After ``_DRAWN``, in any order.
        count: How many.
    """
    codes = table["code"].to_numpy()
    order = np.lexsort((table["row"].to_numpy(), table["rank"].to_numpy(), codes))
    codes = codes[order]
    starts = np.searchsorted(codes, codes)  # where the class of each begins
    return table.take(pa.array(order[np.arange(len(order)) - starts < count]))
