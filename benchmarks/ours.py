"""This project's own command line, measured whole: index, digests, fsync, read-back check."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.data import DEVKIT, NAME, VAL
from benchmarks.measure import Step
from benchmarks.peers import count_jpegs
from benchmarks.places import ROOT
from benchmarks.recipe import count_images

WORKER = "imagenet_etl.pack_worker"
"""What the command line of a packing process holds."""

Ours = Callable[[Path, Path], list[Step]]


def prepare(*options: str, shards: int = 16, others: Sequence[str] = ()) -> Ours:
    """Return a job that prepares the archive with two workers, in ``data`` below a folder.

    Args:
        options: Of the command line.
        shards: Number of training shards.
        others: Names of archives beside it that are used, too.
    """

    def steps(archive: Path, folder: Path) -> list[Step]:
        sources = [f"--source={name}={archive.with_name(name)}" for name in others]
        command: list[str | Path] = [
            sys.executable, "-m", "imagenet_etl", "prepare", "ilsvrc2012",
            "--data-dir", folder / "data",
            "--source", f"{NAME}={archive}",
            "--expect", "any",
            "--shards", str(shards),
            "--workers", "2",
            *sources,
            *options,
        ]  # fmt: skip
        return [Step(command, folder, {"PYTHONPATH": str(ROOT / "include")})]

    return steps


WHOLE_SET = (VAL, DEVKIT)
"""What the publisher gives beside the training archive."""


def version_of(folder: Path) -> Path:
    """Return the one version that was published below a job's folder."""
    (manifest,) = (folder / "data/datasets/ilsvrc2012").glob("*/manifest.json")
    return manifest.parent


def records_in(folder: Path) -> int:
    """Return how many RecordIO records the version holds, by its indexes."""
    indexes = (version_of(folder) / "recordio").rglob("*.idx")
    return sum(len(index.read_text().splitlines()) for index in indexes)


def samples_in(folder: Path) -> int:
    """Return how many images the version's WebDataset shards hold."""
    return count_jpegs((version_of(folder) / "webdataset").rglob("*.tar"))


def loose_in(folder: Path) -> int:
    """Return how many images the version's ImageFolder holds."""
    return count_images(version_of(folder) / "imagefolder")


def bytes_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
