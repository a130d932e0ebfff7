"""The archive that is measured on: a tar of class tars, as image-net.org gives it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmarks.places import DATA, SAMPLES

NAME = "ILSVRC2012_img_train.tar"
_IMAGES = 500


@dataclass(frozen=True)
class TrainTar:
    """An archive and what is in it.

    Attributes:
        path: The tar.
        images: Its images.
        source: What they are, in words.
    """

    path: Path
    images: int
    source: str


def train_tar(copies: int) -> TrainTar:
    """Return the archive with so many copies of each sample image, built when it is missing."""
    source = "real" if SAMPLES.exists() else "generated"
    words = "real ImageNet images" if source == "real" else "generated images"
    path = DATA / f"{source}-{copies}" / NAME
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(".part")
        with tarfile.open(staged, "w", format=tarfile.USTAR_FORMAT) as outer:
            for wnid, image in sample_images():
                add_member(outer, f"{wnid}.tar", class_tar(wnid, [image] * copies))
        _flush(staged)
        staged.rename(path)
    return TrainTar(path, _IMAGES * copies, f"{_IMAGES} {words}, each {copies} times")


def sample_images() -> Iterator[tuple[str, bytes]]:
    """Yield class and file of each of the 500 images: real ones where they are beside the project.

    They are for research only and never become a part of it.
    """
    yield from _real() if SAMPLES.exists() else _generated()


def _real() -> Iterator[tuple[str, bytes]]:
    with tarfile.open(SAMPLES) as samples:
        for member in samples:
            file = samples.extractfile(member)
            if file is not None:
                yield PurePosixPath(member.name).parent.name, file.read()


def _generated() -> Iterator[tuple[str, bytes]]:
    from imagenet_etl.samples.images import generated_jpeg  # noqa: PLC0415 (heavy)

    for number in range(_IMAGES):
        yield f"n{number + 1:08d}", generated_jpeg(number, 300 + number * 37 % 400)


def class_tar(wnid: str, images: list[bytes]) -> bytes:
    """Return a class's own tar, its images numbered from 1."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, image in enumerate(images, 1):
            add_member(tar, f"{wnid}_{number}.JPEG", image)
    return out.getvalue()


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file to a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
