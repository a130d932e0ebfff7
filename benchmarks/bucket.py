"""One ILSVRC2012 sample from a shared folder and from a bucket: digests, requests, bytes, distance.

Two workers with empty disks share nothing but the bucket. A wire between them and the server counts
what is read; in a second run it holds every request back, as a bucket that is far away does. The
images of moto's run, in Python, are only compared; rclone's runs are timed.
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
from pathlib import Path
from typing import Any

from tests.support.bucket_workers import STAGES, Worker, ended, image_bytes, upload
from tests.support.counting_proxy import CountingProxy, Counts, counting_proxy
from tests.support.ilsvrc import build_sample, ilsvrc_build
from tests.support.moto_server import moto_server
from tests.support.rclone_server import rclone_server

from benchmarks.compare import say
from benchmarks.places import DATA, RUNS
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples import SampleSize

MOST_READ = 1.1
"""Times the members' bytes that packing may read."""

LEAST_SPEED = 0.5
"""Of a run beside the server, that one with every request held back shall have."""

_BUCKET = "data"
_IMAGES = "_img_"
_SETTINGS: dict[str, Any] = {
    "shards": 4, "val_shards": 2, "expect": "any", "version": "v1", "workers": 1,
    "formats": ("recordio",),
}  # fmt: skip


def archives_of(size: SampleSize) -> Path:
    """Return the folder of the sample's archives; made when it is missing."""
    folder = DATA / f"bucket-{size.classes}-{size.train}-{size.val}"
    if not folder.exists():
        build_sample(folder, size=size)
    return folder


def shared_folder(archives: Path) -> str:
    """Return the manifest's digest of a run over a folder."""
    data = RUNS / "bucket-shared"
    shutil.rmtree(data, ignore_errors=True)
    sources = {path.name: str(path) for path in archives.iterdir()}
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


def measure(serving: Serving, archives: Path, latency_s: float = 0) -> BucketRun:
    """Run against a server of its own."""
    with serving() as server, counting_proxy(server) as wire:
        return BucketRun(wire, archives, latency_s)


def main() -> int:
    """Measure, print, and fail when a bound is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench bucket", description=__doc__)
    parser.add_argument("--classes", type=int, default=10, metavar="N", help="(default: 10)")
    parser.add_argument("--train", type=int, default=40, metavar="N", help="a class (40)")
    parser.add_argument("--latency-ms", type=float, default=30, metavar="MS", help="(default: 30)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    RUNS.mkdir(parents=True, exist_ok=True)
    archives = archives_of(SampleSize(classes=args.classes, train=args.train, val=10))
    members, expected = image_bytes(archives), shared_folder(archives)
    _print(f"shared folder: manifest sha256 {expected}")
    short = False
    runs = {
        "moto": measure(moto_server, archives),
        "rclone": measure(rclone_server, archives),
        f"rclone, {args.latency_ms:g} ms": measure(rclone_server, archives, args.latency_ms / 1000),
    }
    for name, run in runs.items():
        say(f"{name}: manifest sha256 {run.manifest_sha256}, left on disk: {run.left_behind}")
        short |= tell(name, run, members) > MOST_READ
        short |= run.manifest_sha256 != expected or bool(run.left_behind)
    near, far = list(runs.values())[1:]
    for what, speed in (("pack", near.seconds["pack"] / far.seconds["pack"]),
                        ("whole run", near.total / far.total)):  # fmt: skip
        _print(f"{args.latency_ms:g} ms a request: {what} at {speed:.2f} of its speed")
        short |= speed < LEAST_SPEED
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
