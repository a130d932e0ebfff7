"""Bring the files of a version to a folder that does not bear its name yet."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from imagenet_etl.aws.s3_restore_file import Restorer
from imagenet_etl.aws.s3_restore_source import BackedUpVersion, loose_files
from imagenet_etl.build import Build
from imagenet_etl.check.loose import check_nothing_else, total_bytes
from imagenet_etl.check.tree import Tree
from imagenet_etl.manifest import MANIFEST, ManifestFile
from imagenet_etl.progress import Meter, metered
from imagenet_etl.records.formats import loose_table


@dataclass(frozen=True)
class Brought:
    """How many files there are, the bytes that were fetched, and those that were there."""

    files: int
    fetched_bytes: int
    kept_bytes: int


class Bringing:
    """One restore: which files there are, and which of them have come."""

    def __init__(
        self, build: Build, backed_up: BackedUpVersion, restorer: Restorer, base: str
    ) -> None:
        self._build = build
        self._backed_up = backed_up
        self._restorer = restorer
        self._tree = Tree(build.storage, base)
        self._fetched = self._kept = self._files = 0

    def complete(self) -> Brought:
        """Bring everything, the manifest last, and see that nothing else is there."""
        build, manifest = self._build, self._backed_up.manifest
        build.storage.delete(self._tree.key(MANIFEST))  # of a restore that died at the very end
        size = sum(file.size for file in manifest.files)
        self._check_space(size, len(manifest.files))
        with metered("restore", size, "B") as meter:
            tables = {loose_table(name) for name in self._backed_up.loose}
            # What the tables say of the loose files must be known first.
            self._bring((f for f in manifest.files if f.name in tables), meter)
            loose = sum(total_bytes(self._tree, name) for name in self._backed_up.loose)
            meter.total += loose
            if loose:
                self._check_space(size + loose, manifest.counts["packed"])
            self._bring((f for f in manifest.files if f.name not in tables), meter)
            self._bring(loose_files(self._tree, self._backed_up.loose), meter)
        check_nothing_else(self._tree, manifest, self._backed_up.loose)
        build.storage.put(self._tree.key(MANIFEST), self._backed_up.encoded)
        return Brought(self._files + 1, self._fetched, self._kept)

    def _check_space(self, size: int, files: int) -> None:
        """Refuse early, counting what an earlier restore has brought as room."""
        there = sum(stat.size for _, stat in self._build.storage.list(self._tree.base))
        self._build.storage.check_space(max(0, size - there), files)

    def _bring(self, files: Iterable[ManifestFile], meter: Meter) -> None:
        """Bring files: small ones side by side, a large one in several ranges at once."""
        above = self._restorer.in_ranges_above
        with ThreadPoolExecutor(self._restorer.connections) as executor:
            pending: set[Future[tuple[int, int]]] = set()
            try:
                for file in files:
                    self._files += 1
                    if file.size > above:
                        self._count(self._one(file), meter)
                        continue
                    if len(pending) > 2 * self._restorer.connections:
                        done, pending = wait(pending, return_when=FIRST_COMPLETED)
                        for future in done:
                            self._count(future.result(), meter)
                    pending.add(executor.submit(partial(self._one, file)))
                for future in pending:
                    self._count(future.result(), meter)
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise

    def _count(self, sizes: tuple[int, int], meter: Meter) -> None:
        fetched, kept = sizes
        self._fetched += fetched
        self._kept += kept
        meter.add(fetched + kept, fetched)

    def _one(self, file: ManifestFile) -> tuple[int, int]:
        """Bring one file unless it is there and right; return what was fetched and kept."""
        storage, key = self._build.storage, self._tree.key(file.name)
        stat = storage.stat(key)
        if stat is not None and storage.digest(key) == (file.size, file.sha256):
            return 0, file.size
        self._build.check_owner()
        path = storage.local_path(key)
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)  # flushed with all the rest at the end
        return self._restorer.restore(file, path), 0
