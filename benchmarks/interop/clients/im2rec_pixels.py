"""Compare ``--im2rec-compat`` with im2rec's own records: keys, labels, sizes, pixels."""

import sys
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
from expected import VERSION, rows_of, same, tell

LEAST_DB = 36.0


def records(rec: Path) -> dict:
    """Return label and pixels by key."""
    index = mx.recordio.MXIndexedRecordIO(str(rec.with_suffix(".idx")), str(rec), "r")
    found = {}
    for key in index.keys:
        header, image = mx.recordio.unpack(index.read_idx(key))
        found[key] = float(header.label), cv2.imdecode(np.frombuffer(image, np.uint8), 1)
    return found


theirs = records(Path(sys.argv[3]))
ours: dict = {}
for shard in sorted((VERSION / "recordio/train").glob("*.rec")):
    ours |= records(shard)
same("keys", sorted(ours), sorted(theirs))
same("rows", len(rows_of("recordio")), len(ours))
ratios = []
for key, (label, pixels) in theirs.items():
    same(f"label of {key}", ours[key][0], label)
    same(f"size of {key}", ours[key][1].shape, pixels.shape)
    error = np.square(ours[key][1].astype(float) - pixels).mean()
    ratios.append(10 * np.log10(255**2 / max(error, 1e-9)))
worst = min(ratios)
assert worst >= LEAST_DB, f"PSNR {worst:.1f} dB is under {LEAST_DB}"
tell(f"{len(ratios)} images, PSNR at least {worst:.1f} dB, mean {np.mean(ratios):.1f} dB")
