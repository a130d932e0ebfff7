"""Back 10,000 files up to a loopback S3 server, by ``aws s3 sync`` and by this project, in turn.

The server is ``rclone serve s3`` in a process of its own. Each side runs twice on an empty bucket
prefix: the second run finds everything there. The AWS CLI compares size and time; this project
compares a listing's ETags with those it found by HEAD after it had sent them, or, on a machine that
has sent nothing (``other_machine``), asks for each object's SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.rclone_server import rclone_server

from benchmarks.compare import say
from benchmarks.measure import Cost, Step, run
from benchmarks.places import CLIENTS, DATA, ROOT, RUNS
from benchmarks.venvs import python_of

LEAST = {"first": 0.9, "second": 1.0}
"""How many times the speed of ``aws s3 sync`` is aimed at."""

_BUCKET = "backups"
_FOLDER = 100


def data_of(files: int, size: int) -> Path:
    """Return a data folder that holds a version ``v1`` of random files; made when it is missing."""
    folder = DATA / f"backup-{files}-{size}"
    listed = folder / "digests.json"
    if listed.exists():
        return folder
    version = folder / "datasets/tiny_imagenet/v1"
    rows = []
    for number in range(files):
        content = os.urandom(size)
        name = f"{number // _FOLDER:04d}/{number:06d}.bin"
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append([name, size, hashlib.sha256(content).hexdigest()])
    manifest = json.dumps(rows).encode()
    (version / "manifest.json").write_bytes(manifest)
    rows.append(["manifest.json", len(manifest), hashlib.sha256(manifest).hexdigest()])
    listed.write_text(json.dumps(rows))
    return folder


def compare_backups(data: Path, runs: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds of each run by step and side; both sides take turns, on one server each."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for _ in range(runs):
        for side, steps in (("aws", ("first", "second")),
                            ("ours", ("first", "second", "other_machine"))):  # fmt: skip
            _forget(data)
            # A server of its own: neither side shall find the other's memory, or disk, in use.
            with rclone_server() as server:
                server.bucket(_BUCKET)
                env = server.environment() | {"AWS_EC2_METADATA_DISABLED": "true"}
                for step in steps:
                    if step == "other_machine":
                        _forget(data)
                    cost = _timed(_command(side, data), data, env)
                    seconds.setdefault(step, {}).setdefault(side, []).append(cost.seconds)
                    say(f"backup {step}: {side} {cost.seconds:.1f} s, cpu {cost.cpu_seconds:.1f} s")
    _forget(data)
    return seconds


def _command(side: str, data: Path) -> Sequence[str | Path]:
    uri = f"s3://{_BUCKET}/{side}"
    if side == "ours":
        return [sys.executable, CLIENTS / "backup_stage.py", data, uri]
    version = data / "datasets/tiny_imagenet/v1"
    return [python_of("awscli"), "-m", "awscli", "s3", "sync", "--only-show-errors", version, uri]


def _timed(command: Sequence[str | Path], data: Path, env: dict[str, str]) -> Cost:
    os.sync()  # what earlier runs have left to write is not this one's burden
    return run([Step(command, data, env | {"PYTHONPATH": str(ROOT / "include")})])


def _forget(data: Path) -> None:
    """Make the data folder one that has backed nothing up."""
    with suppress(FileNotFoundError):
        shutil.rmtree(data / "work")


def main() -> int:
    """Measure, print the ratios, and fail when one is below its aim."""
    parser = argparse.ArgumentParser(prog="scripts/bench backup", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="(default: 3)")
    parser.add_argument("--files", type=int, default=10_000, metavar="N", help="(default: 10000)")
    parser.add_argument(
        "--bytes", type=int, default=200_000, metavar="N", help="of each file (default: 200000)"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    RUNS.mkdir(parents=True, exist_ok=True)
    seconds = compare_backups(data_of(args.files, args.bytes), args.runs)
    short = False
    for step, least in LEAST.items():
        aws, ours = (statistics.median(seconds[step][side]) for side in ("aws", "ours"))
        short |= aws / ours < least
        sys.stdout.write(
            f"{step} run: aws s3 sync {aws:.1f} s, ours {ours:.1f} s: {aws / ours:.2f}x "
            f"(aim {least}x)\n"
        )
    other = statistics.median(seconds["other_machine"]["ours"])
    sys.stdout.write(f"unchanged run on a machine that has sent nothing: ours {other:.1f} s\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
