"""Disks of any size, in the place of this machine's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imagenet_etl.build import Build
from imagenet_etl.preflight.disks import Disk

TB = 10**12
WHOLE = {"fall11_whole.tar": "https://mirror.example.org/fall11_whole.tar"}
"""A source of fall11, which its publisher no longer gives."""

MakeBuild = Callable[..., Build]


@dataclass
class Room:
    """What is free below a data folder; ``apart`` gives some of its folders a disk of their own."""

    free: int = 100 * TB
    files: int | None = None
    apart: dict[str, int] = field(default_factory=dict)

    def disk_of(self, path: Path) -> Disk:
        if path.name in self.apart:
            device = 2 + sorted(self.apart).index(path.name)
            return Disk(device, f"/mnt/{path.name}", self.apart[path.name], self.files)
        return Disk(1, "/data", self.free, self.files)
