"""A process's own folder for unfinished files, and what dead processes left of theirs.

It is also the process's fence. Whatever it publishes is linked or renamed from here, which fails
once the folder is gone: whoever takes over from a process that may still be alive revokes it.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from imagenet_etl import files
from imagenet_etl.errors import LeaseLost
from imagenet_etl.processes import ProcessId, this_process

_SILENT_FOR_S = 3600.0
_OWNER = "owner.json"
_REVOKED = ".revoked-"
_NO_NAME = ("", ".", "..")


class Staging:
    """One process's staging folder below ``root``; made when first asked for.

    Args:
        root: The folder that holds the staging folders of all processes.
        prefix: What their names begin with, where ``root`` holds other things too.
        within: A folder in another process's staging, for one that works for it; that process
            removes it.
        is_fence: Whether a folder that is gone was revoked. Else it is made anew: a cleaner of
            temporary folders has removed it.
    """

    def __init__(
        self, root: Path, prefix: str = "", within: Path | None = None, *, is_fence: bool = True
    ) -> None:
        self._root = root
        self._prefix = prefix
        self._within = within
        self._is_fence = is_fence
        self._folder: Path | None = None
        self._guard = threading.Lock()

    def folder(self) -> Path:
        """Return this process's folder.

        Raises:
            LeaseLost: It was revoked.
        """
        with self._guard:
            if self._within is not None:
                if not self._is_fence:
                    self._within.mkdir(parents=True, exist_ok=True)
            elif self._folder is None or not (self._is_fence or self._folder.exists()):
                self._folder = self._make()
            self.check()
            folder = self._within or self._folder
            assert folder is not None
            return folder

    def check(self) -> None:
        """Make sure that the folder, if there was need for one, was not revoked.

        Raises:
            LeaseLost: It was.
        """
        folder = self._within or self._folder
        if folder is None or not self._is_fence:
            return
        # A folder of the same name may come back, as a parent of what is written below it.
        own = self._within.parent if self._within else folder
        if not (own / _OWNER).exists():
            raise LeaseLost(
                f"{folder}, where this process has its unfinished files, is gone",
                remedy="Who takes a run over removes it, and goes on; this process stops",
            )

    def _make(self) -> Path:
        me = this_process()
        files.make_folders(self._root)
        folder = self._root / f"{self._prefix}{me.host}-{me.pid}-{uuid.uuid4().hex[:8]}"
        with files.typed_os_errors(str(folder)):
            folder.mkdir(mode=0o700)  # the root may be everybody's temporary folder
            try:
                (folder / _OWNER).write_text(json.dumps(me.to_dict()))
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

    def revoke(self, names: Iterable[str]) -> None:
        """Take folders away from their processes, whose writes fail from then on."""
        others = [name for name in names if self._is_anothers(name)]
        for name in others:  # at once, whatever lies in it
            with suppress(FileNotFoundError):  # closed, swept, or revoked
                (self._root / name).rename(self._root / f"{name}{_REVOKED}{uuid.uuid4().hex[:8]}")
        # NFS goes on to find a renamed folder by its handle, but not a removed one; and who renamed
        # it before this process may have died.
        for name in others:
            for folder in self._root.glob(f"{glob.escape(name)}{_REVOKED}*"):
                with suppress(OSError):  # of another user: then its name alone is gone
                    (folder / _OWNER).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

    def _is_anothers(self, name: str) -> bool:
        is_mine = self._folder is not None and self._folder.name == name
        return not is_mine and "/" not in name and name not in _NO_NAME

    def clear(self) -> None:
        """Remove what is left in the folder, which stays."""
        with self._guard, suppress(FileNotFoundError):  # it was revoked
            for path in self._folder.iterdir() if self._folder else ():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != _OWNER:
                    with suppress(OSError):  # removed by the heartbeat's thread, or swept later
                        path.unlink()

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
        owner = ProcessId(**json.loads((folder / _OWNER).read_text()))
    except (OSError, ValueError, TypeError):
        return is_silent  # just being made, or its owner died before it had said who it is
    # An owner that this machine can see may be suspended for hours and still come back.
    return owner.is_known_dead() if owner.is_visible() else is_silent
