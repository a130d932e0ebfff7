"""The command line of ``scripts/cluster``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from cluster.guard import guarded, say
from cluster.keeper import kept
from cluster.processes import ClusterError
from cluster.runs import Run
from cluster.services import missing_packages
from cluster.topology import Cluster

_RUN_S = 24 * 3600.0
_TEST_S = 9 * 60.0
"""It takes about four minutes; whatever it waits for, CI does not hang."""


def main() -> int:
    """Start the cluster and do what is asked for; everything is gone afterwards."""
    args = _arguments()
    missing = missing_packages()
    if missing:
        sys.stderr.write(f"cluster: missing: apt-get install {' '.join(missing)}\n")
        return 1
    if args.test:
        from cluster.proofs import prove

        return kept(lambda folder: guarded(lambda: prove(folder), folder, _TEST_S))
    return kept(lambda folder: guarded(lambda: _run(args, folder), folder))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--run", metavar="DAG", help="run a DAG, print its tasks, and stop")
    what.add_argument("--test", action="store_true", help="prove that killed workers lose nothing")
    parser.add_argument("--conf", default={}, type=json.loads, metavar="JSON",
                        help="the form's values, with --run")  # fmt: skip
    parser.add_argument("--data-dir", default="", metavar="PLACE",
                        help="folder or s3:// prefix (default: one that is removed)")  # fmt: skip
    parser.add_argument("--workers", default=2, type=int, metavar="N", help="(default: 2)")
    args = parser.parse_args()
    if args.conf and not args.run:
        parser.error("--conf goes with --run")
    return args


def _run(args: argparse.Namespace, folder: Path) -> int:
    place = args.data_dir or str(folder / "data")
    cluster = Cluster(folder, place, workers=args.workers)
    say(f"starting Postgres, Redis, Airflow and {args.workers} workers (logs: {cluster.logs})")
    cluster.start()
    cluster.share(place)
    say(f"Airflow at {cluster.url}, data in {place}")
    if args.run:
        return _run_dag(cluster, args)
    say("stop with Ctrl-C")
    while True:
        time.sleep(3600)


def _run_dag(cluster: Cluster, args: argparse.Namespace) -> int:
    run = Run(cluster.api, args.run, args.conf)
    try:
        run.wait(_RUN_S)
    except ClusterError as error:
        say(str(error))
        return 1
    say(run.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
