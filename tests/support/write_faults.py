"""A build whose n-th write or sync fails, in a process of its own that preloads the faults.

Run as a module: ``python -m tests.support.write_faults FOLDER KIND STEP`` packs and assembles the
build in FOLDER again and again, each time from the same plan, and fails one call later each time;
it prints one JSON line a case.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

KINDS = {"full": 1, "broken": 2, "short": 3}
_SOURCE = Path(__file__).with_suffix(".c")


def faulty_environment(folder: Path, root: Path) -> dict[str, str]:
    """Compile the faults into ``folder`` and return what makes a process suffer them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    library, plan = folder / "write_faults.so", folder / "write_faults.plan"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(_SOURCE)]
    subprocess.run([*command, "-ldl"], check=True)
    plan.write_bytes(bytes(24))
    return {
        "LD_PRELOAD": str(library),
        "WRITE_FAULT_PLAN": str(plan),
        "WRITE_FAULT_ROOT": str(root.resolve()),
    }


def every_write_fails_once(folder: Path, kind: str, step: int = 1) -> list[dict[str, Any]]:
    """Return what became of each case; ``folder/data`` holds a build up to its plan.

    Args:
        folder: Its parent, as ``tests.support.archives.build_of`` takes it.
        kind: Of ``KINDS``.
        step: Every how many calls one fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder), kind, str(step)],
        env=os.environ | faulty_environment(folder, folder / "data"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _drive(folder: Path, kind: str, step: int) -> None:
    # Each case is a fork, which need not import anything then.
    for name in ("assembly", "pack_worker", "pipeline"):
        importlib.import_module(f"imagenet_etl.{name}")
    for name in ("archives", "packing_here"):
        importlib.import_module(f"tests.support.{name}")
    with Path(os.environ["WRITE_FAULT_PLAN"]).open("r+b") as file:
        plan = mmap.mmap(file.fileno(), 24)
    _plan(plan, 0, 0)
    case = _case(folder)
    assert case["error"] is None, case
    calls = struct.unpack_from("<q", plan)[0]
    shutil.rmtree(_pack_folder(folder))
    for call in range(1, calls + 1, step):
        _plan(plan, call, KINDS[kind])
        told = _case(folder)
        _plan(plan, 0, 0)
        print(json.dumps({"call": call, "of": calls} | told), flush=True)
        assert _case(folder)["error"] is None, "the next run has to succeed"
        print(json.dumps({"call": call, "of": calls, "after": _digests(folder)}), flush=True)
        shutil.rmtree(_pack_folder(folder))


def _plan(plan: mmap.mmap, call: int, kind: int) -> None:
    struct.pack_into("<qqq", plan, 0, 0, call, kind)


def _case(folder: Path) -> dict[str, Any]:
    """Pack in a fork of this process, which has imported everything."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told: dict[str, Any] = {"error": None}
        try:
            _pack(folder)
        except Exception as error:  # noqa: BLE001 - it is what the test is about
            told = {"error": type(error).__name__, "text": str(error)}
            told["trace"] = traceback.format_exc()
        told["staging"] = [p.name for p in (folder / "data/.staging").glob("*")]
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def _pack(folder: Path) -> None:
    """Do what ``pack`` does, with the worker's code in this process."""
    from tests.support.archives import ARCHIVE, build_of
    from tests.support.packing_here import pack_here

    build = build_of(folder, folder / "site" / ARCHIVE, **SETTINGS)
    with build.locked() as build:
        pack_here(build)


def _pack_folder(folder: Path) -> Path:
    return folder / "data/work/tiny_imagenet/pack"


def _digests(folder: Path) -> dict[str, str]:
    from imagenet_etl.files import hash_file

    tree = next(_pack_folder(folder).glob("*/tree"))
    return {
        path.relative_to(tree).as_posix(): hash_file(path, "sha256")["sha256"]
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }


SETTINGS: dict[str, Any] = {
    "formats": ("recordio", "lmdb:squash:16x16:upscale", "webdataset", "imagefolder"),
    "shards": 2,
    "version": "v1",
}

if __name__ == "__main__":
    _drive(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
