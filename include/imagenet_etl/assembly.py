"""From finished segments to the dataset's folder tree: joined shards, tables, annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from imagenet_etl.errors import RecordError
from imagenet_etl.joining import NewTree, join_segments
from imagenet_etl.labels.ilsvrc import META_BIN
from imagenet_etl.labels.side_files import read_side_files
from imagenet_etl.receipts import Output
from imagenet_etl.records.formats import LOOSE_FORMATS, loose_table
from imagenet_etl.records.table import LOOSE_FILES, RECORDS
from imagenet_etl.selection import Segment
from imagenet_etl.stage import Place, Result
from imagenet_etl.storage.many import each
from imagenet_etl.tables import read_table, row_groups, write_batches
from imagenet_etl.val_split import VAL_FILE

LISTED = 1000
"""The manifest names this many repaired images; ``repaired.tsv`` names all."""

_TABLES_AHEAD = 8
"""Tables of a segment's records that are on their way from a bucket: some 2 MB each."""

Receipts = list[dict[str, Any]]


def assemble(place: Place, segments: list[Segment], receipts: Receipts) -> Result:
    """Complete the tree and account for every image.

    Args:
        place: The pack stage's place.
        segments: All segments of the plan.
        receipts: Their receipts, in the same order.

    Raises:
        RecordError: Packed and quarantined images do not add up to the plan.
    """
    counts = _count(segments, receipts)
    tree = NewTree(place)
    for receipt in receipts:
        for item in receipt["outputs"]:
            if item["name"].startswith("tree/"):
                tree.outputs.append(Output(**item | {"name": item["name"][len("tree/") :]}))
    join_segments(tree, segments)
    class_counts = _add_records(tree, segments)
    _add_classes(tree, dict.fromkeys(segment.split for segment in segments))
    bad = [item for receipt in receipts for item in receipt["quarantined"]]
    repaired = [item for receipt in receipts for item in receipt["repaired"]]
    _add_texts(tree, bad, repaired)
    _add_val_images(tree)
    tree.publish_texts()
    plan = place.done["plan_shards"]
    left_out = {k: v for k, v in plan.counts.items() if k.startswith("left_out_")}
    return Result(
        counts=counts
        | left_out
        | {"classes": len(plan.facts["classes"]), "bytes_written_twice": tree.written_twice},
        outputs=tuple(sorted(tree.outputs, key=lambda output: output.name)),
        facts={
            "repaired": repaired[:LISTED],
            "class_counts": class_counts,
            "short_classes": _short_classes(plan.facts["planned"], class_counts),
        },
        quarantined=tuple(bad),
        base=tree.base,
        identity=place.digest,  # the version is named after it, whatever its bytes
    )


def _count(segments: list[Segment], receipts: Receipts) -> dict[str, int]:
    counts: dict[str, int] = {"expected": sum(segment.records for segment in segments)}
    for segment, receipt in zip(segments, receipts, strict=True):
        for name, value in receipt["counts"].items():
            counts[name] = counts.get(name, 0) + value
        for name, value in (("planned", segment.records), ("packed", receipt["counts"]["packed"])):
            split = f"{segment.split}_{name}"
            counts[split] = counts.get(split, 0) + value
    if counts["packed"] + counts["quarantined"] != counts["expected"]:
        raise RecordError(
            "images were lost while packing",
            expected=f"{counts['expected']:,} packed or quarantined",
            found=f"{counts['packed']:,} and {counts['quarantined']:,}",
            remedy="This is a defect: please report it with the run's log",
        )
    return counts


def _add_records(tree: NewTree, segments: list[Segment]) -> dict[str, dict[str, int]]:
    """Write ``records.parquet``, and each loose format's ``files.parquet``, by segments.

    Returns:
        The number of records by split and class.
    """
    records = tree.place.scratch()
    counts: Counter[tuple[str, str]] = Counter()
    write_batches(records, RECORDS, _counted(_records(tree, segments), counts))
    tree.add("records.parquet", records)
    for output in sorted(LOOSE_FORMATS & set(tree.place.build.settings.outputs)):
        path = tree.place.scratch()
        write_batches(path, LOOSE_FILES, _loose_files(_records(tree, segments), output))
        tree.add(loose_table(output), path)
    by_split: dict[str, dict[str, int]] = {}
    for (split, wnid), count in sorted(counts.items()):
        by_split.setdefault(split, {})[wnid] = count
    return by_split


