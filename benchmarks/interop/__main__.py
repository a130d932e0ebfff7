"""Let real clients open this project's output; exit with 1 when one of them finds it wrong.

A dataset is prepared by the command line in all formats. Each client runs in an environment of its
own below ``.bench`` and compares counts, labels and image bytes with ``records.parquet``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import recipe
from benchmarks.interop.dataset import FORMATS, prepared, prepared_whole
from benchmarks.measure import StepFailed, run
from benchmarks.places import CACHE, ROOT
from benchmarks.venvs import NotInstallable, python_of

_CLIENTS = ROOT / "benchmarks/interop/clients"
_WORK = CACHE / "interop"
_SKIPPED = 77
_EDGE = 128
Arguments = Callable[[], list[Path]]
_OK, _SKIP, _FAIL = "ok", "skipped", "FAILED"


@dataclass(frozen=True)
class Client:
    """A program that opens a version.

    Attributes:
        script: Its file in ``clients``.
        environment: What it runs in, of ``venvs.PACKAGES``.
        arguments: Prepares what it looks at and returns what it is called with.
    """

    script: str
    environment: str
    arguments: Arguments


def _all_formats() -> list[Path]:
    """Return version and expectations of a dataset in all formats, odd images among them."""
    options = [word for output in FORMATS for word in ("--format", output)]
    made = prepared(_WORK / "formats", options, odd=True)
    return [made.version, made.expected]


def _compat() -> list[Path]:
    """Return the same of a dataset drawn as im2rec draws, and im2rec's own records beside it."""
    output = f"recordio:short_edge:{_EDGE}"
    made = prepared(_WORK / "compat", ["--format", output, "--im2rec-compat"], odd=False)
    theirs = _WORK / "im2rec"
    run(recipe.im2rec(made.archive, theirs, _EDGE))
    return [made.version, made.expected, theirs / "data.rec"]


def _loose_files() -> list[Path]:
    """Return the same of loose files made from all archives of the set, with their meta.bin."""
    made = prepared_whole(_WORK / "loose", ["--format", "imagefolder"])
    return [made.version, made.expected]


CLIENTS = {
    "mxnet": Client("mxnet_records.py", "mxnet", _all_formats),
    "im2rec-compat": Client("im2rec_pixels.py", "mxnet", _compat),
    "webdataset": Client("webdataset_loader.py", "torch", _all_formats),
    "torch": Client("torch_records.py", "torch", _all_formats),
    "training.md": Client("training_page.py", "torch", _all_formats),
    "torchvision": Client("torchvision_folder.py", "torch", _all_formats),
    "meta.bin": Client("torchvision_imagenet.py", "torch", _loose_files),
    "lmdb": Client("lmdb_datum.py", "lmdb", _all_formats),
    "dali": Client("dali_readers.py", "dali", _all_formats),
}


def main() -> int:
    """Run the clients and print a line each."""
    parser = argparse.ArgumentParser(prog="scripts/interop", description=__doc__)
    names = ", ".join(CLIENTS)
    parser.add_argument(
        "--only", action="append", choices=CLIENTS, metavar="CLIENT",
        help=f"one of {names}; may be given several times",
    )  # fmt: skip
    args = parser.parse_args()
    shutil.rmtree(_WORK, ignore_errors=True)
    states = []
    made: dict[Arguments, list[Path] | StepFailed] = {}
    for name in args.only or CLIENTS:
        state, detail = _try(CLIENTS[name], made)
        sys.stdout.write(f"{name:14} {state}: {detail}\n")
        sys.stdout.flush()
        states.append(state)
    return 1 if _FAIL in states else 0


def _try(client: Client, made: dict[Arguments, list[Path] | StepFailed]) -> tuple[str, str]:
    try:
        python = python_of(client.environment)
    except NotInstallable as error:
        return _SKIP, str(error)
    if client.arguments not in made:
        try:
            made[client.arguments] = client.arguments()
        except StepFailed as error:
            made[client.arguments] = error
    arguments = made[client.arguments]
    if isinstance(arguments, StepFailed):
        return _FAIL, f"what it looks at could not be made: {_last_line(str(arguments))}"
    done = subprocess.run(
        [python, _CLIENTS / client.script, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "include")},
    )
    said = done.stdout if done.returncode in (0, _SKIPPED) else done.stderr
    state = {0: _OK, _SKIPPED: _SKIP}.get(done.returncode, _FAIL)
    if state == _FAIL:
        sys.stderr.write(said)
    return state, _last_line(said)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main())
