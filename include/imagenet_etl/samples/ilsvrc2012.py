"""A miniature ``ILSVRC2012_img_train.tar``."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from imagenet_etl.errors import ConfigError
from imagenet_etl.samples.images import SampleSize, new_file, sample_images

_EPOCH = 1_340_000_000
"""June 2012, when the official archive was made."""


def build_ilsvrc2012(
    out: Path,
    images: Path | None,
    size: SampleSize,
    *,
    stored: bool = False,
) -> None:
    """Write a tar of one tar a class, named as in the official one. Images keep their size.

    The same call gives the same bytes. One class at a time is held in memory.

    Args:
        out: The tar to write.
        images: Folder or tar of JPEGs; None to generate images.
        size: How many classes, and training images a class. There are no others: ``val`` and
            ``test`` keep their defaults; ``test`` may be 0.
        stored: Not to be asked for: a tar never compresses.

    Raises:
        ConfigError: There are too few images, or something that the archive does not have is asked
            for.
        KeyExists: ``out`` is there already.
    """
    _check_options(size, stored)
    pool = sample_images(images, size.classes * size.train, size.classes)
    with new_file(out) as staged, _new_tar(staged) as archive:
        for wnid in pool.wnids:
            inner = io.BytesIO()
            with _new_tar(inner) as class_tar:
                for number in range(size.train):
                    _add(class_tar, f"{wnid}_{number}.JPEG", next(pool.files))
            _add(archive, f"{wnid}.tar", inner.getvalue())


def _check_options(size: SampleSize, stored: bool) -> None:
    for option, value, allowed in (
        ("--val", size.val, {SampleSize.val}),
        ("--test", size.test, {0, SampleSize.test}),
        ("--stored", stored, {False}),
    ):
        if value not in allowed:
            raise ConfigError(
                f"{option} has no effect on a sample of ilsvrc2012",
                expected="--classes and --train: the archive is a plain tar of training images",
                found=value,
                remedy=f"Leave {option} out",
            )


def _new_tar(out: Path | io.BytesIO) -> tarfile.TarFile:
    file, name = (out, None) if isinstance(out, io.BytesIO) else (None, out)
    return tarfile.open(name, "w", file, format=tarfile.USTAR_FORMAT)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), _EPOCH
    tar.addfile(info, io.BytesIO(data))
