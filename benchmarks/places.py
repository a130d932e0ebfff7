"""Where the benchmarks keep their things: below ``.bench``, which git ignores."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".bench"
DATA = CACHE / "data"
VENVS = CACHE / "venvs"
RUNS = CACHE / "runs"
PYCACHE = CACHE / "pycache"
RESULTS = CACHE / "results.json"
CLIENTS = ROOT / "benchmarks/clients"
PAGE = ROOT / "docs/performance.md"
SAMPLES = ROOT.parent / "shared/data/imagenet-samples.tar"
