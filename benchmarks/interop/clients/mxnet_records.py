"""MXNet reads the records: by index, one after the other, and through its training iterator."""

from collections import Counter

import mxnet as mx
from expected import VERSION, rows_of, same, same_items, sha256, tell

rows = rows_of("recordio")
shards = sorted((VERSION / "recordio/train").glob("*.rec"))
same("shards", {shard.name for shard in shards}, {row["shard"] for row in rows})

found = []
for shard in shards:
    index = mx.recordio.MXIndexedRecordIO(str(shard.with_suffix(".idx")), str(shard), "r")
    for key in index.keys:
        header, image = mx.recordio.unpack(index.read_idx(key))
        same("key in the record", header.id, key)
        found.append((shard.name, key, float(header.label), sha256(image)))
same_items(
    "records by index",
    found,
    [(row["shard"], row["key"], float(row["label"]), row["sha256"]) for row in rows],
)

in_turn = []
for shard in shards:
    stream = mx.recordio.MXRecordIO(str(shard), "r")
    while (record := stream.read()) is not None:
        in_turn.append(sha256(mx.recordio.unpack(record)[1]))
same_items("records in turn", in_turn, [row["sha256"] for row in rows])

labels: Counter = Counter()
for shard in shards:
    batches = mx.io.ImageRecordIter(
        path_imgrec=str(shard),
        path_imgidx=str(shard.with_suffix(".idx")),
        data_shape=(3, 64, 64),
        resize=64,
        batch_size=4,
        preprocess_threads=2,
        shuffle=False,
    )
    for batch in batches:
        whole = batch.data[0].shape[0] - batch.pad
        labels.update(batch.label[0].asnumpy()[:whole].astype(int).tolist())
        same(
            "black images",
            bool((batch.data[0].asnumpy()[:whole].max(axis=(1, 2, 3)) == 0).any()),
            False,
        )
same("labels of ImageRecordIter", labels, Counter(row["label"] for row in rows))
tell(f"{len(rows)} records of {len(shards)} shards, MXNet {mx.__version__}")
