"""Index an archive with this project and say how long that took.

Run by the benchmark: ``index_stage.py ARCHIVE DATA_DIR REPORT``. The time is that of the stage
``untar`` whole: the walk, all checks, the table and its receipt; not that of starting Python.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import NoReturn

from imagenet_etl.build import new_build
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage


def no_aws(service: str) -> NoReturn:
    """Refuse: nothing here is in the cloud."""
    raise RuntimeError(service)


def main(archive: Path, data_dir: Path, report: Path) -> None:
    """Run the stages up to ``untar`` on one core and write the report as JSON."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    settings = Settings(
        dataset="ilsvrc2012",
        data_dir=str(data_dir),
        sources={archive.name: str(archive)},
        expect="any",
    )
    with new_build(settings, Owner("benchmark"), no_aws).locked() as build:
        run_stage(build, "download")
        started = time.perf_counter()
        counts = run_stage(build, "untar").receipt.counts
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    report.write_text(json.dumps({"seconds": seconds, "peak_bytes": peak, "counts": counts}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
