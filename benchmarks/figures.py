"""This project's own figures: what must not grow, and what a layout costs."""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import ours
from benchmarks.compare import Side, run_side, say
from benchmarks.data import TrainTar
from benchmarks.many import many_members
from benchmarks.measure import Step, run, warm_up
from benchmarks.places import CLIENTS, ROOT, RUNS

_FEW, _MANY = 100_000, 1_000_000
_MB = 1e6

Figure = dict[str, Any]


def figure(title: str, found: str, aim: str, reached: bool) -> Figure:
    """Return a row of the table of figures."""
    return {"title": title, "found": found, "aim": aim, "reached": reached}


def one_shard(tar: TrainTar, runs: int) -> list[Figure]:
    """Compare one large shard, which is written twice, with sixteen."""
    rows = []
    for words, spec in (
        ("short edge 480", "recordio:short_edge:480"),
        ("as they are", "recordio"),
    ):
        seconds: dict[int, list[float]] = {1: [], 16: []}
        for _ in range(runs):
            for shards, found in seconds.items():
                side = Side(ours.prepare("--format", spec, shards=shards), ours.records_in)
                found.append(run_side(side, tar).seconds)
                say(f"one_shard: {words}, {shards} shards {found[-1]:.1f} s")
        ratio = statistics.median(seconds[16]) / statistics.median(seconds[1])
        title = f"speed with `--shards 1` against `--shards 16`, {words}"
        rows.append(figure(title, f"{ratio:.2f}", "0.7", ratio >= 0.7))
    return rows


def index(_: TrainTar, runs: int) -> list[Figure]:
    """Index archives of 100,000 and 1,000,000 members of 0 to 100 bytes."""
    contents = [b"x" * (number * 7 % 101) for number in range(101)]
    medians: dict[int, float] = {}
    rows = []
    for members in (_FEW, _MANY):
        archive = many_members("index", members, contents)
        reports = [_index_once(archive) for _ in range(runs)]
        assert all(report["counts"]["train_images"] == members for report in reports)
        medians[members] = statistics.median(report["seconds"] for report in reports)
        speed = members / medians[members]
        peak = max(report["peak_bytes"] for report in reports) / _MB
        title = f"index of {members:,} members, one core, peak memory {peak:,.0f} MB"
        rows.append(figure(title, f"{speed:,.0f} members/s", "150,000", speed >= 150_000))
    growth = medians[_MANY] / medians[_FEW]
    title = f"time for {_MANY:,} members against {_FEW:,}"
    return [*rows, figure(title, f"{growth:.1f}", "at most 11", growth <= 11)]


def _index_once(archive: Path) -> Any:
    with _folder() as folder:
        warm_up(archive)
        os.sync()
        client, report_file = CLIENTS / "index_stage.py", folder / "report"
        command: list[str | Path] = [sys.executable, client, archive, folder, report_file]
        run([Step(command, folder, {"PYTHONPATH": str(ROOT / "include")})])
        report = json.loads(report_file.read_text())
        say(f"index: {report}")
        return report


def worker_memory(tar: TrainTar, _: int) -> list[Figure]:
    """Pack few and very many images and look at the largest packing process."""
    rows = []
    side = Side(ours.prepare("--format", "recordio:short_edge:480"), ours.records_in)
    peaks = {"of whole size": (tar.images, run_side(side, tar, watch=ours.WORKER))}
    for members in (10_000, _MANY):
        archive = many_members("small", members, _small_images())
        small = TrainTar(archive, members, "small images")
        peaks[f"of 16 pixels {members}"] = (members, run_side(side, small, watch=ours.WORKER))
    for words, (images, cost) in peaks.items():
        found = cost.workers_peak_bytes / _MB
        kind = words.rpartition(" ")[0] if words[-1].isdigit() else words
        title = f"largest packing process, {images:,} images {kind}"
        rows.append(figure(title, f"{found:,.0f} MB", "at most 250", 0 < found <= 250))
    return rows


def _small_images() -> list[bytes]:
    from PIL import Image  # noqa: PLC0415 (heavy)

    images = []
    for number in range(100):
        out = io.BytesIO()
        Image.new("RGB", (16, 16), (number, 2 * number, 255 - number)).save(out, "JPEG")
        images.append(out.getvalue())
    return images


def bytes_written(tar: TrainTar, _: int) -> list[Figure]:
    """Count what is written to disk for each byte of the finished version."""
    rows = []
    for words, options, aim in (
        ("one segment a shard", ("--shards", "0"), 1.02),
        ("one large shard", ("--shards", "1"), 2.02),
    ):
        sizes: list[int] = []

        def count(folder: Path, sizes: list[int] = sizes) -> int:
            sizes.append(ours.bytes_of(ours.version_of(folder)))
            return ours.records_in(folder)

        side = Side(ours.prepare("--format", "recordio", *options), count)
        ratio = run_side(side, tar).written_bytes / sizes[0]
        say(f"bytes_written: {words} {ratio:.3f}")
        title = f"bytes written for a byte of the version, {words}"
        rows.append(figure(title, f"{ratio:.3f}", f"at most {aim}", ratio <= aim))
    return rows


@contextmanager
def _folder() -> Iterator[Path]:
    folder = RUNS / f"{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


FIGURES: Mapping[str, Callable[[TrainTar, int], list[Figure]]] = {
    "one_shard": one_shard,
    "index": index,
    "worker_memory": worker_memory,
    "bytes_written": bytes_written,
}
"""Rows by name; each takes the archive and a number of runs."""
