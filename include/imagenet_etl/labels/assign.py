"""Put labels and images together, so that none is left over on either side."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.errors import LabelError
from imagenet_etl.index import INDEX, ClassEntry
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import read_table


def passed_on(place: Place) -> Result:
    """Return the index as it is: every image stands in the folder of its class."""
    untar = place.done["untar"]
    (index,) = (output for output in untar.outputs if output.name == "images.parquet")
    table = read_table(place.build.storage, untar.key_of(index.name), ["wnid"])
    wnids = sorted(pc.unique(table["wnid"].drop_null()).to_pylist())
    return Result(
        counts={"val_labels": 0},
        outputs=(index,),
        facts={"classes": [ClassEntry(wnid=w, ilsvrc_id=None, names="") for w in wnids]},
        base=untar.base,
    )


def check_classes(index: pa.Table, wnids: Collection[str], source: str, again: str) -> None:
    """Compare the class folders with the list of classes.

    Args:
        index: The image index.
        wnids: The classes.
        source: What lists them, for errors.
        again: The remedy.

    Raises:
        LabelError: A folder is not listed, or a listed class has no training images.
    """
    folders = set(pc.unique(index["wnid"].drop_null()).to_pylist())
    for strange in sorted(folders - set(wnids)):
        raise LabelError(f"class folder {strange} is not in {source}", remedy=again)
    train = index["wnid"].filter(pc.equal(index["split"], "train"))
    for missing in sorted(set(wnids) - set(pc.unique(train).to_pylist())) if len(train) else ():
        raise LabelError(f"class {missing} of {source} has no training images", remedy=again)


def label_val(index: pa.Table, labels: Mapping[str, str], source: str, again: str) -> pa.Table:
    """Return the index with ``wnid`` filled in for the split ``val``.

    Args:
        index: The image index.
        labels: The class by file name.
        source: Where they come from, for errors.
        again: The remedy.

    Raises:
        LabelError: Images and labels do not match one to one, or an image lies in the folder of
            another class.
    """
    is_val = pc.equal(index["split"], "val")
    files = index["file_name"].filter(is_val)
    names = pa.array(labels.keys(), pa.string())
    unlabelled = files.filter(pc.invert(pc.is_in(files, value_set=names)))
    if len(unlabelled):
        raise LabelError(
            f"{source} has no line for {len(unlabelled):,} validation images",
            expected=f"{len(files):,} lines",
            found=f"{len(labels):,}; the first image without one is {pc.min(unlabelled)}",
            remedy=again,
        )
    check_once(files, again)
    if len(labels) != len(files):
        extra = sorted(set(labels) - set(files.to_pylist()))
        raise LabelError(
            f"{source} names {extra[0]}, which is not in the archive",
            expected=f"{len(files):,} lines",
            found=f"{len(labels):,}",
            remedy=again,
        )
    at = pc.index_in(index["file_name"], value_set=names)
    found = pc.take(pa.array(labels.values(), pa.string()), at)
    _check_folders(index.filter(is_val), found.filter(is_val), source, again)
    column = pc.if_else(is_val, found, index["wnid"])
    return index.set_column(index.schema.get_field_index("wnid"), INDEX.field("wnid"), column)


def check_once(files: pa.ChunkedArray, again: str) -> None:
    """Make sure that no validation image is there twice.

    Raises:
        LabelError: One is.
    """
    counted = files.value_counts()
    at = pc.index(pc.greater(counted.field("counts"), 1), True).as_py()
    if at >= 0:
        raise LabelError(
            f"validation image {counted.field('values')[at]} is there twice", remedy=again
        )


def _check_folders(val: pa.Table, labels: pa.ChunkedArray, source: str, again: str) -> None:
    """Where somebody has sorted the images into class folders, look whether that was right."""
    differs = pc.fill_null(pc.not_equal(val["wnid"], labels), False)
    at = pc.index(differs, True).as_py()
    if at >= 0:
        raise LabelError(
            f"{pc.sum(differs)} validation images lie in the folder of another class",
            expected=f"{val['file_name'][at]} in {labels[at]}, as {source} has it",
            found=val["wnid"][at],
            remedy=again,
        )
