"""ImageFolder: ``<split>/<wnid>/<file>``, as torchvision's ``ImageFolder`` expects it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

from imagenet_etl.records.base import Placed, Record, Written


class ImageFolderWriter:
    """Writes loose files into class folders below a folder, which it makes and owns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[Written] = []
        self._made: set[str] = set()
        self._committed = False

    def __enter__(self) -> Self:
        # Discarding removes the whole folder, so nothing else may lie in it.
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._committed:
            shutil.rmtree(self._folder)

    def write(self, record: Record) -> Placed:
        """Write one image file."""
        if record.wnid not in self._made:
            (self._folder / record.wnid).mkdir(exist_ok=True)
            self._made.add(record.wnid)
        name = record.path
        if record.suffix == ".png":
            name = f"{record.wnid}/{record.stem}.png"
        path = self._folder / name
        try:
            with path.open("xb") as file:
                file.write(record.data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        self._written.append(Written(path, len(record.data), record.sha256))
        return Placed(name, 0)

    def commit(self) -> list[Written]:
        """Return the files."""
        self._committed = True
        return self._written
