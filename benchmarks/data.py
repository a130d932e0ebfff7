"""The archives that are measured on: a tar of class tars, as image-net.org gives it, and more."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path, PurePosixPath

from benchmarks.places import DATA, SAMPLES

NAME = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
VALPREP = "valprep.sh"
_IMAGES = 500
_TRAIN_FOR_VAL = 25  # 1,281,167 and 50,000 in the real set


@dataclass(frozen=True)
class TrainTar:
    """An archive and what is in it.

    Attributes:
        path: The tar.
        images: Its images.
        source: What they are, in words.
        others: Archives that are read beside it; ``images`` counts theirs, too.
    """

    path: Path
    images: int
    source: str
    others: tuple[Path, ...] = ()


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


def with_val(tar: TrainTar) -> TrainTar:
    """Return the archive with a validation archive and a devkit beside it, built when missing.

    There lies what the shell recipe sorts the images by, too: a line of ``mv`` for each.
    """
    folder = tar.path.parent
    others = folder / VAL, folder / DEVKIT
    number = max(1, tar.images // _TRAIN_FOR_VAL)
    if not (folder / VALPREP).exists():  # the last one to be written
        images = list(sample_images())
        truth = {}
        with tarfile.open(others[0], "w", format=tarfile.USTAR_FORMAT) as val:
            for n, (wnid, image) in enumerate(islice(cycle(images), number), 1):
                name = f"ILSVRC2012_val_{n:08d}.JPEG"
                add_member(val, name, image)
                truth[name] = wnid
        _flush(others[0])
        _write_devkit(others[1], sorted({wnid for wnid, _ in images}), truth)
        _write_valprep(folder / VALPREP, truth)
    return replace(tar, images=tar.images + number, others=others)


def _write_devkit(path: Path, wnids: list[str], truth: dict[str, str]) -> None:
    from imagenet_etl.labels.devkit import Synset  # noqa: PLC0415 (heavy)
    from imagenet_etl.samples.devkit import ROOT, devkit_files  # noqa: PLC0415 (heavy)

    # Ids that are not in the order of the wnids, as in the real kit.
    synsets = [Synset(n, wnid, wnid) for n, wnid in enumerate(reversed(wnids), 1)]
    with tarfile.open(path, "w:gz") as kit:
        for name, data in devkit_files(synsets, truth, 1).items():
            add_member(kit, f"{ROOT}/{name}", data)


def _write_valprep(path: Path, truth: dict[str, str]) -> None:
    """Write the script that is passed around: a line a class, a line an image."""
    lines = [f"mkdir -p {wnid}\n" for wnid in sorted(set(truth.values()))]
    lines += [f"mv {name} {wnid}/\n" for name, wnid in truth.items()]
    path.write_text("".join(lines))


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
