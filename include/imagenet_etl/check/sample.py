"""A seeded sample of images that are decoded, spread over all outputs."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from imagenet_etl.check.tree import Tree
from imagenet_etl.records.formats import FORMATS
from imagenet_etl.tables import open_parquet

SIZE = 64


@dataclass
class Sample:
    """The rows of ``records.parquet`` that were drawn, by file and offset."""

    rows: dict[tuple[str, int], dict[str, Any]]
    decoded: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._in_file = Counter(name for name, _ in self.rows)

    def check(self, tree: Tree, name: str, offset: int, image: bytes | memoryview) -> None:
        """Decode an image and compare it with its row, if it is in the sample.

        Raises:
            DatasetDamaged: It cannot be decoded, or is another one.
        """
        row = self.rows.get((name, offset))
        if row is None:
            return
        if hashlib.sha256(image).hexdigest() != row["sha256"]:
            raise tree.damaged(name, f"the image of record {row['key']} at {offset}", "another")
        try:
            with Image.open(io.BytesIO(image)) as opened:
                opened.load()
                found = opened.size
        except Exception as error:
            raise tree.damaged(name, f"an image at {offset}", error) from error
        if found != (row["width"], row["height"]):
            raise tree.damaged(name, f"{row['width']}x{row['height']} pixels", found)
        with self._guard:
            self.decoded += 1

    def pass_over(self, name: str) -> None:
        """Count the images of a file, all of which an earlier go has decoded."""
        with self._guard:
            self.decoded += self._in_file[name]


def draw_sample(tree: Tree, seed: int) -> Sample:
    """Draw at most ``SIZE`` rows, reading only the row groups they are in."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    with open_parquet(tree.storage, tree.key("records.parquet")) as parquet:
        total = parquet.metadata.num_rows
        wanted = sorted(random.Random(seed).sample(range(total), min(SIZE, total)))
        first = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            here = [number - first for number in wanted if first <= number < first + count]
            for row in parquet.read_row_group(group).take(here).to_pylist() if here else ():
                name = FORMATS[row["output"]].path(row["split"], row["shard"])
                rows[name, row["offset"]] = row
            first += count
    return Sample(rows)
