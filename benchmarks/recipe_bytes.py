"""What the usual recipe for fall11 writes to the disk, and what this project writes.

Both are run on a sample, their files are counted, and the counts are scaled to the real archive::

    scripts/bench recipe-bytes [TAR] [--copies N]

Bytes of files that hold images grow with the archive's bytes; of lists and tables with the number
of images; files with images, classes or shards. MXNet need not be there: im2rec's records are
computed, images as they are behind their two headers, and so are the keys in its ``.idx``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.data import train_tar
from benchmarks.measure import Step, run
from benchmarks.places import ROOT, RUNS
from benchmarks.recipe import untar

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
_PAYLOAD = {".tar", ".JPEG", ".rec"}
_OF_A_SHARD = re.compile(r"_[0-9]{5}\.|/(?:segments|records)/")

Identity = tuple[int, int, int]


@dataclass(frozen=True)
class Written:
    """What one step wrote.

    Attributes:
        title: The step.
        payload: Bytes of files that hold images.
        tables: Bytes of all others.
        files: How many files it made, by what their number goes with: ``images``, ``classes``,
            ``shards``, ``val`` or nothing.
        moved: How many it gave another name.
        counted: Bytes that the kernel counted as given to a disk, those deleted again as well.
    """

    title: str
    payload: int = 0
    tables: int = 0
    files: Mapping[str, int] = field(default_factory=dict)
    moved: int = 0
    counted: int = 0


@dataclass(frozen=True)
class Size:
    """How large a dataset is."""

    bytes: int
    images: int
    classes: int
    shards: int
    val: int

    def times(self, written: Written, sample: Size) -> tuple[float, float, float]:
        """Return bytes, files and renames of a step, scaled from a sample to this."""
        grown = written.payload * self.bytes / sample.bytes
        grown += written.tables * self.images / sample.images
        files = sum(
            count * (getattr(self, of) / getattr(sample, of) if of else 1)
            for of, count in written.files.items()
        )
        return grown, files, written.moved * self.val / sample.val


def identities(folder: Path) -> dict[str, Identity]:
    """Return what tells each file below a folder from others, by its path."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            state = os.stat(os.path.join(base, name))  # noqa: PTH116, PTH118 - a million of them
            found[f"{base}/{name}"] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


def watched(step: Step, folder: Path, kind: Callable[[str], str]) -> Written:
    """Run a step and return what it made below a folder.

    Args:
        step: The command.
        folder: Where it writes.
        kind: Returns what the number of files like this one goes with.
    """
    before = identities(folder)
    cost = run([step])
    old = set(before.values())
    payload = tables = moved = 0
    files: dict[str, int] = {}
    for path, identity in identities(folder).items():
        if path in before:
            continue
        if identity in old:
            moved += 1
            continue
        files[kind(path)] = files.get(kind(path), 0) + 1
        if Path(path).suffix in _PAYLOAD:
            payload += identity[1]
        else:
            tables += identity[1]
    return Written(step.name, payload, tables, files, moved, cost.written_bytes)


def _kind_in_recipe(path: str) -> str:
    return {".tar": "classes", ".JPEG": "images"}.get(Path(path).suffix, "")


def _kind_here(path: str) -> str:
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


def here(archive: Path, folder: Path) -> Written:
    """Run this project below a folder, and return what it leaves there; it deletes next to nothing.

    Shards are small, so that a small sample has many.
    """
    folder.mkdir(parents=True)
    command = [
        sys.executable, "-m", "imagenet_etl", "prepare", "imagenet_fall11",
        "--source", archive, "--expect", "any", "--data-dir", folder / "data", "--workers", "2",
        "--min-images-per-class", "1", "--val-images-per-class", str(_VAL_OF_SAMPLE),
        "--shard-mib", "16",
    ]  # fmt: skip
    env = {"PYTHONPATH": str(ROOT / "include")}
    return watched(Step(command, folder, env, "this project"), folder, _kind_here)


def measured(archive: Path, folder: Path) -> tuple[list[Written], Written, Size]:
    """Run both on a sample; return the recipe's steps, this project's work, and the sample's size.

    Args:
        archive: A tar of class tars.
        folder: An empty folder, on a disk if the kernel is to count; left empty.
    """
    try:
        steps = list(recipe(archive, folder / "recipe"))
        mine = here(archive, folder / "here")
        shards = len(list((folder / "here").rglob("*.rec")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outer, classes, _, val, *_ = steps
    count = outer.files["classes"]
    images = classes.files["images"]
    return steps, mine, Size(archive.stat().st_size, images, count, shards, val.moved)


def table(steps: list[Written], mine: Written, sample: Size) -> str:
    """Return the Markdown table: the recipe's steps and sum beside this project, scaled."""
    shards = FALL11_BYTES // SHARD_BYTES
    full = Size(FALL11_BYTES, FALL11_IMAGES, FALL11_CLASSES, shards, FALL11_VAL)
    rows = [(one.title, *full.times(one, sample)) for one in steps]
    total = tuple(sum(row[column] for row in rows) for column in (1, 2, 3))
    ours = full.times(mine, sample)
    lines = [
        "| fall11, 1.31 TB, 14,197,122 images | Bytes written | Files made | Files renamed |",
        "|---|--:|--:|--:|",
        *(_line(*row) for row in rows),
        _line("**the recipe**", *total),
        _line("**this project**", *ours),
        f"| the one against the other | {total[0] / ours[0]:.1f}x | {total[1] / ours[1]:,.0f}x | |",
    ]
    return "\n".join(lines)


def _line(title: str, written: float, files: float, moved: float) -> str:
    size = f"{written / 1e12:.2f} TB" if written >= 1e10 else f"{written / 1e9:.1f} GB"
    return f"| {title} | {size} | {files:,.0f} | {moved:,.0f} |"


def caption(steps: list[Written], mine: Written, sample: Size) -> str:
    """Return what the table was computed from."""
    kernel = sum(one.counted for one in steps)
    return (
        f"Scaled from a sample of {sample.images:,} images in {sample.classes:,} classes, "
        f"{sample.bytes / 1e6:,.0f} MB, of which the recipe made "
        f"{sum(sum(one.files.values()) for one in steps):,} files and this project "
        f"{sum(mine.files.values()):,}; without a class filter, which takes from both. The records "
        "that im2rec packs are computed as images as they are; the kernel counted "
        f"{kernel / 1e6:,.0f} MB given to the disk before that step, and "
        f"{mine.counted / 1e6:,.0f} MB by this project in all."
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench recipe-bytes", description=__doc__)
    parser.add_argument("tar", nargs="?", type=Path, help="a tar of class tars")
    parser.add_argument("--copies", type=int, default=10, help="of each image, without TAR")
    args = parser.parse_args()
    archive = args.tar or train_tar(args.copies).path
    steps, mine, sample = measured(archive.absolute(), RUNS / "recipe_bytes")
    sys.stdout.write(f"{table(steps, mine, sample)}\n\n{caption(steps, mine, sample)}\n")


if __name__ == "__main__":
    main()
