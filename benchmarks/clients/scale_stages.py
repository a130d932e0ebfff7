"""Plant an index of very many images, or plan them, and say what that took.

Run by the benchmark: ``scale_stages.py plant|plan ARCHIVE DATA_DIR ROWS REPORT``. ``plant`` makes
the index that the archive's members stand for, taken in turn; ``plan`` runs the stages that follow
it, and writes the list files.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.listing import MEMBERS
from imagenet_etl.archives.location import archives_of, open_archive
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.index import SIDE_FILES
from imagenet_etl.leases import Owner
from imagenet_etl.lists import write_lists
from imagenet_etl.pipeline import run_stage, run_stage_as
from imagenet_etl.receipts import Output
from imagenet_etl.samples.synthetic_index import write_synthetic_index
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import write_batches

ROWS_A_CLASS = 650  # 14,197,122 images in 21,841 classes
RUN = "scale"
SHARD_MIB = 10  # of thumbnails: as many images as a GiB of photographs


def no_aws(service: str) -> NoReturn:
    """Refuse: nothing here is in the cloud."""
    raise RuntimeError(service)


OPTIONS = {
    "expect": "any",
    "min_images_per_class": 501,
    "val_images_per_class": 50,
    "shard_mib": SHARD_MIB,
    "val_shards": 0,
}


def command_line(archive: Path, data_dir: Path) -> list[str]:
    """Return the options of the command line that ask for the same; one run with ``plan``."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    places = [f"--data-dir={data_dir}", f"--source={archive}", f"--run={RUN}"]
    return ["imagenet_fall11", *places, *given]


def main(what: str, archive: Path, data_dir: Path, rows: int, report: Path) -> None:
    """Do one of the two and write the report as JSON."""
    settings = Settings(
        dataset="imagenet_fall11",
        data_dir=str(data_dir),
        sources={archive.name: str(archive)},
        **OPTIONS,
    )
    with new_build(settings, Owner(f"cli-{RUN}", what), no_aws).locked(hand_on=True) as build:
        found = _planted(build, rows) if what == "plant" else _planned(build, data_dir / "lists")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    report.write_text(json.dumps(found | {"peak_bytes": peak}))


def _planted(build: Build, rows: int) -> dict[str, Any]:
    run_stage(build, "download")

    def synthetic(place: Place) -> Result:
        path = place.scratch()
        sizes = write_synthetic_index(path, rows, rows // ROWS_A_CLASS, _members(place))
        return Result({"train_images": rows, "classes": len(sizes)},
                      (place.publish("images.parquet", path), _no_side_files(place)))  # fmt: skip

    return {"counts": run_stage_as(build, "untar", synthetic).counts}


def _members(place: Place) -> pa.Table:
    (ref,) = archives_of(place.done["download"]).values()
    with open_archive(place.build.storage, ref) as archive:
        tables = list(Sorter(place.build.facts, ref.name).images(archive))
    return pa.concat_tables(tables).select(MEMBERS.names)


def _no_side_files(place: Place) -> Output:
    path = place.scratch()
    write_batches(path, SIDE_FILES, [])
    return place.publish("side_files.parquet", path)


def _planned(build: Build, lists: Path) -> dict[str, Any]:
    seconds = {}
    for name in ("filter_classes", "split_val", "plan_shards"):
        seconds[name], outcome = _timed(lambda name=name: run_stage(build, name))
    seconds["lists"], files = _timed(lambda: write_lists(build, lists))
    return {"seconds": seconds, "counts": outcome.receipt.counts, "lists": files}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
