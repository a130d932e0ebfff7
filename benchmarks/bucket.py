"""One ILSVRC2012 sample from a shared folder and from a bucket: digests, requests, bytes, distance.

Two workers with empty disks share nothing but the bucket. A wire between them and the server counts
what is read; in a second run it holds every request back, as a bucket that is far away does. What
moto's server gives is only compared; rclone's runs are timed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.bucket_workers import ARCHIVES, STAGES, Worker, ended, image_bytes, upload
from tests.support.counting_proxy import CountingProxy, Counts, counting_proxy
from tests.support.ilsvrc import ilsvrc_build
from tests.support.moto_server import moto_server
from tests.support.rclone_server import rclone_server

from benchmarks.data import train_tar, with_val
from benchmarks.places import RUNS
from imagenet_etl.pipeline import run_stage

MOST_READ = 1.1
"""Times the members' bytes that packing may read."""

LEAST_SPEED = 0.5
"""Of a run beside the server, that one with every request held back shall have."""

_BUCKET = "data"
_IMAGES = "_img_"
_SETTINGS: dict[str, Any] = {
    "shards": 8, "val_shards": 2, "expect": "any", "version": "v1", "workers": 1,
    "formats": ("recordio",),
}  # fmt: skip


def shared_folder(archives: Path) -> str:
    """Return the manifest's digest of a run over a folder."""
    data = RUNS / "bucket-shared"
    shutil.rmtree(data, ignore_errors=True)
    sources = {name: str(archives / name) for name in ARCHIVES}
    build = ilsvrc_build(data, sources, **_SETTINGS)
    for name in build.facts.stages:
        receipt = run_stage(build, name).receipt
        if name == "verify":
            digest = str(receipt.facts["manifest_sha256"])
    shutil.rmtree(data)
    return digest


class BucketRun:
    """The same from a bucket, by two workers.

    Attributes:
        seconds: By step.
        counts: What went over the wire, by step.
        manifest_sha256: Digest of the manifest.
    """

    def __init__(self, wire: CountingProxy, archives: Path, latency_s: float = 0) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, Counts] = {}
        self._wire = wire
        wire.latency_s = 0
        sources = upload(wire, archives, _BUCKET)
        wire.latency_s = latency_s
        settings = _SETTINGS | {
            "dataset": "ilsvrc2012", "data_dir": f"s3://{_BUCKET}/d", "sources": sources
        }  # fmt: skip
        disks = [RUNS / f"bucket-{name}" for name in ("one", "two")]
        for disk in disks:
            shutil.rmtree(disk, ignore_errors=True)
        one, two = (Worker(disk, wire, settings) for disk in disks)
        with self._step("download"):
            one.do(STAGES[0])
        with self._step("index"):
            one.do(*STAGES[1:])
        with self._step("pack"):
            for process in [one.start("pack 1/2"), two.start("pack 2/2")]:
                ended(process)
        with self._step("verify"):
            entry = json.loads(two.do("pack", "verify", "report", "publish"))
        self.manifest_sha256 = str(entry["manifest_sha256"])
        self.left_behind = one.left_behind() + two.left_behind()

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._wire.counts = Counts()
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        self.counts[name] = self._wire.counts

    @property
    def total(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds.values())


def tell(name: str, run: BucketRun, members: int) -> float:
    """Print what a run read; return how many times the members' bytes packing did."""
    for step, counts in run.counts.items():
        archive_gets, archive_bytes = counts.of("GET", _IMAGES)
        gets, read = counts.of("GET", "")
        _print(
            f"  {name} {step:<9}{run.seconds[step]:6.1f} s  archives {archive_gets:6,} GETs "
            f"{archive_bytes:13,} B   tables, receipts and records {gets - archive_gets:6,} GETs "
            f"{read - archive_bytes:13,} B   at most {counts.most_at_once} at once"
        )
    times = run.counts["pack"].of("GET", _IMAGES)[1] / members
    _print(f"  {name} pack read {times:.3f}x the members' {members:,} bytes (at most {MOST_READ}x)")
    return times


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


Serving = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Sample:
    """Archives, and what a run over a folder makes of them.

    Attributes:
        archives: Their folder.
        members: Bytes of the images in them.
        expected: The manifest's digest of a run over a folder.
    """

    archives: Path
    members: int
    expected: str

    @staticmethod
    def of(copies: int) -> Sample:
        """Build archives with so many copies of each image, and run over them."""
        tar = with_val(train_tar(copies))
        folder = tar.path.parent
        sample = Sample(folder, image_bytes(folder), shared_folder(folder))
        _print(
            f"{tar.images:,} images, {sample.members:,} bytes ({tar.source}, and a validation "
            f"archive); from a shared folder: manifest sha256 {sample.expected}"
        )
        return sample


def measured(
    name: str, serving: Serving, sample: Sample, latency_s: float = 0
) -> tuple[BucketRun, bool]:
    """Run against a server of its own and print what it took; return also whether all is well."""
    with serving() as server, counting_proxy(server) as wire:
        run = BucketRun(wire, sample.archives, latency_s)
    same = run.manifest_sha256 == sample.expected
    _print(f"{name}: {'the same' if same else 'another'} manifest; left on disk: {run.left_behind}")
    return run, tell(name, run, sample.members) <= MOST_READ and same and not run.left_behind


def main() -> int:
    """Measure, print, and fail when a bound is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench bucket", description=__doc__)
    parser.add_argument(
        "--copies", type=int, default=8, metavar="N", help="of each of 500 images (default: 8)"
    )
    parser.add_argument("--latency-ms", type=float, default=30, metavar="MS", help="(default: 30)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    RUNS.mkdir(parents=True, exist_ok=True)
    # moto copies the whole object for each range of it: one copy of each image is enough for it.
    _, is_well = measured("moto", moto_server, Sample.of(1))
    sample = Sample.of(args.copies)
    near, near_is_well = measured("rclone", rclone_server, sample)
    far, far_is_well = measured(
        f"rclone, {args.latency_ms:g} ms", rclone_server, sample, args.latency_ms / 1000
    )
    is_well = is_well and near_is_well and far_is_well
    for what, speed in (("pack", near.seconds["pack"] / far.seconds["pack"]),
                        ("whole run", near.total / far.total)):  # fmt: skip
        _print(f"{args.latency_ms:g} ms a request: {what} at {speed:.2f} of its speed")
        is_well = is_well and speed >= LEAST_SPEED
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
