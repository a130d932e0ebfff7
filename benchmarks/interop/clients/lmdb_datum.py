"""lmdb and protobuf read the databases that Caffe and DIGITS open.

Messages after BVLC Caffe's ``caffe.proto``: field numbers and types of Datum and BlobProto.
"""

import io

import lmdb
import numpy as np
from expected import VERSION, name_of, rows_of, same, same_items, sha256, tell
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

FIELD = descriptor_pb2.FieldDescriptorProto
INT, BYTES, BOOL, FLOAT = FIELD.TYPE_INT32, FIELD.TYPE_BYTES, FIELD.TYPE_BOOL, FIELD.TYPE_FLOAT
MESSAGES = {
    "Datum": [("channels", 1, INT), ("height", 2, INT), ("width", 3, INT), ("data", 4, BYTES),
              ("label", 5, INT), ("float_data", 6, FLOAT), ("encoded", 7, BOOL)],
    "BlobProto": [("num", 1, INT), ("channels", 2, INT), ("height", 3, INT), ("width", 4, INT),
                  ("data", 5, FLOAT), ("diff", 6, FLOAT)],
}  # fmt: skip


def messages() -> dict:
    """Return the message classes, made from their descriptors."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="c", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            several = kind == FLOAT
            label = FIELD.LABEL_REPEATED if several else FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, type=kind, label=label)
            added.options.packed = several and name == "BlobProto"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"c.{name}"))
        for name in MESSAGES
    }


caffe = messages()
folder = VERSION / "lmdb"
rows = sorted(rows_of("lmdb"), key=lambda row: row["offset"])
found, total = [], 0
with lmdb.open(str(folder / "train_db"), readonly=True, lock=False).begin() as transaction:
    for key, value in transaction.cursor():
        datum = caffe["Datum"].FromString(value)
        same("encoded", (datum.encoded, datum.channels), (True, 3))
        pixels = np.asarray(Image.open(io.BytesIO(datum.data)).convert("RGB"))
        same("size", pixels.shape, (datum.height, datum.width, 3))
        total = total + pixels.astype(float)
        found.append((key.decode(), datum.label, sha256(datum.data)))
expected = [(f"{row['offset']:08d}_{row['label']}", row["label"], row["sha256"]) for row in rows]
same("records in order", found, expected)

same(
    "train.txt",
    (folder / "train.txt").read_text().splitlines(),
    [f"{row['wnid']}/{name_of(row)} {row['label']}" for row in rows],
)
classes = sorted({row["wnid"] for row in rows})
lines = (folder / "labels.txt").read_text().splitlines()
same("labels.txt", [line.split()[0] for line in lines], classes)

blob = caffe["BlobProto"].FromString((folder / "mean.binaryproto").read_bytes())
height, width = total.shape[:2]
same("mean's shape", (blob.num, blob.channels, blob.height, blob.width), (1, 3, height, width))
mean = np.array(blob.data).reshape(3, height, width)[::-1].transpose(1, 2, 0)
# It is the mean of the pixels before they were encoded, which differ a little one by one.
off = np.abs(mean - total / len(rows)).mean()
assert off < 1, f"the mean is off by {off:.2f} of 255"
drawn = np.asarray(Image.open(folder / "mean.jpg").convert("RGB"), float)
same("mean.jpg's shape", drawn.shape, total.shape)
assert np.abs(drawn - mean).mean() < 4, "mean.jpg shows something else"
same_items("files", [path.name for path in (folder / "train_db").iterdir()], ["data.mdb"])
tell(f"{len(rows)} messages, mean within {off:.2f} of 255, lmdb {lmdb.__version__}")
