"""torchvision's ImageNet opens the loose files with their meta.bin."""

import importlib.util
import sys
import types
from pathlib import Path

import torch
from expected import VERSION, name_of, rows_of, same, same_items, sha256, tell

try:
    from torchvision.datasets import ImageNet
except RuntimeError:
    # Its compiled operators do not load beside another build of PyTorch; ImageNet needs none of
    # them, so its own module is imported without the package around it.
    root = Path(importlib.util.find_spec("torchvision").origin).parent
    for name in ("torchvision", "torchvision.datasets"):
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        module.get_image_backend = lambda: "PIL"
        sys.modules[name] = module
    from torchvision.datasets.imagenet import ImageNet

ROOT = VERSION / "imagefolder"


def names_by_wnid() -> dict[str, tuple[str, ...]]:
    """Return the names of each class as classes.tsv has them."""
    lines = (VERSION / "classes.tsv").read_text(encoding="utf-8").splitlines()
    header, *rows = (line.split("\t") for line in lines)
    classes = (dict(zip(header, row, strict=True)) for row in rows)
    return {row["wnid"]: tuple(row["names"].split(", ")) for row in classes}


def check_split(split: str, rows: list[dict], names: dict[str, tuple[str, ...]]) -> None:
    """Compare classes, files and targets of a split."""
    wnids = sorted(names)
    dataset = ImageNet(ROOT, split=split)
    same(f"wnids of {split}", dataset.wnids, wnids)
    same(f"classes of {split}", dataset.classes, [names[wnid] for wnid in wnids])
    same(f"length of {split}", len(dataset), len(rows))
    found = [
        (Path(path).name, label, sha256(Path(path).read_bytes())) for path, label in dataset.samples
    ]
    expected = [(name_of(row), wnids.index(row["wnid"]), row["sha256"]) for row in rows]
    same_items(f"files of {split}", found, expected)
    by_name = {name_of(row): row["label"] for row in rows}
    for (path, _), target in zip(dataset.samples, dataset.targets, strict=True):
        same(f"target of {Path(path).name}", target, by_name[Path(path).name])
    sizes = sorted((image.size, label) for image, label in dataset)
    same("sizes", sizes, sorted(((row["width"], row["height"]), row["label"]) for row in rows))


def main() -> None:
    """Open both splits, and each meta.bin by PyTorch alone."""
    rows = rows_of("imagefolder")
    splits = {split: [row for row in rows if row["split"] == split] for split in ("train", "val")}
    names = names_by_wnid()
    val = [row["wnid"] for row in sorted(splits["val"], key=name_of)]
    for folder in (ROOT, ROOT / "train", ROOT / "val"):
        classes, val_wnids = torch.load(folder / "meta.bin", weights_only=True)
        same(f"classes of {folder.name}/meta.bin", classes, names)
        same(f"validation classes of {folder.name}/meta.bin", val_wnids, val)
    for split, some in splits.items():
        check_split(split, some, names)
    counts = " and ".join(f"{len(some)} {split}" for split, some in splits.items())
    tell(f"{counts} images of {len(names)} classes, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
