"""The rows of an index that a plan is made of: kept classes, drawn validation images as such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.index import INDEX
from imagenet_etl.stage import Place
from imagenet_etl.tables import read_table, row_groups
from imagenet_etl.val_split import VAL_FILE

Numbers = npt.NDArray[np.int64]
PLANNED_ROWS = pa.schema([*INDEX, ("rank", pa.int32())])
"""A row of the index, and the place of its wnid among the kept ones in sorted order."""


class PlannedRows:
    """The index as the plan reads it: kept classes only, drawn validation images as such.

    Attributes:
        classes: The kept classes in label order.
        splits: The labelled splits that the plan has, in the dataset's order.
    """

    def __init__(self, place: Place) -> None:
        self._storage = place.build.storage
        kept, drawn = place.done["filter_classes"], place.done.get("split_val")
        self._key = kept.key_of("images.parquet")
        self.classes = kept.facts["classes"]
        self._wnids = pa.array(sorted(entry["wnid"] for entry in self.classes), pa.string())
        held = place.done["download"].facts["splits"]
        self.unlabelled = [name for name in held if name in place.build.facts.unlabelled]
        self.splits = [name for name in held if name not in self.unlabelled]
        self._val: Numbers = np.empty(0, np.int64)
        if drawn is not None and drawn.outputs:
            self.splits.append("val")
            table = read_table(self._storage, drawn.key_of(VAL_FILE), ["row"])
            self._val = np.sort(table["row"].to_numpy())

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows, with each one's ``rank``: the place of its wnid among the kept ones."""
        start = 0
        for table in row_groups(self._storage, self._key, columns):
            rank = pc.index_in(table["wnid"], value_set=self._wnids)
            yield self._with_val(table, start).append_column("rank", rank)
            start += table.num_rows

    def _with_val(self, table: pa.Table, start: int) -> pa.Table:
        low, high = np.searchsorted(self._val, (start, start + table.num_rows))
        if low == high:
            return table
        is_val = np.zeros(table.num_rows, bool)
        is_val[self._val[low:high] - start] = True
        split = pc.if_else(pa.array(is_val), "val", table["split"])
        return table.set_column(table.schema.get_field_index("split"), INDEX.field("split"), split)

    def kept(self) -> Iterator[pa.Table]:
        """Yield the rows of kept classes in labelled splits, after ``PLANNED_ROWS``."""
        wanted = pa.array(self.splits, pa.string())
        for table in self.tables():
            is_kept = pc.and_(table["rank"].is_valid(), pc.is_in(table["split"], value_set=wanted))
            yield table.filter(is_kept).cast(PLANNED_ROWS)

    def counted(self) -> Counted:
        """Count the images by split and class, and their bytes."""
        found = Counted(len(self.classes))
        found.left_out.update({f"left_out_{split}": 0 for split in self.unlabelled})
        for table in self.tables(["split", "wnid", "size"]):
            for split in pc.unique(table["split"]).to_pylist():
                rows = table.filter(pc.equal(table["split"], split))
                if split in self.unlabelled:
                    found.left_out[f"left_out_{split}"] += rows.num_rows
                elif split in self.splits:
                    found.add(split, rows.filter(rows["rank"].is_valid()))
        return found


@dataclass
class Counted:
    """How many images there are, and how large they are.

    Attributes:
        classes: The number of classes.
        sizes: Images by split and rank of their class.
        bytes: Bytes by split.
        left_out: Images of splits without labels.
    """

    classes: int
    sizes: dict[str, Numbers] = field(default_factory=dict)
    bytes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, split: str, rows: pa.Table) -> None:
        """Count the rows of one split."""
        counts = np.bincount(rows["rank"].to_numpy(), minlength=self.classes)
        self.sizes[split] = self.sizes.get(split, np.zeros(self.classes, np.int64)) + counts
        self.bytes[split] += int(rows["size"].to_numpy().sum())

    def images(self, split: str) -> int:
        """Return how many images a split has."""
        return int(self.sizes[split].sum()) if split in self.sizes else 0

    def heaps(self, rows: int) -> Numbers:
        """Return the number of each class's heap: neighbours share one of about so many rows."""
        each = sum(self.sizes.values(), np.zeros(self.classes, np.int64))
        return heaps_of(each, rows)


def heaps_of(sizes: Numbers, rows: int) -> Numbers:
    """Return for each of several things, of such sizes, the number of the heap that it goes to."""
    found: Numbers = (np.cumsum(sizes) - sizes) // rows
    return found
