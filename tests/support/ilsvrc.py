"""ILSVRC2012 in small: its archives, and what every validation image's label has to be."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.places import SAMPLES as REAL_IMAGES
from tests.support.builds import no_aws

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner
from imagenet_etl.readers import RecordIoReader
from imagenet_etl.records.lmdb import read_database, read_record
from imagenet_etl.samples import SAMPLES, SampleSize
from imagenet_etl.samples.ilsvrc2012 import IlsvrcTruth

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
SIZE = SampleSize(classes=5, train=4, val=3)


def build_sample(out: Path, layout: str = "archives", size: SampleSize = SIZE) -> IlsvrcTruth:
    """Build a sample of real images where they are beside the project, else of generated ones."""
    images = REAL_IMAGES if REAL_IMAGES.exists() else None
    truth = SAMPLES["ilsvrc2012"](out, images, size, layout=layout)
    assert isinstance(truth, IlsvrcTruth)
    return truth


def ilsvrc_build(data_dir: Path, sources: dict[str, str], **settings: Any) -> Build:
    """Return one run's view of ILSVRC2012 in a data folder."""
    values = {"expect": "any", "workers": 1} | settings
    chosen = Settings(dataset="ilsvrc2012", data_dir=str(data_dir), sources=sources, **values)
    return new_build(chosen, Owner("run-1"), no_aws)


def label_order(truth: IlsvrcTruth, order: str) -> list[str]:
    """Return the wnids in the order of their labels."""
    wnids = [synset.wnid for synset in truth.synsets]
    return wnids if order == "devkit" else sorted(wnids)


def val_names(archives: Path) -> dict[str, str]:
    """Return the file name of each validation image by the digest of its content."""
    with tarfile.open(archives / VAL) as tar:
        return {_digest(tar.extractfile(member).read()): member.name for member in tar}


def check_val_labels(version: Path, archives: Path, truth: IlsvrcTruth, order: str) -> int:
    """Compare the label of every validation image in every format; return how many there were.

    Images are told by their content, as it is in the sample's archive.
    """
    labels = {wnid: label for label, wnid in enumerate(label_order(truth, order))}
    expected = {name: labels[wnid] for name, wnid in truth.val.items()}
    names, checked = val_names(archives), 0
    for output in _READERS.keys() & {path.name for path in version.iterdir()}:
        found = [
            (names[_digest(image)], label)
            for image, label in _READERS[output](version / output, labels)
        ]
        assert sorted(found) == sorted(expected.items()), output
        checked += len(found)
    return checked


_Labelled = Iterator[tuple[bytes, int]]


def _recordio(folder: Path, _: dict[str, int]) -> _Labelled:
    for record in RecordIoReader(sorted((folder / "val").glob("*.rec"))):
        yield record.image, int(record.labels[0])


def _lmdb(folder: Path, _: dict[str, int]) -> _Labelled:
    with closing(read_database(folder / "val_db/data.mdb")) as records:
        for _key, value in records:
            content = read_record(value)
            yield bytes(content.image), int(content.label)


def _imagefolder(folder: Path, labels: dict[str, int]) -> _Labelled:
    for path in (folder / "val").rglob("*.JPEG"):
        yield path.read_bytes(), labels[path.parent.name]


def _digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


_READERS = {"recordio": _recordio, "lmdb": _lmdb, "imagefolder": _imagefolder}
