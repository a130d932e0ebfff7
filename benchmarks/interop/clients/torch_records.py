"""PyTorch's DataLoader trains from this project's RecordIoDataset, without MXNet."""

from collections import Counter

import numpy as np
import torch
from expected import VERSION, rows_of, same, tell

from imagenet_etl.readers import RecordIoDataset


def tensor(image: object) -> torch.Tensor:
    """Return the image at a common size."""
    return torch.from_numpy(np.asarray(image.resize((32, 32))).copy())


def main() -> None:
    """Read an epoch with forked and one with spawned workers."""
    rows = rows_of("recordio")
    dataset = RecordIoDataset(VERSION / "recordio/train", tensor)
    same("length", len(dataset), len(rows))
    for context in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=4, shuffle=True, num_workers=2, multiprocessing_context=context
        )
        labels: Counter = Counter()
        for images, classes in loader:
            same("shape", tuple(images.shape[1:]), (32, 32, 3))
            labels.update(classes.tolist())
        same(f"labels of a {context} epoch", labels, Counter(row["label"] for row in rows))
    tell(f"{len(rows)} records, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
