"""The comparisons: a peer and this project in turn, on the same archive."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import ours, peers, recipe
from benchmarks.data import TrainTar, with_val
from benchmarks.measure import Cost, Step, forget_pages, run, warm_up
from benchmarks.places import RUNS

Job = Callable[[Path, Path], list[Step]]


@dataclass(frozen=True)
class Side:
    """One way to do a piece of work.

    Attributes:
        job: Gives the steps for an archive and an empty folder.
        count: Counts afterwards, outside the measured time, what came out.
    """

    job: Job
    count: Callable[[Path], int]


@dataclass(frozen=True)
class Comparison:
    """A row of the table.

    Attributes:
        title: The work, in words.
        least: How many times the peer's speed is aimed at.
        peer: The peer's way.
        ours: This project's way.
        cold: Whether the archive is dropped from the page cache before each run.
        with_val: Whether the validation archive and the devkit are taken, too.
    """

    title: str
    least: float
    peer: Side
    ours: Side
    cold: bool = False
    with_val: bool = False


def _im2rec(edge: int) -> Side:
    return Side(lambda archive, folder: recipe.im2rec(archive, folder, edge), recipe.packed)


def _records(*options: str, shards: int = 16) -> Side:
    return Side(ours.prepare(*options, shards=shards), ours.records_in)


_WARM = {
    "short_edge_480": Comparison(
        "short edge 480, quality 90; smaller images stay as they are (the recipe enlarges them)",
        6.0, _im2rec(480), _records("--format", "recordio:short_edge:480"),
    ),
    "short_edge_480_upscale": Comparison(
        "the same, and smaller images are enlarged as the recipe does",
        1.8, _im2rec(480), _records("--format", "recordio:short_edge:480", "--upscale"),
    ),
    "short_edge_256": Comparison(
        "short edge 256, quality 90",
        2.0, _im2rec(256), _records("--format", "recordio:short_edge:256"),
    ),
    "webdataset": Comparison(
        "as they are, to WebDataset, against webdataset's ShardWriter",
        1.5, Side(peers.webdataset, peers.packed_by_webdataset),
        Side(ours.prepare("--format", "webdataset"), ours.samples_in),
    ),
    "litdata": Comparison(
        "as they are, to RecordIO, against litdata's optimize with 2 workers",
        3.0, Side(peers.litdata, peers.packed_by_litdata), _records("--format", "recordio"),
    ),
    "imagefolder": Comparison(
        "training and validation archive as they are, to ImageFolder, against the shell recipe "
        "(which neither flushes nor checks what it wrote)",
        1.5, Side(recipe.imagefolder, recipe.count_images),
        Side(ours.prepare("--format", "imagefolder", others=ours.WHOLE_SET), ours.loose_in),
        with_val=True,
    ),
}  # fmt: skip

COMPARISONS: Mapping[str, Comparison] = {
    **_WARM,
    **{f"{name}_cold": replace(row, cold=True) for name, row in _WARM.items()},
}


def compare(name: str, tar: TrainTar, runs: int) -> dict[str, Any]:
    """Run both sides of a row in turn; return its medians and ratios, JSON-ready."""
    row = COMPARISONS[name]
    if row.with_val:
        tar = with_val(tar)
    costs: dict[str, list[Cost]] = {"peer": [], "ours": []}
    for _ in range(runs):
        for side, found in costs.items():
            found.append(run_side(getattr(row, side), tar, cold=row.cold))
            say(f"{name}: {side} {found[-1].seconds:.1f} s")
    peer, mine = (medians(costs[side]) for side in ("peer", "ours"))
    result = {
        "title": row.title,
        "least": row.least,
        "cold": row.cold,
        "runs": runs,
        "images": tar.images,
        "source": tar.source,
        "peer": peer,
        "ours": mine,
        "ratio": peer["seconds"] / mine["seconds"],
    }
    if peers.PACK in peer["steps"]:
        result["ratio_without_untar"] = peer["steps"][peers.PACK] / mine["seconds"]
    return result


def run_side(side: Side, tar: TrainTar, *, cold: bool = False, watch: str = "") -> Cost:
    """Measure one run in a fresh folder and check its count.

    The folder stays until the row is done: where thousands of files were just removed, a file
    system may take its time to make new ones.
    """
    RUNS.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=RUNS))
    steps = side.job(tar.path, folder)
    os.sync()  # what earlier runs have left to write is not this one's burden
    for path in (tar.path, *tar.others):
        (forget_pages if cold else warm_up)(path)
    cost = run(steps, watch)
    found = side.count(folder)
    if found != tar.images:
        raise ValueError(f"{found} images came out of {tar.images}: {steps[-1].argv}")
    return cost


def medians(costs: list[Cost]) -> dict[str, Any]:
    """Return the medians of times and the largest of bytes, JSON-ready."""
    return {
        "seconds": statistics.median(cost.seconds for cost in costs),
        "cpu_seconds": statistics.median(cost.cpu_seconds for cost in costs),
        "all_seconds": [round(cost.seconds, 3) for cost in costs],
        "steps": {
            step: statistics.median(cost.steps[step] for cost in costs) for step in costs[0].steps
        },
        "peak_bytes": max(cost.peak_bytes for cost in costs),
        "written_bytes": max(cost.written_bytes for cost in costs),
    }


def say(text: str) -> None:
    """Tell how far the measurement is."""
    sys.stderr.write(f"{text}\n")
