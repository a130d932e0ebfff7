"""The library webdataset reads the shards: raw, and a whole decoded epoch through WebLoader."""

from collections import Counter

import webdataset as wds
from expected import VERSION, name_of, rows_of, same, same_items, sha256, tell

rows = rows_of("webdataset")
shards = sorted(map(str, (VERSION / "webdataset/train").glob("*.tar")))

raw = wds.WebDataset(shards, shardshuffle=False)
found = [(s["__key__"], int(s["cls"]), sha256(s["jpg"])) for s in raw]
expected = [
    (f"{row['wnid']}/{name_of(row).rpartition('.')[0]}", row["label"], row["sha256"])
    for row in rows
]
same_items("samples", found, expected)

decoded = wds.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg", "cls")
loader = wds.WebLoader(decoded, batch_size=None, num_workers=2)
sizes: Counter = Counter()
for image, label in loader:
    sizes[image.size, image.mode, label] += 1
same(
    "sizes and classes of an epoch",
    sizes,
    Counter(((row["width"], row["height"]), "RGB", row["label"]) for row in rows),
)
tell(f"{len(rows)} samples of {len(shards)} shards, webdataset {wds.__version__}")
