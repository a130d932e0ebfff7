"""Builds of full ImageNet: of real archives, or of an index that no archive stands behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from tests.support.builds import no_aws

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.index import INDEX
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage_as
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import write_batches

ARCHIVE = "fall11_whole.tar"
_ROWS_A_GROUP = 7
"""Small, so that a test's index has several row groups."""


def full_build(
    data_dir: Path, source: Path | str = "", dataset: str = "imagenet_fall11", **settings: Any
) -> Build:
    """Return one run's view of full ImageNet in a data folder, with no class left out."""
    values: dict[str, Any] = {"expect": "any", "workers": 1} | settings
    if source:
        names = {"imagenet_fall11": ARCHIVE, "imagenet_winter21": "winter21_whole.tar.gz"}
        values["sources"] = {names[dataset]: str(source)}
    return new_build(Settings(dataset, str(data_dir), **values), Owner("run-1"), no_aws)


def planted(data_dir: Path, images: Sequence[tuple[str, str]], **settings: Any) -> Build:
    """Return a build whose index holds these images, given by wnid and file name, in this order.

    Each has a size of its own: 1,000 bytes and its place in the order.
    """
    build = full_build(data_dir, **settings)
    rows = [
        (ARCHIVE, f"{wnid}.tar/{name}", 0, 0, 1000 + at, 1000 + at, 0, 0, "train", wnid, name)
        for at, (wnid, name) in enumerate(images)
    ]
    table = pa.table(list(zip(*rows, strict=True)), schema=INDEX)

    def downloaded(_: Place) -> Result:
        facts = {"archives": {}, "splits": ["train"], "digests": {}, "left_out": []}
        return Result(counts={}, outputs=(), facts=facts, base="")

    def untarred(place: Place) -> Result:
        path = place.scratch()
        pieces = (table.slice(at, _ROWS_A_GROUP) for at in range(0, len(rows), _ROWS_A_GROUP))
        write_batches(path, INDEX, pieces)
        return Result(counts={}, outputs=(place.publish("images.parquet", path),))

    run_stage_as(build, "download", downloaded)
    run_stage_as(build, "untar", untarred)
    return build
