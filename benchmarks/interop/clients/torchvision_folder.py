"""torchvision's ImageFolder opens the loose files."""

import importlib.util
import sys
import types
from pathlib import Path

from expected import VERSION, name_of, rows_of, same, same_items, sha256, tell

try:
    from torchvision.datasets import ImageFolder
except RuntimeError:
    # Its compiled operators do not load beside another build of PyTorch; ImageFolder needs none
    # of them, so its own module is imported without the package around it.
    root = Path(importlib.util.find_spec("torchvision").origin).parent
    for name in ("torchvision", "torchvision.datasets"):
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        module.get_image_backend = lambda: "PIL"
        sys.modules[name] = module
    from torchvision.datasets.folder import ImageFolder

rows = rows_of("imagefolder")
dataset = ImageFolder(VERSION / "imagefolder/train")
same("classes", dataset.classes, sorted({row["wnid"] for row in rows}))
found = [
    (Path(path).name, label, sha256(Path(path).read_bytes())) for path, label in dataset.samples
]
same_items("files", found, [(name_of(row), row["label"], row["sha256"]) for row in rows])
sizes = sorted((image.size, label) for image, label in dataset)
same("sizes", sizes, sorted(((row["width"], row["height"]), row["label"]) for row in rows))
tell(f"{len(rows)} files of {len(dataset.classes)} classes")