def _short_classes(
    planned: dict[str, dict[str, int]], packed: dict[str, dict[str, int]]
) -> dict[str, dict[str, dict[str, int]]]:
    """Return, by split and wnid, the two counts of each class where they differ."""
    short: dict[str, dict[str, dict[str, int]]] = {}
    for split, classes in planned.items():
        for wnid, count in classes.items():
            found = packed.get(split, {}).get(wnid, 0)
            if found != count:
                short.setdefault(split, {})[wnid] = {"planned": count, "packed": found}
    return short


def _counted(tables: Iterable[pa.Table], counts: Counter[tuple[str, str]]) -> Iterator[pa.Table]:
    """Hand tables of records on, adding up the records of one output by split and class."""
    for table in tables:
        one = table.filter(pc.equal(table["output"], table["output"][0])) if len(table) else table
        grouped = one.group_by(["split", "wnid"], use_threads=False).aggregate([([], "count_all")])
        for row in grouped.to_pylist():
            counts[row["split"], row["wnid"]] += row["count_all"]
        yield table


def _records(tree: NewTree, segments: list[Segment]) -> Iterator[pa.Table]:
    storage = tree.place.build.storage
    keys = [f"{tree.place.base}/records/{segment.number:05d}.parquet" for segment in segments]
    tables = each(storage, partial(read_table, storage), keys, _TABLES_AHEAD)
    with closing(tables):
        for segment, table in zip(segments, tables, strict=True):
            yield tree.moved(table, segment)


def _loose_files(tables: Iterable[pa.Table], output: str) -> Iterator[pa.Table]:
    for table in tables:
        rows = table.filter(pc.equal(table["output"], output))
        name = pc.binary_join_element_wise(rows["split"], rows["shard"], "/")
        yield pa.table([name, rows["bytes"], rows["sha256"]], schema=LOOSE_FILES)


def _add_classes(tree: NewTree, splits: Iterable[str]) -> None:
    """Write what tells of the classes, for people, Caffe and torchvision."""
    place = tree.place
    classes = place.done["plan_shards"].facts["classes"]
    lines = [
        f"{label}\t{one['wnid']}\t{one['ilsvrc_id'] or ''}\t{one['names']}\n"
        for label, one in enumerate(classes)
    ]
    tree.add_text("classes.tsv", "label\twnid\tilsvrc_id\tnames\n" + "".join(lines))
    dropped = place.done["filter_classes"].facts["dropped"]
    if dropped:
        # In a file of their own: they have no label, and readers count the lines of the other.
        lines = [f"{one['wnid']}\t{one['images']}\n" for one in dropped]
        tree.add_text("dropped_classes.tsv", "wnid\timages\n" + "".join(lines))
    if any(one["names"] for one in classes):
        # Caffe's own list: line n names the class with label n.
        lines = [f"{one['wnid']} {one['names']}\n" for one in classes]
        tree.add_text("synset_words.txt", "".join(lines))
    labelled = place.done.get("restructure_val")
    if (
        labelled
        and "imagefolder" in place.build.settings.outputs
        and any(output.name == META_BIN for output in labelled.outputs)
    ):
        content = place.build.storage.read(labelled.key_of(META_BIN)) or b""
        for folder in ("", *(f"{split}/" for split in splits)):
            tree.add_text(f"imagefolder/{folder}{META_BIN}", content)


def _add_texts(tree: NewTree, bad: list[dict[str, Any]], repaired: list[dict[str, Any]]) -> None:
    place = tree.place
    rows = [f"{b['path']}\t{b['wnid']}\t{b['offset']}\t{_one_line(b['reason'])}\n" for b in bad]
    tree.add_text("quarantine.tsv", "path\twnid\toffset\treason\n" + "".join(rows))
    rows = [f"{one['path']}\t{one['wnid']}\t{one['offset']}\n" for one in repaired]
    tree.add_text("repaired.tsv", "path\twnid\toffset\n" + "".join(rows))
    side_files = read_side_files(place.build, place.done["download"], place.done["untar"])
    for path, content in sorted(side_files.items()):
        tree.add_text(f"annotations/{path}", content)


def _add_val_images(tree: NewTree) -> None:
    """Write which training images became validation images, as ``val_images.tsv``."""
    drawn = tree.place.done.get("split_val")
    if drawn is None or not drawn.outputs:
        return
    path = tree.place.scratch()
    plain = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with path.open("wb") as file:
        file.write(b"wnid\tfile_name\n")
        for table in row_groups(
            tree.place.build.storage, drawn.key_of(VAL_FILE), ["wnid", "file_name"]
        ):
            csv.write_csv(table, file, plain)
    tree.add("val_images.tsv", path)


def _one_line(text: str) -> str:
    return " ".join(text.split())
