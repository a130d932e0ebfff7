"""A process's own folder for unfinished files, and what dead processes left of theirs."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from pathlib import Path

from imagenet_etl import files
from imagenet_etl.processes import ProcessId, this_process

_SILENT_FOR_S = 3600.0


class Staging:
    """One process's staging folder below ``root``; made when first asked for.

    Args:
        root: The folder that holds the staging folders of all processes.
        prefix: What their names begin with, where ``root`` holds other things too.
    """

    def __init__(self, root: Path, prefix: str = "") -> None:
        self._root = root
        self._prefix = prefix
        self._folder: Path | None = None
        self._guard = threading.Lock()

    def folder(self) -> Path:
        """Return this process's folder."""
        with self._guard:
            if self._folder is None or not self._folder.exists():
                self._folder = self._make()
            return self._folder

    def _make(self) -> Path:
        me = this_process()
        files.make_folders(self._root)
        folder = self._root / f"{self._prefix}{me.host}-{me.pid}-{uuid.uuid4().hex[:8]}"
        with files.typed_os_errors(str(folder)):
            folder.mkdir(mode=0o700)  # the root may be everybody's temporary folder
            try:
                (folder / "owner.json").write_text(json.dumps(me.to_dict()))
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return folder

    def keep_alive(self) -> None:
        """Touch the folder, which is how other hosts judge its owner."""
        if self._folder is not None:
            os.utime(self._folder)

    def sweep(self) -> int:
        """Remove the folders whose owner is dead, or silent for an hour where that is unseen."""
        swept = 0
        for folder in self._root.glob(f"{self._prefix}*"):
            if folder != self._folder and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        return swept

    def close(self) -> None:
        """Remove the folder with what is left in it."""
        with self._guard:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


def _is_abandoned(folder: Path) -> bool:
    try:
        state = folder.stat()
    except OSError:
        return False  # just being removed
    if state.st_uid != os.getuid() and os.getuid() != 0:
        return False
    is_silent = time.time() - state.st_mtime > _SILENT_FOR_S
    try:
        owner = ProcessId(**json.loads((folder / "owner.json").read_text()))
    except (OSError, ValueError, TypeError):
        return is_silent  # just being made, or its owner died before it had said who it is
    # An owner that this machine can see may be suspended for hours and still come back.
    return owner.is_known_dead() if owner.is_visible() else is_silent
