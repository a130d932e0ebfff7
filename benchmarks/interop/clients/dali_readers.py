"""NVIDIA DALI's readers for MXNet, WebDataset, Caffe and files, on the CPU."""

from collections.abc import Callable
from functools import partial

from expected import VERSION, rows_of, same_items, sha256, skip, tell

try:
    from nvidia import dali
    from nvidia.dali import fn, pipeline_def, types
except (ImportError, OSError) as error:
    skip(f"DALI does not load here: {error}")


def shards(output: str, suffix: str) -> list[str]:
    """Return an output's files."""
    return sorted(map(str, (VERSION / output / "train").glob(f"*{suffix}")))


def mxnet(rec: str) -> tuple:
    """Read one file of records; this reader takes no more than one index."""
    return fn.readers.mxnet(path=rec, index_path=f"{rec[:-4]}.idx", name="reader")


def webdataset() -> tuple:
    """Read the shards by their index."""
    return fn.readers.webdataset(
        paths=shards("webdataset", ".tar"), index_paths=shards("webdataset", ".idx"),
        ext=["jpg", "cls"], name="reader",
    )  # fmt: skip


def caffe() -> tuple:
    """Read the database."""
    return fn.readers.caffe(path=str(VERSION / "lmdb/train_db"), name="reader")


def file() -> tuple:
    """Read the loose files."""
    return fn.readers.file(file_root=str(VERSION / "imagefolder/train"), name="reader")


def items(output: str, reader: Callable[[], tuple]) -> list[tuple]:
    """Read and decode an epoch; return label, digest and shape of each item."""

    @pipeline_def(batch_size=1, num_threads=2, device_id=None)
    def epoch() -> tuple:
        data, label = reader()
        image = fn.decoders.image(data, device="cpu", output_type=types.RGB)
        return data, label, image

    pipeline = epoch()
    pipeline.build()
    found = []
    for _ in range(pipeline.epoch_size("reader")):
        data, label, image = (part.at(0) for part in pipeline.run())
        number = int(bytes(label)) if output == "webdataset" else int(label[0])
        found.append((number, sha256(bytes(data)), image.shape))
    return found


READERS = {
    "recordio": [partial(mxnet, rec) for rec in shards("recordio", ".rec")],
    "webdataset": [webdataset],
    "lmdb": [caffe],
    "imagefolder": [file],
}
for output, readers in READERS.items():
    found = [item for reader in readers for item in items(output, reader)]
    expected = [
        (row["label"], row["sha256"], (row["height"], row["width"], 3)) for row in rows_of(output)
    ]
    same_items(f"items of {output}", found, expected)
tell(f"all of {', '.join(READERS)}; DALI {dali.__version__}")
