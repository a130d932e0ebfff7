"""What the usual recipe for fall11 writes to the disk, and what this project writes.

Both are run on a sample, their files are counted, and the counts are scaled to the real archive::

    scripts/bench recipe-bytes [TAR] [--copies N]

Bytes of files that hold images grow with the archive's bytes; of lists and tables with the number
of images; files with images, classes, shards or parts of the index. MXNet need not be there:
im2rec's records are computed, images as they are behind their two headers, and so are the keys in
its ``.idx``. What this project makes and removes again is seen by ``strace``, where there is one.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.data import train_tar
from benchmarks.measure import Step
from benchmarks.places import ROOT, RUNS
from benchmarks.recipe import untar
from benchmarks.traced import Made, can_trace, read_traces, traced
from benchmarks.written import Size, Written, watched

FALL11_BYTES, FALL11_IMAGES, FALL11_CLASSES = 1_310_000_000_000, 14_197_122, 21_841
SHARD_BYTES = 1 << 30
FALL11_VAL = 561_050
"""50 of each of the 11,221 classes with more than 500 images."""

CHUNKS = 8
_VAL_OF_SAMPLE = 2

_FILTER = """
mkdir -p dropped
for class in train/*; do
  [ "$(ls "$class" | wc -l)" -gt 0 ] || mv "$class" dropped/
done
"""
_MOVE_VAL = f"""
for class in train/*; do
  mkdir -p "val/${{class#train/}}"
  ls "$class" | shuf -n {_VAL_OF_SAMPLE} | while read -r name; do
    mv "$class/$name" "val/${{class#train/}}/"
  done
done
"""
_LIST = """
for split in train val; do
  find $split -name '*.JPEG' | sort | awk -v OFS='\\t' '{
    split($0, part, "/")
    if (!(part[2] in label)) label[part[2]] = n++
    printf "%d\\t%.6f\\t%s\\n", NR - 1, label[part[2]], $0
  }' | shuf >$split.lst
done
"""
_OF_A_SHARD = re.compile(r"_[0-9]{5}\.|/(?:segments|records)/|/segment-")
_OF_A_PART = "/parts/"
HEAP_ROWS, HEAP_BYTES = 1 << 18, 150
"""Images in a heap by which a plan is sorted, and bytes of one in the two heaps that it passes."""


def _kind_in_recipe(path: str) -> str:
    return {".tar": "classes", ".JPEG": "images"}.get(Path(path).suffix, "")


def kind_here(path: str) -> str:
    """Return what the number of this project's files like this one goes with."""
    if _OF_A_PART in path:
        return "parts"
    return "shards" if _OF_A_SHARD.search(path) else ""


def recipe(archive: Path, folder: Path) -> Iterator[Written]:
    """Run the recipe below a folder, and yield what each of its steps writes."""
    folder.mkdir(parents=True)
    shell = ["bash", "-euo", "pipefail", "-c"]
    steps = [
        *untar(archive, folder),
        Step([*shell, _FILTER], folder, name="filter by ls and wc -l"),
        Step([*shell, _MOVE_VAL], folder, name="mv to val"),
        Step([*shell, _LIST], folder, name="im2rec --list"),
    ]
    for step in steps:
        yield watched(step, folder, _kind_in_recipe)
    yield im2rec(folder)


def im2rec(folder: Path) -> Written:
    """Return what packing the lists would write: record header, label header, image, padding."""
    payload = index = 0
    for split in ("train", "val"):
        at = 0
        for line in (folder / f"{split}.lst").read_text().splitlines():
            key, _, path = line.split("\t")
            index += len(f"{key}\t{at}\n")
            at += 8 + 24 + -(-(folder / path).stat().st_size // 4) * 4
        payload += at
    return Written("im2rec (computed)", payload, index, {"": 2 * (CHUNKS + 1)})


def here(archive: Path, folder: Path) -> tuple[Written, Written | None]:
    """Run this project below a folder; return what it writes, and the part that it removes again.

    Shards are small, so that a small sample has many. Without ``strace`` only what it leaves is
    seen, and the second is None.
    """
    data, traces = folder / "data", folder / "traces"
    data.mkdir(parents=True)
    traces.mkdir()
    command = [
        sys.executable, "-m", "imagenet_etl", "prepare", "imagenet_fall11",
        "--source", archive, "--expect", "any", "--data-dir", data, "--workers", "2",
        "--min-images-per-class", "1", "--val-images-per-class", str(_VAL_OF_SAMPLE),
        "--shard-mib", "16",
    ]  # fmt: skip
    env = {"PYTHONPATH": str(ROOT / "include")}
    step = Step(command, folder, env, "this project")
    if not can_trace():
        return watched(step, data, kind_here), None
    left = watched(traced(step, traces), data, kind_here)
    return with_removed(left, read_traces(traces, data.resolve(), kind_here))


def with_removed(left: Written, made: Made) -> tuple[Written, Written]:
    """Return all that was made, and the part of it that is not among what was left."""
    extra = max(0, made.bytes - left.payload - left.tables)
    files = made.files - Counter(left.files)
    everything = replace(left, tables=left.tables + extra, files=made.files, moved=made.named)
    return everything, Written("of these, removed again", tables=extra, files=files)


@dataclass(frozen=True)
class Measured:
    """The recipe's steps, what this project writes, what it removes of that, the sample's size."""

    steps: list[Written]
    mine: Written
    removed: Written | None
    sample: Size


def measured(archive: Path, folder: Path) -> Measured:
    """Run both on a sample.

    Args:
        archive: A tar of class tars.
        folder: An empty folder, on a disk if the kernel is to count; left empty.
    """
    try:
        steps = list(recipe(archive, folder / "recipe"))
        mine, removed = here(archive, folder / "here")
        shards = len(list((folder / "here").rglob("*.rec")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outer, classes, _, val, *_ = steps
    count = outer.files["classes"]
    images = classes.files["images"]
    sample = Size(archive.stat().st_size, images, count, shards, val.moved["val"])
    return Measured(steps, mine, removed, sample)


def table(found: Measured) -> str:
    """Return the Markdown table: the recipe's steps and sum beside this project, scaled."""
    shards = FALL11_BYTES // SHARD_BYTES
    full = Size(FALL11_BYTES, FALL11_IMAGES, FALL11_CLASSES, shards, FALL11_VAL)
    rows = [(one.title, *full.times(one, found.sample)) for one in found.steps]
    total = tuple(sum(row[column] for row in rows) for column in (1, 2, 3))
    ours = full.times(found.mine, found.sample)
    again = []
    if found.removed is not None:
        # A sample's heaps stay in memory.
        heap_bytes, heap_files = HEAP_BYTES * full.images, 2 * -(-full.images // HEAP_ROWS)
        ours = ours[0] + heap_bytes, ours[1] + heap_files, ours[2]
        gone = full.times(found.removed, found.sample)
        again = [_line(found.removed.title, gone[0] + heap_bytes, gone[1] + heap_files, None)]
    lines = [
        "| fall11, 1.31 TB, 14,197,122 images | Bytes written | Files made | Files renamed |",
        "|---|--:|--:|--:|",
        *(_line(*row) for row in rows),
        _line("**the recipe**", *total),
        _line("**this project**", *ours),
        *again,
        f"| the one against the other | {total[0] / ours[0]:.1f}x | {total[1] / ours[1]:,.0f}x | |",
    ]
    return "\n".join(lines)


def _line(title: str, written: float, files: float, moved: float | None) -> str:
    size = f"{written / 1e12:.2f} TB" if written >= 1e10 else f"{written / 1e9:.1f} GB"
    return f"| {title} | {size} | {files:,.0f} | {'' if moved is None else f'{moved:,.0f}'} |"


def caption(found: Measured) -> str:
    """Return what the table was computed from."""
    steps, mine, sample = found.steps, found.mine, found.sample
    kernel = sum(one.counted for one in steps)
    seen = (
        "What this project removes again was not looked for: there is no strace."
        if found.removed is None
        else f"As strace saw, {sum(found.removed.files.values()):,} of this project's files were "
        "removed again; the heaps by which a large plan is sorted are computed."
    )
    return (
        f"Scaled from a sample of {sample.images:,} images in {sample.classes:,} classes, "
        f"{sample.bytes / 1e6:,.0f} MB, of which the recipe made "
        f"{sum(sum(one.files.values()) for one in steps):,} files and this project "
        f"{sum(mine.files.values()):,}; without a class filter, which takes from both. The records "
        "that im2rec packs are computed as images as they are; the kernel counted "
        f"{kernel / 1e6:,.0f} MB given to the disk before that step, and "
        f"{mine.counted / 1e6:,.0f} MB by this project in all. {seen}"
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench recipe-bytes", description=__doc__)
    parser.add_argument("tar", nargs="?", type=Path, help="a tar of class tars")
    parser.add_argument("--copies", type=int, default=10, help="of each image, without TAR")
    args = parser.parse_args()
    archive = args.tar or train_tar(args.copies).path
    found = measured(archive.absolute(), RUNS / "recipe_bytes")
    sys.stdout.write(f"{table(found)}\n\n{caption(found)}\n")


if __name__ == "__main__":
    main()
