"""Pack loose files into LitData chunks with litdata's own ``optimize``.

Run by the benchmark in an environment that holds litdata:
``litdata_pack.py TRAIN_FOLDER OUT_FOLDER WORKERS``.
"""

import random
import sys
from pathlib import Path

import litdata


def record(item: tuple[str, int]) -> dict[str, object]:
    """Return what is stored of one image."""
    path, label = item
    return {"image": Path(path).read_bytes(), "label": label}


def main(train: Path, out: Path, workers: int) -> None:
    """Write each image with its class, in shuffled order, in chunks of 64 MB."""
    labels = {folder.name: label for label, folder in enumerate(sorted(train.iterdir()))}
    files = sorted(train.glob("*/*.JPEG"))
    random.Random(100).shuffle(files)
    litdata.optimize(
        fn=record,
        inputs=[(str(file), labels[file.parent.name]) for file in files],
        output_dir=str(out),
        chunk_bytes="64MB",
        num_workers=workers,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
