"""The peers that pack images as they are: webdataset's ShardWriter and litdata's ``optimize``.

Both read loose files, so the archive has to be scattered first.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import Step
from benchmarks.places import CLIENTS
from benchmarks.recipe import untar
from benchmarks.venvs import python_of

PACK = "pack"
"""The name of the step after the untarring, whose time is told apart."""


def webdataset(archive: Path, folder: Path) -> list[Step]:
    """Return the steps that make 16 shards in ``out`` below a folder."""
    return _scattered(archive, folder, "webdataset", "16")


def litdata(archive: Path, folder: Path) -> list[Step]:
    """Return the steps that make chunks in ``out`` below a folder with two workers."""
    return _scattered(archive, folder, "litdata", "2")


def _scattered(archive: Path, folder: Path, peer: str, number: str) -> list[Step]:
    client = CLIENTS / f"{peer}_pack.py"
    command: list[str | Path] = [python_of(peer), client, folder / "train", folder / "out", number]
    caches = ("DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER")  # of litdata
    env = {name: str(folder / name.lower()) for name in caches}
    return [*untar(archive, folder), Step(command, folder, env, name=PACK)]


def packed_by_webdataset(folder: Path) -> int:
    """Return how many images lie in the shards."""
    return count_jpegs((folder / "out").glob("*.tar"))


def count_jpegs(shards: Iterable[Path]) -> int:
    """Return how many members of tars are JPEGs by name."""
    count = 0
    for path in shards:
        with tarfile.open(path) as shard:
            count += sum(member.name.endswith(".jpg") for member in shard)
    return count


def packed_by_litdata(folder: Path) -> int:
    """Return how many items the chunks' index counts."""
    index = json.loads((folder / "out/index.json").read_text())
    return sum(chunk["chunk_size"] for chunk in index["chunks"])
