"""Measure this project against the usual recipe and its peers; see docs/performance.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from importlib.metadata import version

from benchmarks.compare import COMPARISONS, compare, say
from benchmarks.data import train_tar
from benchmarks.figures import FIGURES
from benchmarks.measure import StepFailed
from benchmarks.places import PAGE, ROOT, RUNS
from benchmarks.table import about, keep, kept, tables, write_page
from benchmarks.venvs import NotInstallable, versions

_PEERS = {
    "mxnet": ("mxnet", "opencv-python-headless"),
    "webdataset": ("webdataset",),
    "litdata": ("litdata",),
}
_PEER_OF = {"webdataset": "webdataset", "litdata": "litdata", "imagefolder": ""}
_OWN = ("numpy", "pyarrow", "pillow", "simplejpeg", "cykooz-resizer")


def main() -> int:
    """Measure the rows that were asked for and write them into the page."""
    args = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what is being measured, too
    shutil.rmtree(RUNS, ignore_errors=True)
    tar = train_tar(args.copies)
    failed = []
    for name in args.only or [*COMPARISONS, *FIGURES]:
        peer = _PEER_OF.get(name.partition("_")[0], "mxnet")
        try:
            if name in COMPARISONS:
                used = _versions(peer)
                keep(name, compare(name, tar, args.runs), about(tar.source, args.runs, used))
            else:
                found = FIGURES[name](tar, args.runs)
                keep(name, found, about(tar.source, args.runs, _versions("")))
        except (StepFailed, NotInstallable) as error:
            say(f"{name}: {error}")
            failed.append(name)
            continue
        finally:
            shutil.rmtree(RUNS, ignore_errors=True)
        write_page()
    sys.stdout.write(tables(kept()) + "\n")
    say(f"written to {PAGE.relative_to(ROOT)}")
    if failed:
        say(f"not measured: {', '.join(failed)}")
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__)
    names = [*COMPARISONS, *FIGURES]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="ROW",
        help=f"measure only this row; may be given several times; one of {', '.join(names)}",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="(default: 3)")
    parser.add_argument(
        "--copies", type=int, default=10, metavar="N",
        help="copies of each of the 500 images in the archive (default: 10)",
    )  # fmt: skip
    return parser.parse_args()


def _versions(peer: str) -> dict[str, str]:
    found = {name: version(name) for name in _OWN}
    if peer:
        installed = versions(peer)
        found |= {name: installed[name] for name in _PEERS[peer]}
    return found


if __name__ == "__main__":
    sys.exit(main())
