"""Pack loose files into WebDataset shards with webdataset's own ShardWriter.

Run by the benchmark in an environment that holds webdataset:
``webdataset_pack.py TRAIN_FOLDER OUT_FOLDER SHARDS``.
"""

import random
import sys
from pathlib import Path

import webdataset


def main(train: Path, out: Path, shards: int) -> None:
    """Write each image with its class under a key of its own, in shuffled order."""
    labels = {folder.name: label for label, folder in enumerate(sorted(train.iterdir()))}
    files = sorted(train.glob("*/*.JPEG"))
    random.Random(100).shuffle(files)
    out.mkdir()
    size = -(-len(files) // shards)
    with webdataset.ShardWriter(f"{out}/train-%05d.tar", maxcount=size, verbose=0) as writer:
        for file in files:
            writer.write(
                {
                    "__key__": f"{file.parent.name}/{file.stem}",
                    "jpg": file.read_bytes(),
                    "cls": labels[file.parent.name],
                }
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
