"""Full ImageNet in small: the tar of class tars, a folder of them, and what is wrong with some."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import run_stages
from tests.support.full import ARCHIVE as WHOLE
from tests.support.full import full_build
from tests.support.tars import Entry, class_tar, raw_tar

from imagenet_etl import index_parts, own_members
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.samples.images import generated_jpeg
from imagenet_etl.tables import read_table

ROOT = "fall11_whole"
Classes = dict[str, dict[str, bytes]]


def few_classes(number: int = 4, images: int = 3) -> Classes:
    """Return classes of a few different images."""
    return {
        f"n{c:08d}": {
            f"n{c:08d}_{k}.JPEG": generated_jpeg(100 * c + k, 24 + c) for k in range(images)
        }
        for c in range(1, number + 1)
    }


def inner_tars(classes: Classes) -> dict[str, bytes]:
    """Return the content of each class tar by wnid."""
    return {wnid: class_tar(wnid, members).data for wnid, members in classes.items()}


def whole_tar(path: Path, tars: dict[str, bytes], root: str = "") -> Path:
    """Write the tar of class tars, as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw_tar(Entry(f"{root}{w}.tar".encode(), data) for w, data in tars.items()))
    return path


def tar_folder(path: Path, tars: dict[str, bytes], root: str = "") -> Path:
    """Write a folder of class tars, as they are."""
    (path / root).mkdir(parents=True)
    for wnid, data in tars.items():
        (path / root / f"{wnid}.tar").write_bytes(data)
    return path


def image_tree(path: Path, classes: Classes, root: str = "") -> Path:
    """Write the unpacked images."""
    for wnid, members in classes.items():
        (path / root / wnid).mkdir(parents=True)
        for name, data in members.items():
            (path / root / wnid / name).write_bytes(data)
    return path


def fall11(folder: Path, source: Path, slice_s: float | None = None, **settings: Any) -> Build:
    """Return a build of fall11 from a source, with its data folder below ``folder``."""
    return replace(full_build(folder / "data", source, **settings), slice_s=slice_s)


def publishing(build: Build, images: int, classes: int) -> Build:
    """Return the build with other published numbers."""
    archive = ArchiveFacts(name=WHOLE, url="", kind="tar", splits=("train",))
    facts = replace(build.facts, archives=(archive,), expected={"train": images}, classes=classes)
    return replace(build, facts=facts)


def untarred(build: Build) -> tuple[Any, list[dict[str, Any]]]:
    """Run up to untar; return its receipt and the rows of the index."""
    receipt = run_stages(build, "untar")["untar"]
    return receipt, read_table(build.storage, receipt.key_of("images.parquet")).to_pylist()


def parts_of(build: Build) -> list[str]:
    """Return the names of the finished parts of an index."""
    folder = Path(build.settings.data_dir)
    return sorted(path.name for path in folder.glob("work/*/untar/*/parts/*/[0-9]*.json"))


def index_bytes(build: Build) -> bytes:
    """Return the one index of a data folder, byte for byte."""
    (path,) = Path(build.settings.data_dir).glob("work/*/untar/*/images.parquet")
    return path.read_bytes()


def make_small_parts(monkeypatch: pytest.MonkeyPatch, rows: int = 6) -> None:
    """Let parts end, and class tars be looked at, after a few rows."""
    # Else a slow machine would note what a fast one does not.
    monkeypatch.setattr(own_members, "_WORTH_S", math.inf)
    monkeypatch.setattr(index_parts, "PART_ROWS", rows)
    monkeypatch.setattr("imagenet_etl.archives.nested.BATCH_MEMBERS", 1)
