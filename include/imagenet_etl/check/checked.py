"""What earlier goes of a check have found whole, for a check that is done in slices."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence

from imagenet_etl.check.tree import Tree
from imagenet_etl.download.slices import Slice
from imagenet_etl.errors import StillPending
from imagenet_etl.files import digest_of
from imagenet_etl.manifest import ManifestFile
from imagenet_etl.storage import Storage

CHECKED_SCHEMA = 1
SAVE_EVERY_S = 60.0
"""A killed go loses at most as much work."""


class Checked:
    """Notes which files were found whole, and the size and tag they had; threads may share it.

    One run's notes are of no use to another: a disk that was good a month ago is read again.

    Args:
        storage: Where the notes are kept.
        key: Their key.
        run: The run id.
        slice_s: For how long one go may begin with more files.
    """

    def __init__(self, storage: Storage, key: str, run: str, slice_s: float) -> None:
        self._storage, self._key, self._run = storage, key, run
        self._slice = Slice(slice_s)
        self._guard = threading.Lock()
        self._notes = self._load()
        self._added = 0
        self._unsaved = 0
        self._saved = time.monotonic()

    def _load(self) -> dict[str, str]:
        data = self._storage.read(self._key)
        fields = {} if data is None else json.loads(data)
        if (fields.get("schema_version"), fields.get("run")) != (CHECKED_SCHEMA, self._run):
            return {}
        notes: dict[str, str] = fields["files"]
        return notes

    def state_of(self, tree: Tree, files: Sequence[ManifestFile]) -> str:
        """Return a digest of what files should be, and of the size and tag that they have now.

        In a bucket that takes a request a file, so of files that are noted together nothing is
        asked: what this run has found whole is believed, or every go would ask for millions.
        """
        if len(files) > 1 and not tree.storage.on_disk:
            return digest_of([[file.name, file.size, file.sha256] for file in files])
        stats = [tree.storage.stat(tree.key(file.name)) for file in files]
        return digest_of(
            [
                [file.name, file.size, file.sha256, stat.size if stat else -1, stat and stat.tag]
                for file, stat in zip(files, stats, strict=True)
            ]
        )

    def holds(self, name: str, state: str) -> bool:
        """Return whether an earlier go has found the files of this name whole, in this state."""
        return self._notes.get(name) == state

    def add(self, name: str, state: str) -> None:
        """Note that files were found whole; now and then the notes are saved."""
        with self._guard:
            self._notes[name] = state
            self._added += 1
            self._unsaved += 1
            if time.monotonic() - self._saved >= SAVE_EVERY_S:
                self._save()

    def save(self) -> None:
        """Save what was added since the last time."""
        with self._guard:
            if self._unsaved:
                self._save()

    def _save(self) -> None:
        fields = {"schema_version": CHECKED_SCHEMA, "run": self._run, "files": self._notes}
        self._storage.put(self._key, json.dumps(fields).encode())
        self._unsaved, self._saved = 0, time.monotonic()

    def over(self) -> StillPending | None:
        """Return what ends this go once its slice is over.

        Every go checks something that no earlier one has, or none would ever be the last.
        """
        if not (self._slice.is_over and self._added):
            return None
        return StillPending(f"the slice is over, and {len(self._notes):,} files are checked")
