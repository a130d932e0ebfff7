"""The dataset under PyTorch's own loader, in whichever Python has PyTorch."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagenet_etl.errors import ConfigError
from imagenet_etl.readers import open_records
from imagenet_etl.samples.images import generated_jpeg

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "include")}
HAS_TORCH = importlib.util.find_spec("torch") is not None

LOADER = """
import io, json, sys
import numpy as np, torch
from PIL import Image
from imagenet_etl.errors import RecordError
from imagenet_etl.readers import RecordIoDataset, open_records

def tensor(image):
    return torch.from_numpy(np.asarray(image.resize((8, 8))).copy())

def width(data):
    return Image.open(io.BytesIO(data)).width

def main(folder):
    dataset = RecordIoDataset(folder, tensor)
    assert isinstance(dataset, torch.utils.data.Dataset)
    found = {}
    for context in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=2, num_workers=2, multiprocessing_context=context
        )
        batches = list(loader)
        found[context] = [label for _, labels in batches for label in labels.tolist()]
        found["shapes"] = [list(images.shape) for images, _ in batches]
    found["part"] = [label for _, label in RecordIoDataset(open_records(folder).shard(1, 2))]
    found["widths"] = [item for item, _ in RecordIoDataset(folder, decode=width)]
    try:
        list(torch.utils.data.DataLoader(RecordIoDataset(folder, decode=refuse), num_workers=1))
    except RecordError as error:
        found["error"] = str(error)
    print(json.dumps(found))

def refuse(data):
    raise OSError("broken file")

if __name__ == "__main__":
    main(sys.argv[1])
"""


def python_with_torch():
    """Return the Python that has PyTorch: this one, or the one that scripts/interop has made."""
    if HAS_TORCH:
        return sys.executable
    python = ROOT / ".bench/venvs/torch/bin/python"
    if not python.exists():
        pytest.skip("PyTorch is neither here nor in .bench, where scripts/interop puts it")
    return str(python)


@pytest.fixture
def train(pack):
    edges = (40, 48, 56, 64, 72)
    records = [(key, generated_jpeg(key, edge)) for key, edge in enumerate(edges)]
    pack("train_00000", records[:3])
    return pack("train_00001", records[3:]).parent


def test_loaders_of_forked_and_spawned_workers_give_every_image(train, tmp_path):
    script = tmp_path / "loader.py"
    script.write_text(LOADER)
    done = subprocess.run(
        [python_with_torch(), script, train],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["fork"] == found["spawn"] == [0, 1, 2, 0, 1]
    assert found["shapes"] == [[2, 8, 8, 3], [2, 8, 8, 3], [1, 8, 8, 3]]
    assert found["part"] == [2, 0, 1]
    assert found["widths"] == [40, 48, 56, 64, 72]
    assert "image with key 0" in found["error"]
    assert "broken file" in found["error"]


@pytest.mark.skipif(HAS_TORCH, reason="PyTorch is here")
def test_without_pytorch_the_error_says_so(train):
    from imagenet_etl.readers import RecordIoDataset

    with pytest.raises(ConfigError, match=r"PyTorch, which is not installed\. pip install torch"):
        RecordIoDataset(train)


def test_readers_alone_do_not_import_torch(train):
    code = "import sys, imagenet_etl.readers; print('torch' in sys.modules)"
    done = subprocess.run(
        [python_with_torch(), "-c", code],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.stdout.strip() == "False", done.stderr


def test_an_unknown_name_is_refused():
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from imagenet_etl.readers import Nothing  # noqa: F401


def test_a_reader_needs_no_dataset(train):
    assert [record.key for record in open_records(train)] == [0, 1, 2, 3, 4]
