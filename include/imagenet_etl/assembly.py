"""From finished segments to the dataset's folder tree: joined shards, tables, annotations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.errors import RecordError
from imagenet_etl.labels.side_files import read_side_files
from imagenet_etl.pack_worker import segment_file, segment_name
from imagenet_etl.receipts import Output
from imagenet_etl.records.layout import LOOSE_FORMATS, loose_table, shard_name
from imagenet_etl.records.recordio import SUFFIXES, concatenate
from imagenet_etl.records.table import LOOSE_FILES, RECORDS
from imagenet_etl.selection import Segment
from imagenet_etl.stage import Place, Result, publish_output
from imagenet_etl.tables import read_table, write_batches

Receipts = list[dict[str, Any]]


@dataclass
class _Tree:
    """The tree as it grows: its files, and where the segments of joined shards start."""

    place: Place
    outputs: list[Output] = field(default_factory=list)
    starts: dict[int, int] = field(default_factory=dict)
    written_twice: int = 0

    @property
    def base(self) -> str:
        return f"{self.place.base}/tree"

    def add(self, name: str, path: Path, sha256: str = "") -> None:
        if sha256:
            storage = self.place.build.storage
            self.outputs.append(publish_output(storage, self.base, name, path, sha256))
        else:
            output = self.place.publish(f"tree/{name}", path)
            self.outputs.append(Output(name, output.size, output.sha256, output.tag))

    def add_text(self, name: str, text: str | bytes) -> None:
        path = self.place.scratch()
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        self.add(name, path)


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
    tree = _Tree(place)
    for receipt in receipts:
        for item in receipt["outputs"]:
            if item["name"].startswith("tree/"):
                tree.outputs.append(Output(**item | {"name": item["name"][len("tree/") :]}))
    if "recordio" in place.build.settings.formats:
        _join_shards(tree, segments)
    _add_records(tree, segments)
    bad = [item for receipt in receipts for item in receipt["quarantined"]]
    _add_texts(tree, bad)
    plan = place.done["plan_shards"]
    left_out = {k: v for k, v in plan.counts.items() if k.startswith("left_out_")}
    return Result(
        counts=counts
        | left_out
        | {"classes": len(plan.facts["classes"]), "bytes_written_twice": tree.written_twice},
        outputs=tuple(sorted(tree.outputs, key=lambda output: output.name)),
        quarantined=tuple(bad),
        base=tree.base,
        identity=place.digest,  # the version is named after it, whatever its bytes
    )


def _count(segments: list[Segment], receipts: Receipts) -> dict[str, int]:
    counts: dict[str, int] = {"expected": sum(segment.records for segment in segments)}
    for segment, receipt in zip(segments, receipts, strict=True):
        for name, value in receipt["counts"].items():
            counts[name] = counts.get(name, 0) + value
        split = f"{segment.split}_packed"
        counts[split] = counts.get(split, 0) + receipt["counts"]["packed"]
    if counts["packed"] + counts["quarantined"] != counts["expected"]:
        raise RecordError(
            "images were lost while packing",
            expected=f"{counts['expected']:,} packed or quarantined",
            found=f"{counts['packed']:,} and {counts['quarantined']:,}",
            remedy="This is a defect: please report it with the run's log",
        )
    return counts


def _join_shards(tree: _Tree, segments: list[Segment]) -> None:
    """Concatenate the shards that have several segments; it is their bytes' second write."""
    storage = tree.place.build.storage
    for (split, shard), group in groupby(segments, key=lambda s: (s.split, s.shard)):
        parts = list(group)
        if len(parts) == 1:
            continue
        paths = [
            [
                storage.local_path(f"{tree.place.base}/{segment_file('recordio', part, name)}")
                for name in (segment_name(part) + suffix for suffix in SUFFIXES)
            ]
            for part in parts
        ]
        folder = tree.place.scratch()
        folder.mkdir()
        written, starts = concatenate(paths, folder, shard_name(split, shard))  # type: ignore[arg-type]
        tree.starts |= {part.number: start for part, start in zip(parts, starts, strict=True)}
        tree.written_twice += sum(file.size for file in written)
        for file in written:
            tree.add(f"recordio/{split}/{file.path.name}", file.path, file.sha256)


def _add_records(tree: _Tree, segments: list[Segment]) -> None:
    """Write ``records.parquet``, and each loose format's ``files.parquet``, by segments."""
    records = tree.place.scratch()
    write_batches(records, RECORDS, _records(tree, segments))
    tree.add("records.parquet", records)
    for output in sorted(LOOSE_FORMATS & set(tree.place.build.settings.formats)):
        path = tree.place.scratch()
        write_batches(path, LOOSE_FILES, _loose_files(_records(tree, segments), output))
        tree.add(loose_table(output), path)


def _records(tree: _Tree, segments: list[Segment]) -> Iterator[pa.Table]:
    for segment in segments:
        key = f"{tree.place.base}/records/{segment.number:05d}.parquet"
        table = read_table(tree.place.build.storage, key)
        if segment.parts > 1:
            table = _joined(table, segment, tree.starts.get(segment.number, 0))
        yield table


def _joined(table: pa.Table, segment: Segment, start: int) -> pa.Table:
    """Move the rows of a segment's part to where they are in the joined shard."""
    in_shard = pc.equal(table["output"], "recordio")
    name = f"{shard_name(segment.split, segment.shard)}.rec"
    offset = pc.if_else(in_shard, pc.add(table["offset"], start), table["offset"])
    shard = pc.if_else(in_shard, name, table["shard"])
    for column, values in (("offset", offset), ("shard", shard)):
        at = table.schema.get_field_index(column)
        table = table.set_column(at, RECORDS.field(column), values)
    return table


def _loose_files(tables: Iterable[pa.Table], output: str) -> Iterator[pa.Table]:
    for table in tables:
        rows = table.filter(pc.equal(table["output"], output))
        name = pc.binary_join_element_wise(rows["split"], rows["shard"], "/")
        yield pa.table([name, rows["bytes"], rows["sha256"]], schema=LOOSE_FILES)


def _add_texts(tree: _Tree, bad: list[dict[str, Any]]) -> None:
    place = tree.place
    classes = place.done["plan_shards"].facts["classes"]
    lines = [f"{label}\t{wnid}\t{names}\n" for label, (wnid, names) in enumerate(classes)]
    tree.add_text("classes.tsv", "label\twnid\tnames\n" + "".join(lines))
    rows = [f"{b['path']}\t{b['wnid']}\t{b['offset']}\t{_one_line(b['reason'])}\n" for b in bad]
    tree.add_text("quarantine.tsv", "path\twnid\toffset\treason\n" + "".join(rows))
    side_files = read_side_files(place.build, place.done["download"], place.done["untar"])
    for path, content in sorted(side_files.items()):
        tree.add_text(f"annotations/{path}", content)


def _one_line(text: str) -> str:
    return " ".join(text.split())
