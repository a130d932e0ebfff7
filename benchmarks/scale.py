"""Full ImageNet's 14.2 million rows through filter, split, shuffle and plan; two groups packed.

Behind the rows stands a small archive of thumbnails, whose members they lead to in turn, so that
what is planned can really be packed. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.clients import scale_stages
from benchmarks.compare import say
from benchmarks.data import TrainTar
from benchmarks.figures import Figure, figure, index
from benchmarks.measure import Cost, Step, run
from benchmarks.places import CLIENTS, PYCACHE, ROOT, RUNS
from imagenet_etl.selection import groups_of

_ROWS, _TENTH = 14_200_000, 1_420_000
_MB, _GIB = 1e6, 1 << 30
_ENV = {"PYTHONPATH": f"{ROOT / 'include'}", "PYTHONPYCACHEPREFIX": str(PYCACHE)}
_NOTHING = TrainTar(Path(), 0, "")


def main() -> int:
    """Measure and print; the exit code tells whether every aim is reached."""
    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1000), metavar="N",
                        help="decides which groups are packed")  # fmt: skip
    args = parser.parse_args()
    shutil.rmtree(RUNS, ignore_errors=True)
    folder = RUNS / "scale"
    folder.mkdir(parents=True)
    try:
        figures = _measured(folder, random.Random(args.seed))
    finally:
        shutil.rmtree(RUNS, ignore_errors=True)
    figures += index(_NOTHING, 1)
    rows = [f"| {one['title']} | {one['found']} | {one['aim']} |\n" for one in figures]
    sys.stdout.write("".join(["| | Found | Aim |\n|---|--:|--:|\n", *rows]))
    return 0 if all(one["reached"] for one in figures) else 1


def _measured(folder: Path, rng: random.Random) -> list[Figure]:
    archive = folder / "fall11_whole.tar"
    run([_command("sample", "imagenet_fall11", "--out", archive, "--classes", "40", "--train",
                  "200")])  # fmt: skip
    few, _ = _planned(archive, folder, _TENTH)
    shutil.rmtree(folder / f"data-{_TENTH}")
    report, seconds = _planned(archive, folder, _ROWS)
    peak, growth = report["peak_bytes"], seconds / sum(few["seconds"].values())
    counts = report["counts"]
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in report["seconds"].items())
    figures = [
        figure(f"{_ROWS:,} rows: {stages}", f"{seconds:.0f} s", "at most 600 s", seconds <= 600),
        figure("peak memory of the same", f"{peak / _MB:,.0f} MB", "at most 2 GiB",
               peak <= 2 * _GIB),
        figure(f"time for {_ROWS:,} rows against {_TENTH:,}", f"{growth:.1f}", "at most 12",
               growth <= 12),
    ]  # fmt: skip
    images = counts["train_images"] + counts["val_images"]
    groups = len(groups_of(counts["segments"], images))
    for number in sorted(rng.sample(range(1, groups + 1), 2)):
        images, cost = _packed_group(archive, folder, f"{number}/{groups}")
        speed = f"{images / cost.seconds:,.0f} images/s"
        title = f"group {number} of {groups} packed: {images:,} thumbnails"
        figures.append(figure(title, speed, "", images > 0))
    return figures


def _planned(archive: Path, folder: Path, rows: int) -> tuple[dict[str, Any], float]:
    data, report_file = folder / f"data-{rows}", folder / "report"
    for what in ("plant", "plan"):
        command = [sys.executable, CLIENTS / "scale_stages.py", what, archive, data, str(rows),
                   report_file]  # fmt: skip
        run([Step(command, folder, _ENV)])
        report = json.loads(report_file.read_text())
        say(f"scale: {what} {rows:,} rows: {report}")
    return report, sum(report["seconds"].values())


def _packed_group(archive: Path, folder: Path, group: str) -> tuple[int, Cost]:
    """Pack one group by the command line; return how many images its segments' receipts count."""
    data = folder / f"data-{_ROWS}"
    before = _images_in(data)
    options = scale_stages.command_line(archive, data)
    cost = run([_command("pack", *options, "--group", group)])
    return _images_in(data) - before, cost


def _images_in(data: Path) -> int:
    receipts = data.glob("work/imagenet_fall11/pack/*/segments/*.json")
    return sum(json.loads(path.read_text())["counts"]["packed"] for path in receipts)


def _command(*words: str | Path) -> Step:
    return Step([sys.executable, "-m", "imagenet_etl", *words], ROOT, _ENV)


if __name__ == "__main__":
    sys.exit(main())
