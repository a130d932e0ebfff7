"""The usual recipes: untar, untar again, and ``valprep.sh`` or ``im2rec.py``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import VAL, VALPREP
from benchmarks.measure import Step
from benchmarks.venvs import python_of, site_packages

# As tutorials give it for the training archive of ILSVRC2012.
_UNTAR_CLASSES = """
find . -name '*.tar' | while read -r name; do
  mkdir -p "${name%.tar}" && tar xf "$name" -C "${name%.tar}" && rm -f "$name"
done
"""


def untar(archive: Path, folder: Path) -> list[Step]:
    """Return the steps that scatter the archive into ``train/<wnid>/*.JPEG`` below a folder."""
    train = folder / "train"
    train.mkdir(parents=True)
    return [
        Step(["tar", "xf", archive, "-C", train], folder, name="untar"),
        Step(["bash", "-euo", "pipefail", "-c", _UNTAR_CLASSES], train, name="untar classes"),
    ]


def imagefolder(archive: Path, folder: Path) -> list[Step]:
    """Return the steps that make ``train/<wnid>`` and ``val/<wnid>`` below a folder."""
    val = folder / "val"
    val.mkdir()
    return [
        *untar(archive, folder),
        Step(["tar", "xf", archive.with_name(VAL), "-C", val], folder, name="untar val"),
        Step(["bash", "-eu", archive.with_name(VALPREP)], val, name="valprep"),
    ]


def count_images(folder: Path) -> int:
    """Return how many images an ImageFolder of two splits holds."""
    return sum(1 for split in ("train", "val") for _ in (folder / split).glob("n*/*.JPEG"))


def im2rec(archive: Path, folder: Path, edge: int) -> list[Step]:
    """Return the whole recipe's steps: records in ``data.rec`` below a folder."""
    python = python_of("mxnet")
    tool = site_packages("mxnet") / "mxnet/tools/im2rec.py"
    settings = ["--resize", str(edge), "--quality", "90", "--num-thread", "2"]
    return [
        *untar(archive, folder),
        Step([python, tool, "--list", "--recursive", "data", "train"], folder, name="list"),
        Step([python, tool, *settings, "data", "train"], folder, name="im2rec"),
    ]


def packed(folder: Path) -> int:
    """Return how many records the recipe has made."""
    with (folder / "data.idx").open() as index:
        return sum(1 for _ in index)
